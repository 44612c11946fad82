"""A run resumes from the newest intact checkpoint and ends with the same weights."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from engine_processes import run_processes
from engine_toys import differences, load, toy_config, train, write_checkpoint
from projects.sam2.engine.resume import find_resume_point

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
    expected, result = (
        load(whole / f'iter_{last}.pth'),
        load(killed / f'iter_{last}.pth'),
    )
    assert {key: differences(expected[key], result[key]) for key in SAME} == {
        key: [] for key in SAME
    }
    assert len(result['random_states']) == world_size


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


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Work directory of a run with three checkpoints and the best weights."""
    for iteration in (2, 10, 6):
        # Not in order of iterations: dates do not matter.
        write_checkpoint(tmp_path, iteration)
    best = write_checkpoint(tmp_path, 99, optimizer=None)
    best.rename(tmp_path / 'best_JF_iter_99.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_10.pth'))
    return tmp_path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def write_text(path: Path) -> None:
    path.write_text('<html>503 Service Unavailable</html>')


def remove(path: Path) -> None:
    path.unlink()


def change_one_byte_of_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # 10.0 as float32, many times over.
    content[content.index(b'\x00\x00\x20\x41' * 8) + 1] ^= 1
    path.write_bytes(content)


def change_one_byte_of_the_pickle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # Fill a dict from an empty stack.
    content[content.index(b'\x80\x02}')] = ord('u')
    path.write_bytes(content)


def test_newest_checkpoint_has_the_most_iterations(work_dir: Path) -> None:
    point = find_resume_point(work_dir)
    assert point.path == work_dir / 'iter_10.pth'
    assert point.problems == ()


def test_outdated_pointer_is_ignored(work_dir: Path) -> None:
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_6.pth'))
    assert find_resume_point(work_dir).path == work_dir / 'iter_10.pth'
    (work_dir / 'last_checkpoint').unlink()
    assert find_resume_point(work_dir).path == work_dir / 'iter_10.pth'


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (truncate, 'is no checkpoint, or damaged: the end of its archive is missing'),
        (empty, 'iter_10.pth is damaged: the file is empty'),
        (write_text, 'iter_10.pth (36 bytes) is no checkpoint but a web page'),
        (change_one_byte_of_a_weight, 'has changed since it was written'),
        (change_one_byte_of_the_pickle, 'is no checkpoint, or damaged: '),
        (remove, 'last_checkpoint names'),
    ],
)
def test_damaged_checkpoint_is_skipped_and_named(
    work_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(work_dir / 'iter_10.pth')
    point = find_resume_point(work_dir)
    assert point.path == work_dir / 'iter_6.pth'
    (problem,) = point.problems
    assert message in problem


def test_checkpoints_of_the_folder_of_last_checkpoint_count(
    work_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp('run')
    (other / 'last_checkpoint').write_text(str(work_dir / 'iter_2.pth'))
    point = find_resume_point(other)
    assert point.path == work_dir / 'iter_10.pth'
    (notice,) = point.problems
    assert f'names {work_dir / "iter_2.pth"}, outside of the work directory' in notice


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'meta': None}, 'meta is NoneType'),
        ({'meta': [1]}, 'meta is list'),
        ({'meta': {'epoch': 0}}, 'iter=None'),
        ({'meta': {'iter': 10**30, 'epoch': 0}}, 'iter=1000000'),
        ({'meta': {'iter': float('inf'), 'epoch': 0}}, 'iter=inf'),
        ({'meta': {'iter': -1, 'epoch': 0}}, 'iter=-1'),
        ({'meta': {'iter': '99', 'epoch': 0}}, 'iter=99'),
        ({'meta': {'iter': 99, 'epoch': {}}}, 'epoch={}'),
        ({'meta': {'iter': 99, 'epoch': 0, 'seed': 'x'}}, 'seed=x'),
        ({'message_hub': None}, 'message_hub is NoneType'),
        ({'state_dict': 5}, 'state_dict is int'),
    ],
)
def test_checkpoint_with_impossible_content_is_skipped(
    work_dir: Path, changes: dict[str, object], message: str
) -> None:
    path = write_checkpoint(work_dir, 98)
    torch.save(torch.load(path) | changes, path)
    point = find_resume_point(work_dir)
    assert point.path == work_dir / 'iter_10.pth'
    (problem,) = point.problems
    assert problem.startswith(f'{path} is damaged: its ')
    assert message in problem


def test_pointer_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / 'last_checkpoint').open('wb') as file:
        file.truncate(1 << 40)  # sparse
    (problem,) = find_resume_point(tmp_path).problems
    assert 'which does not exist' in problem


@pytest.mark.parametrize('text', ['', '\0', 'nowhere.pth', '\xff'])
def test_no_intact_checkpoint_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / 'last_checkpoint').write_text(text)
    empty(write_checkpoint(tmp_path, 4))
    point = find_resume_point(tmp_path)
    assert point.path is None
    pointer, damaged = point.problems
    assert 'last_checkpoint names' in pointer
    assert 'iter_4.pth is damaged: the file is empty' in damaged


def test_new_run_has_no_problems(tmp_path: Path) -> None:
    point = find_resume_point(tmp_path / 'not_there_yet')
    assert (point.path, point.problems) == (None, ())
