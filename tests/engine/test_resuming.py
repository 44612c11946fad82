"""A run goes on from the newest checkpoint that is whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine_toys import write_checkpoint
from projects.sam2.engine.resume import find_resume_point


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """Of a run with three checkpoints and the best weights."""
    for iteration in (2, 10, 6):
        # Written in another order than they were made: dates tell nothing.
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


def change_one_byte_that_says_how_to_read(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # A dict is to be filled from a stack where nothing was put yet.
    content[content.index(b'\x80\x02}')] = ord('u')
    path.write_bytes(content)


def test_newest_is_what_has_most_iterations(work_dir: Path) -> None:
    point = find_resume_point(work_dir)
    assert point.path == work_dir / 'iter_10.pth'
    assert point.problems == ()


def test_pointer_that_was_not_written_any_more_hides_nothing(work_dir: Path) -> None:
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
        (change_one_byte_that_says_how_to_read, 'is no checkpoint, or damaged: '),
        (remove, 'last_checkpoint names'),
    ],
)
def test_damaged_newest_is_passed_over_and_named(
    work_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(work_dir / 'iter_10.pth')
    point = find_resume_point(work_dir)
    assert point.path == work_dir / 'iter_6.pth'
    (problem,) = point.problems
    assert message in problem


def test_checkpoints_beside_the_one_that_is_pointed_to_count(
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
def test_checkpoint_that_no_run_can_have_written_is_passed_over(
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
def test_nothing_whole_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / 'last_checkpoint').write_text(text)
    empty(write_checkpoint(tmp_path, 4))
    point = find_resume_point(tmp_path)
    assert point.path is None
    pointer, damaged = point.problems
    assert 'last_checkpoint names' in pointer
    assert 'iter_4.pth is damaged: the file is empty' in damaged


def test_new_run_has_no_problem(tmp_path: Path) -> None:
    point = find_resume_point(tmp_path / 'not_there_yet')
    assert (point.path, point.problems) == (None, ())
