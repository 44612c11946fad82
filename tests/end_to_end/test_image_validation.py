"""Images, clips of one frame, are validated with box prompts and get a score."""

import math
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
from tool_modules import ROOT

BASE = ROOT / 'configs' / '_base_'
WRITERS: dict[str, Callable[[Path], None]] = {
    'coco': lambda root: write_coco(root, 'val2017'),
    'label_images': write_label_images,
    'labelme': write_labelme,
    'sa1b': write_sa1b,
}
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
def test_image_gets_a_score_from_box_prompts(dataset: str, tmp_path: Path) -> None:
    metrics, recorder = metrics_of(validation(dataset, tmp_path, OWN_MODEL))
    assert all(math.isfinite(metrics[key]) for key in ('J&F', 'J', 'F'))
    # The weights are random: the truth did not come through the prompt.
    assert 0 <= metrics['J&F'] < 95
    (result,) = recorder.results
    assert [scored.frames for scored in result.scores.objects] == [(0,), (0,)]


def test_protocol_of_davis_scores_no_image(tmp_path: Path) -> None:
    metrics, _ = metrics_of(validation('labelme', tmp_path, ''))
    assert math.isnan(metrics['J&F'])
