"""A run that is killed in mid-epoch and resumed ends with the very same weights."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from engine_processes import run_processes
from engine_toys import differences, load, toy_config, train

EMA = {'type': 'EMAHook', 'momentum': 0.3}
SAME = (
    'state_dict',
    'ema_state_dict',
    'optimizer',
    'param_schedulers',
    'random_states',
)
MID_EPOCH = {
    'default_hooks__checkpoint__by_epoch': False,
    'default_hooks__checkpoint__interval': 2,
    'default_hooks__checkpoint__save_best': None,
    'default_hooks__checkpoint__rule': None,
}


def config(work_dir: Path, *hooks: dict[str, Any], **changes: object) -> Config:
    """A run with a moving average and checkpoints in mid-epoch."""
    return toy_config(work_dir, custom_hooks=[EMA, *hooks], **MID_EPOCH, **changes)


def kill_after(iteration: int) -> dict[str, Any]:
    """A hook that sends SIGKILL."""
    return {'type': 'engine_toys.ToyKillHook', 'iteration': iteration}


@pytest.mark.parametrize(
    ('world_size', 'num_workers', 'resumed_from', 'last'),
    [(1, 0, 10, 12), (2, 1, 4, 6)],
    ids=['one process', 'two processes with loader workers'],
)
def test_killed_and_resumed_run_ends_like_an_uninterrupted_one(
    tmp_path: Path,
    world_size: int,
    num_workers: int,
    resumed_from: int,
    last: int,
) -> None:
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    workers = {'train_dataloader__num_workers': num_workers}
    assert run_processes(config(whole, **workers), world_size) == [0] * world_size

    cfg = config(killed, kill_after(resumed_from + 1), **workers)
    assert run_processes(cfg, world_size) == [-signal.SIGKILL] * world_size
    pointer = Path((killed / 'last_checkpoint').read_text())
    assert load(pointer)['meta']['iter'] == resumed_from
    assert resumed_from % (last // 2), 'the checkpoint is not of mid-epoch'

    cfg = config(killed, resume=True, **workers)
    assert run_processes(cfg, world_size) == [0] * world_size
    expected, found = (
        load(whole / f'iter_{last}.pth'),
        load(killed / f'iter_{last}.pth'),
    )
    assert {key: differences(expected[key], found[key]) for key in SAME} == {
        key: [] for key in SAME
    }
    assert len(found['random_states']) == world_size


def test_two_processes_have_the_gradients_of_one_with_twice_the_batch(
    tmp_path: Path,
) -> None:
    def recorded(name: str, batch_size: int) -> Config:
        wrapper = {
            'type': 'engine_toys.ToyRecordingWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.01},
            'path': str(tmp_path / f'{name}.pth'),
        }
        return toy_config(
            tmp_path / name,
            model__dropout=0.0,
            train_dataloader__batch_size=batch_size,
            optim_wrapper={'_delete_': True, **wrapper},
        )

    train(recorded('one', 2))
    assert run_processes(recorded('two', 1), 2) == [0, 0]
    alone, together = load(tmp_path / 'one.pth'), load(tmp_path / 'two.pth')
    assert len(alone) == len(together) == 12
    for one, two in zip(alone, together, strict=True):
        assert [grad is None for grad in one] == [grad is None for grad in two]
        pairs = [(a, b) for a, b in zip(one, two, strict=True) if a is not None]
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in pairs)
    # A parameter that is not used has no gradient, rather than a zero.
    missing = {sum(grad is None for grad in one) for one in alone}
    assert missing == {1, 2}
