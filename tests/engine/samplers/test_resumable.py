"""Epochs that begin at any batch, once."""

from collections.abc import Iterator

import pytest

from projects.sam2.engine.samplers import ResumableBatchSampler
from projects.sam2.structures.clip import EpochIndex


class Counting(ResumableBatchSampler):
    """Five batches of one clip."""

    def __len__(self) -> int:
        """Five."""
        return 5

    @property
    def clips_per_step(self) -> list[int]:
        """One."""
        return [1]

    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Batches from one on."""
        return ([EpochIndex(index, epoch=0)] for index in range(first, 5))


def test_only_the_next_epoch_begins_later() -> None:
    batches = Counting()
    batches.start_at(3)
    assert list(batches) == [[3], [4]]
    assert list(batches) == [[0], [1], [2], [3], [4]]


def test_an_iterator_that_is_not_used_leaves_the_start() -> None:
    batches = Counting()
    batches.start_at(4)
    iter(batches)
    assert list(batches) == [[4]]


def test_whole_epoch_may_be_skipped_but_no_more() -> None:
    batches = Counting()
    batches.start_at(5)
    assert list(batches) == []
    with pytest.raises(ValueError, match='batch 6 of an epoch of 5'):
        batches.start_at(6)
