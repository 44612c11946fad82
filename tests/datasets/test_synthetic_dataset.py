"""Clips that are rendered when they are asked for."""

import pickle
from typing import Any

import numpy as np
import pytest

from projects.sam2.datasets import ClipSyntheticDataset
from projects.sam2.structures import VideoSource


@pytest.fixture(scope='module')
def dataset() -> ClipSyntheticDataset:
    """Clips, as they come."""
    return ClipSyntheticDataset(num_clips=6)


def test_same_clip_is_rendered_again_alike(dataset: ClipSyntheticDataset) -> None:
    first, again = (dataset.open_video('made_00002') for _ in range(2))
    assert np.array_equal(first.read_frame(5), again.read_frame(5))
    more = ClipSyntheticDataset(num_clips=9).open_video('made_00002')
    assert np.array_equal(first.read_frame(5), more.read_frame(5))
    other = dataset.open_video('made_00000')
    assert other.read_frame(5).shape == first.read_frame(5).shape
    assert not np.array_equal(first.read_frame(5), other.read_frame(5))


def test_rendered_clip_is_a_source_like_any_other(
    dataset: ClipSyntheticDataset,
) -> None:
    source = dataset.open_video(dataset.list_videos()[0])
    assert isinstance(source, VideoSource)
    assert source.annotated_frames() == tuple(range(8))
    assert source.frame_name(3) == '00003'
    for frame in range(source.num_frames):
        truth = source.read_masks(frame)
        assert truth.masks.shape[1:] == source.read_frame(frame).shape[:2]
        assert truth.masks.any(axis=(1, 2)).all()
        assert truth.masks.sum(axis=0).max() == 1


def test_objects_of_the_first_frame_keep_their_ids(
    dataset: ClipSyntheticDataset,
) -> None:
    for name in dataset.list_videos():
        source = dataset.open_video(name)
        first = set(source.read_masks(0).object_ids)
        assert first == set(range(1, source.clip.num_objects + 1))
        for frame in source.annotated_frames():
            assert set(source.read_masks(frame).object_ids) <= first


def test_workers_get_plans_rather_than_pictures(dataset: ClipSyntheticDataset) -> None:
    assert len(pickle.dumps(dataset)) < 20_000


def test_clips_pass_through_a_training_pipeline() -> None:
    pipeline: list[dict[str, Any]] = [
        {'type': 'ClipSampleFrames', 'num_frames': 4, 'max_num_objects': 2},
        {'type': 'ClipLoadFrames'},
        {'type': 'ClipLoadMasklets'},
        {'type': 'ClipResize', 'size': (64, 64)},
        {'type': 'ClipWarp'},
        {'type': 'ClipPack'},
    ]
    mixed = ClipSyntheticDataset(num_clips=4, pipeline=pipeline)
    sample = mixed[1]
    assert tuple(sample.frames.shape) == (4, 3, 64, 64)
    assert sample.masklets[0].flatten(1).any(dim=1).all()
