"""SAM 2, killed in mid-epoch and resumed, ends with the very same weights."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from end_to_end_runs import (
    ONLY_TRAINING,
    PARTS_OF_CHECKPOINT,
    run_tool,
    small_config,
)
from engine_toys import differences, load

CLIPS = 6
EPOCHS = 2
EMA = {'type': 'EMAHook', 'momentum': 0.3}
OPTIONS: dict[str, Any] = {
    **ONLY_TRAINING,
    'train_cfg.max_epochs': EPOCHS,
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 2,
    # Random numbers that only a restored state repeats.
    'model.image_encoder.backbone.drop_path_rate': 0.2,
    'model.tracker.memory_attention.dropout': 0.1,
    'model.prompt_simulator.point_probability': 0.5,
}


@pytest.mark.parametrize('world_size', [1, 2])
def test_killed_and_resumed_run_ends_like_an_uninterrupted_one(
    clips: Path, tmp_path: Path, world_size: int
) -> None:
    batch_size = 2 // world_size
    per_epoch = CLIPS // 2

    def config(name: str, *hooks: dict[str, Any]) -> Config:
        return small_config(
            clips,
            tmp_path / name,
            OPTIONS,
            {
                'train_dataloader.batch_size': batch_size,
                'custom_hooks': [EMA, *hooks],
            },
        )

    def run(cfg: Config) -> list[int | None]:
        # The same command line starts and restarts.
        return run_tool('train', cfg, '--resume', world_size=world_size)

    assert run(config('whole')) == [0] * world_size
    kill = {'type': 'engine_toys.ToyKillHook', 'iteration': per_epoch + 2}
    assert run(config('killed', kill)) == [-signal.SIGKILL] * world_size
    pointer = Path((tmp_path / 'killed' / 'last_checkpoint').read_text())
    position = load(pointer)['meta']
    assert (position['epoch'], position['iter']) == (1, per_epoch + 1)

    assert run(config('killed')) == [0] * world_size
    last = f'iter_{EPOCHS * per_epoch}.pth'
    expected, found = load(tmp_path / 'whole' / last), load(tmp_path / 'killed' / last)
    assert {
        part: differences(expected[part], found[part]) for part in PARTS_OF_CHECKPOINT
    } == {part: [] for part in PARTS_OF_CHECKPOINT}
    assert len(found['random_states']) == world_size
    # It is not that nothing happened after the kill.
    went_on = differences(load(pointer)['state_dict'], found['state_dict'])
    assert len(went_on) > 0.9 * len(found['state_dict'])
    assert all(tensor.isfinite().all() for tensor in tensors(found['state_dict']))


def tensors(weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Those with a fractional part."""
    return [tensor for tensor in weights.values() if tensor.is_floating_point()]
