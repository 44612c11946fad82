"""Training clips, and the index that knows its epoch."""

import bisect
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from projects.sam2.structures import (
    ClipBatch,
    ClipSample,
    ClipTargets,
    EpochIndex,
    set_dataset_epoch,
)


@pytest.fixture
def sample() -> ClipSample:
    """A clip of two frames."""
    sample = ClipSample(
        metainfo={'video_name': 'a', 'seed': 3, 'frame_indices': (4, 7)}
    )
    sample.frames = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    sample.masklets = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    return sample


def test_every_tensor_moves_with_the_sample(sample: ClipSample) -> None:
    moved = sample.to('meta')
    assert {value.device.type for value in moved.values()} == {'meta'}
    assert moved.metainfo == sample.metainfo


def test_sample_survives_the_way_between_processes(sample: ClipSample) -> None:
    copy = pickle.loads(pickle.dumps(sample))  # noqa: S301  written here
    assert isinstance(copy, ClipSample)
    assert torch.equal(copy.masklets, sample.masklets)
    assert (copy.video_name, copy.frame_indices) == ('a', (4, 7))


def test_pinned_sample_keeps_type_and_meta_information(
    sample: ClipSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned_shapes = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned_shapes.append(tuple(tensor.shape))
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, 'pin_memory', pin)
    pinned = sample.pin_memory()
    assert isinstance(pinned, ClipSample)
    assert sorted(pinned_shapes) == [(2, 1, 8, 8), (2, 3, 8, 8)]
    assert pinned.seed == 3
    assert torch.equal(pinned.frames, sample.frames)


def test_frame_of_an_object_is_found_video_by_video() -> None:
    batch = ClipBatch(
        frames=torch.zeros(6, 3, 8, 8),
        num_frames=3,
        targets=ClipTargets(
            masks=torch.zeros(3, 3, 8, 8, dtype=torch.bool),
            void=None,
            annotated=torch.ones(3, 3, dtype=torch.bool),
        ),
        objects_per_clip=(1, 2),
        annotated_frames=frozenset(range(3)),
        seeds=(0, 1),
    )
    assert batch.frame_of_object(2).tolist() == [2, 5, 5]


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
    copy = pickle.loads(pickle.dumps(INDEX - 2))  # noqa: S301  written here
    assert (copy, copy.epoch, copy.seed, copy.position) == (5, 3, 11, 7)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [((4, 9), (9, 4)), (9, (9, 2)), (EpochIndex(9, epoch=5), (9, 5))],
)
def test_pairs_and_plain_ints_are_understood(
    given: int | tuple[int, int], expected: tuple[int, int]
) -> None:
    index = EpochIndex.of(given, epoch=2)
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
