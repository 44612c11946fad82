"""Mixed images and videos with accumulation: killed, damaged, the same weights."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from end_to_end_runs import (
    ONLY_TRAINING,
    PARTS_OF_CHECKPOINT,
    log_text,
    run_tool,
    small_config,
)
from engine_toys import differences, load

# Fewer cores than workers are slow, not wrong.
pytestmark = pytest.mark.filterwarnings('ignore:This DataLoader will create')

# Six images in pairs and six videos one by one: nine batches, four and a half updates.
PER_EPOCH = 9
EPOCHS = 2
KILLED_AT = 7  # by then the checkpoint of the 6. iteration is there
OPTIONS: dict[str, Any] = {
    **ONLY_TRAINING,
    'train_cfg.max_epochs': EPOCHS,
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 3,
    'optim_wrapper.accumulative_counts': 2,
    'train_dataloader.num_workers': 3,
    'train_dataloader.persistent_workers': True,
    # Random numbers that only a restored state repeats.
    'model.image_encoder.backbone.drop_path_rate': 0.2,
    'model.tracker.memory_attention.dropout': 0.1,
    'model.prompt_simulator.point_probability': 0.5,
}


def mixed_config(clips: Path, work_dir: Path, *hooks: dict[str, Any]) -> Config:
    """A run whose batches are two images or one video."""
    cfg = small_config(clips, work_dir, OPTIONS)
    cfg.custom_hooks = list(hooks)
    loader = cfg.train_dataloader.to_dict()
    videos, images = loader['dataset'], cfg.train_dataloader.to_dict()['dataset']
    images['pipeline'][0].update(num_frames=1)
    loader['batch_sampler'] = {'type': 'ClipMixBatchSampler', 'batch_sizes': (2, 1)}
    loader['dataset'] = {'type': 'ConcatDataset', 'datasets': [images, videos]}
    cfg.train_dataloader = loader
    return cfg


def test_run_killed_within_an_accumulation_ends_like_an_uninterrupted_one(
    clips: Path, tmp_path: Path
) -> None:
    def run(name: str, *hooks: dict[str, Any]) -> list[int | None]:
        # The same command line starts and restarts.
        return run_tool(
            'train', mixed_config(clips, tmp_path / name, *hooks), '--resume'
        )

    assert run('whole') == [0]
    kill = {'type': 'engine_toys.ToyKillHook', 'iteration': KILLED_AT}
    assert run('killed', kill) == [-signal.SIGKILL]
    pointer = Path((tmp_path / 'killed' / 'last_checkpoint').read_text())
    before = load(pointer)
    assert (before['meta']['epoch'], before['meta']['iter']) == (0, 6)
    # The crash took a part of the file with it: the one before it must do.
    os.truncate(pointer, pointer.stat().st_size // 2)

    assert run('killed') == [0]
    log = log_text(pointer.parent)
    assert re.search(rf'{pointer} .* the end of its archive is missing', log)
    assert f'Resuming from {pointer.parent / "iter_4.pth"}' in log
    last = f'iter_{EPOCHS * PER_EPOCH}.pth'
    expected, found = load(tmp_path / 'whole' / last), load(tmp_path / 'killed' / last)
    parts = [part for part in PARTS_OF_CHECKPOINT if part in expected]
    assert {part: differences(expected[part], found[part]) for part in parts} == {
        part: [] for part in parts
    }
    for name, weights in expected['state_dict'].items():
        assert torch.equal(weights, found['state_dict'][name])
    # It is not that nothing happened after the kill.
    went_on = differences(before['state_dict'], found['state_dict'])
    assert len(went_on) > 0.9 * len(found['state_dict'])
