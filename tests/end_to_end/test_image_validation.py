"""Images, clips of one frame, are validated with boxes and clicks and get scores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from data_folders import (
    write_coco,
    write_label_images,
    write_labelme,
    write_sa1b,
)
from end_to_end_runs import IN_PROCESS, SMALLER, LossRecorder
from projects.sam2.engine.config import load_config
from projects.sam2.structures import PointLabel
from tool_modules import ROOT

BASE = ROOT / 'configs' / '_base_'
WRITERS: dict[str, Callable[[Path], None]] = {
    'coco': lambda root: write_coco(root, 'val2017'),
    'label_images': write_label_images,
    'labelme': write_labelme,
    'sa1b': write_sa1b,
}
ROUNDS = ('box', '1_click', '3_clicks', '5_clicks')
CLICKS = {PointLabel.POSITIVE, PointLabel.NEGATIVE}
OWN_MODEL = 'model = {{_base_.image_validation}}\n'
VALIDATION = {
    key: value
    for key, value in {**SMALLER, **IN_PROCESS}.items()
    if key.startswith(('model', 'env_cfg', 'val_', 'test_'))
}


def validation(dataset: str, folder: Path, model: str) -> Config:
    """Config of a small model on one image; it does not train.

    Args:
        dataset: Name of the dataset's config.
        folder: Empty; gets the image and the run.
        model: The line that sets the model's part, or nothing.

    Returns:
        The config.
    """
    root = folder / 'data'
    WRITERS[dataset](root)
    for name in ('val.txt', 'holdout.txt'):
        (root / name).write_text('ant\n')
    parts = ('models/sam2_1_mini', f'datasets/{dataset}', 'schedules/mini')
    bases = [str(BASE / f'{part}.py') for part in (*parts, 'default_runtime')]
    path = folder / 'config.py'
    path.write_text(f'_base_ = {bases}\n{model}')
    options = {
        **VALIDATION,
        'data_root': str(root),
        'work_dir': str(folder / 'run'),
        'experiment_name': folder.name,
        **dict.fromkeys(('train_dataloader', 'train_cfg', 'optim_wrapper')),
        **dict.fromkeys(('param_scheduler', 'default_hooks.checkpoint.save_best')),
        'default_hooks.checkpoint.rule': None,
    }
    return load_config(str(path), options)


def metrics_of(cfg: Config) -> tuple[dict[str, float], LossRecorder]:
    """Validate, and keep what was found on each image."""
    runner, recorder = Runner.from_cfg(cfg), LossRecorder()
    runner.register_hook(recorder)
    return runner.val(), recorder


@pytest.mark.parametrize('dataset', WRITERS)
def test_image_gets_a_score_for_each_kind_of_prompt(
    dataset: str, tmp_path: Path
) -> None:
    metrics, recorder = metrics_of(validation(dataset, tmp_path, OWN_MODEL))
    assert list(metrics) == [f'mIoU_{name}' for name in ROUNDS]
    # The weights are random: the truth did not come through the prompt.
    assert all(0 <= score < 95 for score in metrics.values())
    (result,) = recorder.results
    assert list(result.rounds) == list(ROUNDS)
    assert all(len(ious) == 2 for ious in result.rounds.values())
    (frame,) = result.masklets.frames
    clicks = [mark for mark in frame.marks if mark.label in CLICKS]
    assert len(clicks) == 2 * 5


def test_missing_image_validation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='ClipPromptIoUAccumulator'):
        metrics_of(validation('labelme', tmp_path, ''))
