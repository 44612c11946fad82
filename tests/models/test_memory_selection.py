"""Selections of several objects joined to one."""

import pytest
import torch

from projects.sam2.models.memory_bank import (
    MemorySelection,
    SelectedMemory,
    SelectedPointer,
    join_selections,
)


def _selection(
    label: float, ages: tuple[int, ...] = (0, 2, 1), offsets: tuple[int, ...] = (4, 1)
) -> MemorySelection:
    return MemorySelection(
        memories=tuple(
            SelectedMemory(spatial=torch.full((1, 2, 3, 3), label + age), age=age)
            for age in ages
        ),
        pointers=tuple(
            SelectedPointer(pointer=torch.full((1, 4), label), time_offset=offset)
            for offset in offsets
        ),
        pointer_horizon=16,
    )


def test_objects_stand_one_after_another() -> None:
    joined = join_selections([_selection(10), _selection(20), _selection(30)])
    assert [memory.age for memory in joined.memories] == [0, 2, 1]
    assert joined.memories[1].spatial[:, 0, 0, 0].tolist() == [12, 22, 32]
    assert joined.pointers[0].pointer[:, 0].tolist() == [10, 20, 30]
    assert joined.pointers[0].time_offset == 4
    assert joined.pointer_horizon == 16


def test_pointers_of_different_age_keep_it() -> None:
    joined = join_selections([_selection(1), _selection(2, offsets=(9, 1))])
    assert [p.time_offset for p in joined.pointers] == [(4, 9), 1]
    again = join_selections([joined, _selection(3, offsets=(7, 2))])
    assert [p.time_offset for p in again.pointers] == [(4, 9, 7), (1, 1, 2)]


def test_one_selection_stays_itself() -> None:
    one = _selection(1)
    assert join_selections([one]) is one


@pytest.mark.parametrize(
    'other',
    [
        _selection(1, ages=(0, 1)),
        _selection(1, ages=(0, 3, 1)),
        _selection(1, (0, 2, 1), (4,)),
    ],
)
def test_selections_of_two_shapes_are_not_joined(other: MemorySelection) -> None:
    with pytest.raises(ValueError, match='2 shapes cannot be joined'):
        join_selections([_selection(1), other])
