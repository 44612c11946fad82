"""An epoch can begin at any batch, once."""

from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from projects.sam2.engine.samplers import ClipBatchSampler, ClipSampler


class Clips(Dataset[int]):
    """Remembers what was loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        """As many as do not divide into batches."""
        return 11

    def __getitem__(self, index: int) -> int:
        """The index itself."""
        self.loaded.append(int(index))
        return int(index)


def make(batch_size: int = 3) -> tuple[Clips, ClipBatchSampler]:
    clips = Clips()
    sampler = ClipSampler(dataset=clips, seed=0)
    return clips, ClipBatchSampler(sampler=sampler, batch_size=batch_size)


def test_batches_hold_the_samplers_clips_in_order() -> None:
    _, batches = make()
    given = list(batches)
    assert [len(batch) for batch in given] == [3, 3, 3, 2]
    assert len(batches) == 4
    assert [index for batch in given for index in batch] == list(batches.sampler)


@pytest.mark.parametrize('first', [0, 2, 4])
def test_epoch_begins_at_the_batch_asked_for_and_the_next_one_at_the_first(
    first: int,
) -> None:
    _, batches = make()
    whole = list(batches)
    batches.start_at(first)
    assert len(batches) == 4
    assert list(batches) == whole[first:]
    assert list(batches) == whole


def test_skipped_clips_are_never_loaded() -> None:
    clips, batches = make()
    whole = list(batches)
    batches.start_at(2)
    loader: DataLoader[int] = DataLoader(clips, batch_sampler=batches)
    assert len(list(loader)) == 2
    assert clips.loaded == [index for batch in whole[2:] for index in batch]


@pytest.mark.parametrize('num_workers', [0, 1])
def test_loader_begins_at_the_batch_asked_for(num_workers: int) -> None:
    clips, batches = make()
    whole = [list(map(int, batch)) for batch in batches]
    loader: DataLoader[Any] = DataLoader(
        clips,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=list,
    )
    batches.start_at(1)
    assert list(loader) == whole[1:]
    assert list(loader) == whole


@pytest.mark.parametrize('first', [-1, 5])
def test_start_outside_the_epoch_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match=f'batch {first} of an epoch of 4'):
        make()[1].start_at(first)


def test_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match='batch_size is 0'):
        make(batch_size=0)
