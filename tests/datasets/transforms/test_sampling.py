"""Which frames and objects a clip gets."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipDataError,
    ClipSampleFrames,
    ClipSampleWhole,
    ClipState,
)
from projects.sam2.datasets.object_masks import ObjectIds, list_objects
from projects.sam2.datasets.transforms import sampling
from projects.sam2.structures import FrameMasks, VideoSource

Make = Callable[..., ClipState]
SIZE = (24, 32)


def shown(*ids: int) -> dict[int, NDArray[np.bool_]]:
    """Masks of some objects, all alike."""
    return {object_id: np.ones(SIZE, bool) for object_id in ids}


def draw(
    make: Make,
    sampler: ClipSampleFrames,
    annotated: Iterable[int] = range(10),
    num_draws: int = 200,
) -> set[tuple[int, ...]]:
    """Frames of many draws from a video of ten frames with one object."""
    masks = {index: shown(1) for index in annotated}
    states = (make(masks, num_frames=10, seed=seed) for seed in range(num_draws))
    return {sampler(state).frame_indices for state in states}


def test_every_start_is_drawn_and_frames_are_contiguous(make_state: Make) -> None:
    found = draw(make_state, ClipSampleFrames(num_frames=4, max_num_objects=1))
    assert found == {tuple(range(start, start + 4)) for start in range(7)}


def test_frames_without_masks_are_not_asked_what_they_show(
    make_state: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(source: VideoSource, index: int) -> tuple[ObjectIds, FrameMasks | None]:
        asked.append(index)
        return list_objects(source, index)

    monkeypatch.setattr(sampling, 'list_objects', note)
    sampler = ClipSampleFrames(num_frames=4, max_num_objects=1)
    assert draw(make_state, sampler, annotated=(3,), num_draws=20) == {(3, 4, 5, 6)}
    assert set(asked) == {3}


def test_clips_grow_with_the_epoch(make_state: Make) -> None:
    sampler = ClipSampleFrames(
        num_frames=2, max_num_objects=1, later_num_frames=((3, 4), (5, 6))
    )
    state = make_state({index: shown(1) for index in range(10)}, num_frames=10)
    lengths = [len(sampler(replace(state, epoch=e)).frame_indices) for e in range(7)]
    assert lengths == [2, 2, 2, 4, 4, 6, 6]


def test_gaps_widen_with_the_epoch(make_state: Make) -> None:
    sampler = ClipSampleFrames(
        num_frames=3, max_num_objects=1, later_frame_gaps=((2, (3,)), (4, (3, 4)))
    )
    masks = {index: shown(1) for index in range(10)}
    found: dict[int, set[int]] = {}
    for epoch in range(6):
        states = (make_state(masks, num_frames=10, seed=seed) for seed in range(30))
        clips = [sampler(replace(s, epoch=epoch)).frame_indices for s in states]
        found[epoch] = {frames[1] - frames[0] for frames in clips}
    assert found == {0: {1}, 1: {1}, 2: {3}, 3: {3}, 4: {3, 4}, 5: {3, 4}}


def test_empty_masks_show_no_object(make_state: Make) -> None:
    masks = shown(1, 2, 3)
    masks[2] = np.zeros(SIZE, bool)
    sampler = ClipSampleFrames(num_frames=1, max_num_objects=3)
    sampled = sampler(make_state({0: masks}, num_frames=1))
    assert sorted(sampled.object_ids) == [1, 3]
    with pytest.raises(ClipDataError, match='shows no object'):
        sampler(make_state({0: {2: masks[2]}}, num_frames=1))


def test_whole_videos_keep_frames_and_objects_in_order(make_state: Make) -> None:
    masks = {0: shown(7, 3), 2: shown(3, 9), 5: shown(1)}
    sampled = ClipSampleWhole()(make_state(masks))
    assert sampled.frame_indices == (0, 2, 5)
    assert sampled.object_ids == (7, 3)
    assert sampled.first_masks is not None
    sampled = ClipSampleWhole(num_frames=2, max_num_objects=1)(make_state(masks))
    assert (sampled.frame_indices, sampled.object_ids) == ((0, 2), (7,))


def test_whole_videos_keep_objects_with_empty_first_masks(make_state: Make) -> None:
    masks = {0: shown(7) | {3: np.zeros(SIZE, bool)}, 1: shown(7, 3)}
    sampled = ClipSampleWhole()(make_state(masks))
    assert (sampled.object_ids, sampled.hidden_ids) == ((7, 3), (3,))


@pytest.mark.parametrize('masks', [{}, {0: {}, 1: shown(1)}])
def test_whole_video_must_begin_with_an_object(
    make_state: Make, masks: dict[int, dict[int, NDArray[np.bool_]]]
) -> None:
    with pytest.raises(ClipDataError, match='no object on its first annotated frame'):
        ClipSampleWhole()(make_state(masks))


@pytest.mark.parametrize('name', ['num_frames', 'max_num_objects'])
def test_limits_of_whole_videos_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name}=0'):
        ClipSampleWhole(**{name: 0})


def test_reversed_clips_run_backwards(make_state: Make) -> None:
    sampler = ClipSampleFrames(num_frames=3, max_num_objects=1, reverse_probability=0.5)
    found = draw(make_state, sampler, num_draws=300)
    forward = {(start, start + 1, start + 2) for start in range(8)}
    assert found == forward | {frames[::-1] for frames in forward}


def test_gaps_that_fit_are_drawn(make_state: Make) -> None:
    sampler = ClipSampleFrames(num_frames=4, max_num_objects=1, frame_gaps=(1, 3, 4))
    found = draw(make_state, sampler)
    assert {frames[1] - frames[0] for frames in found} == {1, 3}  # 4 needs 13 frames
    assert (0, 3, 6, 9) in found


def test_sparse_clip_takes_annotated_frames(make_state: Make) -> None:
    found = draw(
        make_state,
        ClipSampleFrames(num_frames=3, max_num_objects=1),
        annotated=(0, 2, 5, 9),
    )
    assert found == {(0, 2, 5), (2, 5, 9)}


def test_clip_with_too_few_masks_begins_at_one(make_state: Make) -> None:
    found = draw(
        make_state,
        ClipSampleFrames(num_frames=3, max_num_objects=1),
        annotated=(0, 5),
    )
    assert found == {(0, 1, 2), (5, 6, 7)}


def test_reversed_clip_begins_with_an_object_too(make_state: Make) -> None:
    sampler = ClipSampleFrames(num_frames=3, max_num_objects=1, reverse_probability=1.0)
    masks = {index: shown(*([1] if index >= 8 else [])) for index in range(10)}
    found = {
        sampler(make_state(masks, num_frames=10, seed=seed)).frame_indices
        for seed in range(30)
    }
    assert found == {(8, 7, 6), (9, 8, 7)}


@pytest.mark.parametrize(('most', 'count'), [(2, 2), (5, 3)])
def test_objects_are_chosen_at_random_among_those_of_the_first_frame(
    make_state: Make, most: int, count: int
) -> None:
    sampler = ClipSampleFrames(num_frames=2, max_num_objects=most)
    masks = {0: shown(7, 3, 9), 1: shown(7, 3, 9, 11)}
    chosen = [
        sampler(make_state(masks, num_frames=2, seed=seed)).object_ids
        for seed in range(60)
    ]
    assert {len(set(ids)) for ids in chosen} == {count}
    assert set().union(*chosen) == {7, 3, 9}
    assert len(set(chosen)) == 6  # of three objects: ordered pairs, or all orders


def test_masks_of_the_first_frame_are_kept(make_state: Make) -> None:
    state = make_state({0: shown(1), 1: shown(1, 2)}, num_frames=2, seed=1)
    sampled = ClipSampleFrames(num_frames=1, max_num_objects=3)(state)
    assert sampled.first_masks is not None
    first = state.source.read_masks(sampled.frame_indices[0])
    assert first is not None
    assert sampled.first_masks.object_ids == first.object_ids


def test_short_clip_raises_with_the_numbers(make_state: Make) -> None:
    sampler = ClipSampleFrames(num_frames=4, max_num_objects=1, frame_gaps=(2,))
    with pytest.raises(ClipDataError, match=r'needs 7 frames, has 6.*num_frames'):
        sampler(make_state({0: shown(1)}, num_frames=6))


def test_clip_without_an_object_raises(make_state: Make) -> None:
    masks = {index: shown() for index in range(6)} | {5: shown(1)}
    sampler = ClipSampleFrames(num_frames=2, max_num_objects=1)
    with pytest.raises(ClipDataError, match='memory: shows no object'):
        sampler(make_state(masks))  # a clip of two frames cannot begin at the last


@pytest.mark.parametrize(
    'settings',
    [
        {'num_frames': 0, 'max_num_objects': 1},
        {'num_frames': 1, 'max_num_objects': 0},
        {'num_frames': 1, 'max_num_objects': 1, 'frame_gaps': (0, 1)},
        {'num_frames': 1, 'max_num_objects': 1, 'later_num_frames': ((3, 0),)},
        {'num_frames': 1, 'max_num_objects': 1, 'later_frame_gaps': ((3, ()),)},
    ],
)
def test_numbers_must_be_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='positive'):
        ClipSampleFrames(**settings)  # type: ignore[arg-type]
