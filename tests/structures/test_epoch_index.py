"""An index that survives the arithmetic of dataset wrappers."""

import bisect
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from projects.sam2.structures.clip import EpochIndex, set_dataset_epoch

INDEX = EpochIndex(7, epoch=3, seed=11)


@pytest.mark.parametrize(
    ('computed', 'value'),
    [(INDEX - 2, 5), (INDEX % 4, 3), (INDEX + 1, 8), (1 + INDEX, 8)],
)
def test_arithmetic_keeps_epoch_seed_and_position(
    computed: EpochIndex, value: int
) -> None:
    assert computed == value
    assert (computed.epoch, computed.seed, computed.position) == (3, 11, 7)


def test_it_indexes_lists_and_arrays_and_bisects_like_an_int() -> None:
    assert list(range(10))[INDEX] == 7
    assert np.arange(10)[INDEX] == 7
    assert bisect.bisect_right([2, 7, 9], INDEX) == 2


def test_pickling_keeps_all_fields() -> None:
    copied = pickle.loads(pickle.dumps(INDEX - 2))  # noqa: S301  made here
    assert (copied, copied.epoch, copied.seed, copied.position) == (5, 3, 11, 7)


@pytest.mark.parametrize(
    ('asked', 'expected'),
    [((4, 9), (9, 4)), (9, (9, 2)), (EpochIndex(9, epoch=5), (9, 5))],
)
def test_pairs_and_plain_ints_are_understood(
    asked: int | tuple[int, int], expected: tuple[int, int]
) -> None:
    index = EpochIndex.of(asked, epoch=2)
    assert (index, index.epoch) == expected
    assert index.position == 9


class Inner:
    """A dataset that remembers its epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Remember the epoch."""
        self.epoch = epoch


def test_epoch_reaches_datasets_through_all_wrappers() -> None:
    first, second, bare = Inner(), Inner(), object()
    repeated = SimpleNamespace(dataset=SimpleNamespace(dataset=second))
    set_dataset_epoch(SimpleNamespace(datasets=[first, repeated, bare]), 6)
    assert (first.epoch, second.epoch) == (6, 6)
