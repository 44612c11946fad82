"""The tool that draws training clips."""

from argparse import Namespace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from golden_models import tiny_config
from projects.sam2.visualization.drawing import NEGATIVE, POSITIVE
from tool_modules import load_tool

CLICK = (POSITIVE, NEGATIVE)

CONFIG = """
train_dataloader = dict(
    batch_size=2, num_workers=3, persistent_workers=True,
    sampler=dict(type='ClipSampler'), batch_sampler=dict(type='ClipBatchSampler'),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='ClipSyntheticDataset', num_clips=6, pipeline=[
        dict(type='ClipSampleFrames', num_frames=2, max_num_objects=2),
        dict(type='ClipLoadFrames'), dict(type='ClipLoadMasklets'),
        dict(type='ClipResize', size=(64, 64)), dict(type='ClipWarp'),
        dict(type='ClipPack')]))
model = dict(
    type='SAM2',
    data_preprocessor=dict(type='ClipDataPreprocessor', image_size=(64, 64)),
    prompt_simulator=dict(type='SAM2PromptSimulator', num_corrections=2))
randomness = dict(seed=5)
"""


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('analysis_tools/browse_clips')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / 'config.py'
    file.write_text(CONFIG)
    return file


def test_each_clip_has_its_file(tool: ModuleType, config: Path) -> None:
    out = config.parent / 'pictures'
    words = [str(config), '--out', str(out), '--batches', '2', '--epoch', '3']
    written = tool.main([*words, '--first', '1'])
    assert [path.name for path in written] == [
        '003_00001_0.png',
        '003_00001_1.png',
        '003_00002_0.png',
        '003_00002_1.png',
    ]
    picture = cv2.imread(str(written[0]))
    assert picture is not None
    assert picture.shape[1] > 2 * 260
    assert picture.std() > 20


def test_sheet_holds_all_clips(tool: ModuleType, config: Path) -> None:
    sheet = config.parent / 'sheet.png'
    words = [str(config), '--out', str(sheet), '--batches', '2', '--long-side', '100']
    assert tool.main(words) == [sheet]
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[0] > 4 * 100


def test_clips_are_those_of_training(tool: ModuleType, config: Path) -> None:
    cfg = Config.fromfile(config)
    loader = tool.training_loader(cfg)
    loader.batch_sampler.sampler.set_epoch(2)
    expected = list(loader)[1]
    simulator = tool.MODELS.build({'type': 'SAM2PromptSimulator'})
    preprocessor = tool.MODELS.build(cfg.model.data_preprocessor)
    plan = simulator.plan(2, step=7, seed=5)
    clips = list(tool.clips_of_batch(expected, plan, simulator, preprocessor))
    assert [clip.title for clip in clips] == [each.video_name for each in expected]
    for clip, sample in zip(clips, expected, strict=True):
        frames = sample.frames.permute(0, 2, 3, 1).numpy()
        assert np.abs(clip.frames.astype(int) - frames).max() <= 1
        assert np.array_equal(clip.masks, sample.masklets.numpy())
        assert len(clip.object_ids) == clip.masks.shape[1]
        for prompt in clip.prompts.values():
            part = prompt.mask if prompt.points is None else prompt.points.coords
            assert len(part) == len(clip.object_ids)


def pixels_of_clicks(path: Path) -> int:
    """Pixels in the colours of clicks."""
    picture = np.asarray(cv2.imread(str(path)))
    return sum(
        int((picture == np.array(color[::-1])).all(axis=2).sum()) for color in CLICK
    )


def test_correction_clicks_are_drawn_with_a_model(
    tool: ModuleType, config: Path
) -> None:
    model = tiny_config(data_preprocessor={'image_size': (64, 64)})
    model['prompt_simulator'] |= {'num_corrections': 2, 'point_probability': 1.0}
    config.write_text(f'{CONFIG}\nmodel = {model}\n')
    weights = config.parent / 'weights.pth'
    torch.save({'state_dict': MODELS.build(model).state_dict()}, weights)
    words = [str(config), '--batches', '1', '--out']
    without = tool.main([*words, str(config.parent / 'a.png')])[0]
    given = ['--checkpoint', str(weights)]
    with_clicks = tool.main([*words, str(config.parent / 'b.png'), *given])[0]
    assert pixels_of_clicks(with_clicks) > pixels_of_clicks(without) + 50


def test_plan_is_that_of_the_step_of_training(
    tool: ModuleType, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int, int]] = []
    simulator = tool.SAM2PromptSimulator
    whole = simulator.plan

    def record(self: object, num_frames: int, step: int, seed: int) -> object:
        calls.append((num_frames, step, seed))
        return whole(self, num_frames, step, seed)

    monkeypatch.setattr(simulator, 'plan', record)
    options = Namespace(epoch=3, first=1, batches=2, long_side=64, checkpoint=None)
    drawn = tool.draw_clips(Config.fromfile(config), options, with_frames=False)
    assert len(list(drawn)) == 4
    assert calls == [(2, 10, 5), (2, 11, 5)]  # an epoch has three batches


def test_loader_with_another_batch_sampler_is_refused(
    tool: ModuleType, config: Path
) -> None:
    cfg = Config.fromfile(config)
    cfg.train_dataloader.pop('batch_sampler')
    options = Namespace(epoch=0, first=0, batches=1, long_side=64, checkpoint=None)
    with pytest.raises(TypeError, match='BatchSampler; give it a ClipBatchSampler'):
        list(tool.draw_clips(cfg, options, with_frames=False))
