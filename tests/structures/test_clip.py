"""Clips between loader and model."""

import pickle

import pytest
import torch

from projects.sam2.structures import ClipBatch, ClipSample, ClipTargets


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
    copied = pickle.loads(pickle.dumps(sample))  # noqa: S301  written here
    assert isinstance(copied, ClipSample)
    assert torch.equal(copied.masklets, sample.masklets)
    assert (copied.video_name, copied.frame_indices) == ('a', (4, 7))


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
