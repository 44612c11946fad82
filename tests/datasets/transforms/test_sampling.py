"""Which frames and objects a clip gets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipAddHiddenObjects,
    ClipDataError,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipPack,
    ClipSampleFrames,
    ClipSampleWhole,
    ClipState,
)
from projects.sam2.datasets.annotated_video import ObjectIds, list_objects
from projects.sam2.datasets.transforms import sampling
from projects.sam2.structures import FrameMasks, VideoSource

Make = Callable[..., ClipState]
Objects = dict[int, tuple[int, ...]]  # of each annotated frame
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


def test_frames_without_masks_are_not_decoded(
    make_state: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []

    def note(source: VideoSource, index: int) -> tuple[ObjectIds, FrameMasks | None]:
        listed.append(index)
        return list_objects(source, index)

    monkeypatch.setattr(sampling, 'list_objects', note)
    sampler = ClipSampleFrames(num_frames=4, max_num_objects=1)
    assert draw(make_state, sampler, annotated=(3,), num_draws=20) == {(3, 4, 5, 6)}
    assert set(listed) == {3}


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


@pytest.mark.parametrize(('num_frames', 'fitting'), [(9, (1, 2)), (10, (1, 2, 3))])
def test_gaps_are_drawn_from_those_that_fit_the_video(
    make_state: Make, num_frames: int, fitting: tuple[int, ...]
) -> None:
    masks = {index: shown(1) for index in range(num_frames)}

    def clips(*gaps: int) -> list[tuple[int, ...]]:
        sampler = ClipSampleFrames(num_frames=4, max_num_objects=1, frame_gaps=gaps)
        states = (make_state(masks, num_frames=num_frames, seed=s) for s in range(30))
        return [sampler(state).frame_indices for state in states]

    found = clips(1, 2, 3, 4)
    assert found == clips(*fitting)
    assert {frames[1] - frames[0] for frames in found} == {*fitting}


def test_widest_gap_spans_the_whole_video(make_state: Make) -> None:
    sampler = ClipSampleFrames(num_frames=4, max_num_objects=1, frame_gaps=(3,))
    assert draw(make_state, sampler, num_draws=5) == {(0, 3, 6, 9)}


# Frames and objects as they were drawn before other gaps and directions were tried.
DENSE: Objects = dict.fromkeys(range(12), (1, 2, 3, 4))
LATE: Objects = {index: (5, 6) if index >= 7 else () for index in range(12)}
SPARSE: Objects = {0: (1, 2), 3: (2,), 4: (2, 3), 8: (1,), 11: (1, 4)}
RECORDED: list[tuple[Objects, int, list[Any]]] = [
    (DENSE, 0, [(11, 8, 5, 2), (1, 3, 4), 912]),
    (DENSE, 1, [(5, 7, 9, 11), (3, 2, 4), 409]),
    (DENSE, 4, [(1, 4, 7, 10), (2, 3, 1), 626]),
    (LATE, 0, [(11, 8, 5, 2), (6, 5), 175]),
    (LATE, 3, [(9, 6, 3, 0), (5, 6), 39]),
    (SPARSE, 0, [(0, 3, 4, 8), (2, 1), 40]),
    (SPARSE, 3, [(8, 4, 3, 0), (1,), 236]),
]


@pytest.mark.parametrize(('objects', 'seed', 'expected'), RECORDED)
def test_random_numbers_of_a_clip_never_change(
    make_state: Make,
    objects: Objects,
    seed: int,
    expected: list[Any],
) -> None:
    masks = {index: shown(*ids) for index, ids in objects.items()}
    state = make_state(masks, num_frames=12, seed=seed)
    sampled = ClipSampleFrames(
        num_frames=4, max_num_objects=3, frame_gaps=(1, 2, 3), reverse_probability=0.5
    )(state)
    # The number behind them shows that no more random numbers were taken.
    rest = int(state.rng.integers(1000))
    assert [sampled.frame_indices, sampled.object_ids, rest] == expected


@dataclass(frozen=True)
class Case:
    """A video and a sampler."""

    num_frames: int
    annotated: frozenset[int]
    seen: frozenset[int]
    length: int
    gaps: frozenset[int]
    reverse: float

    @property
    def objects(self) -> Objects:
        """Objects of each annotated frame."""
        frames = [index for index in self.annotated if index < self.num_frames]
        return {index: (1,) if index in self.seen else () for index in frames}

    def clips(self) -> set[tuple[int, ...]]:
        """Clips of which one may be drawn, listed one after another."""
        beginnings = {index for index, ids in self.objects.items() if ids}
        signs = {0.0: (1,), 0.5: (1, -1), 1.0: (-1,)}[self.reverse]
        steps = [sign * gap for sign in signs for gap in self.gaps]
        for frames in (sorted(self.objects), range(self.num_frames)):
            places = [
                [start + i * step for i in range(self.length)]
                for step, start in product(steps, range(len(frames)))
            ]
            clips = {
                tuple(frames[place] for place in clip)
                for clip in places
                if min(clip) >= 0 and max(clip) < len(frames)
            }
            allowed = {clip for clip in clips if clip[0] in beginnings}
            if allowed:
                return allowed
        return set()


CASES = st.builds(
    Case,
    num_frames=st.integers(1, 9),
    annotated=st.frozensets(st.integers(0, 8)),
    seen=st.frozensets(st.integers(0, 8)),
    length=st.integers(1, 4),
    gaps=st.frozensets(st.integers(1, 3), min_size=1),
    reverse=st.sampled_from([0.0, 0.5, 1.0]),
)


@given(case=CASES, seed=st.integers(0, 99))
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_video_is_refused_only_if_no_clip_can_be_sampled(
    make_state: Make, case: Case, seed: int
) -> None:
    masks = {index: shown(*ids) for index, ids in case.objects.items()}
    state = make_state(masks, num_frames=case.num_frames, seed=seed)
    sampler = ClipSampleFrames(
        num_frames=case.length,
        max_num_objects=1,
        frame_gaps=sorted(case.gaps),
        reverse_probability=case.reverse,
    )
    allowed = case.clips()
    if allowed:
        assert sampler(state).frame_indices in allowed
    else:
        with pytest.raises(ClipDataError, match=r'shows no object|needs \d+ frames'):
            sampler(state)


def test_each_frame_is_looked_at_once_before_a_video_is_refused(
    make_state: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def note(source: VideoSource, index: int) -> tuple[ObjectIds, FrameMasks | None]:
        looked.append(index)
        return list_objects(source, index)

    monkeypatch.setattr(sampling, 'list_objects', note)
    sampler = ClipSampleFrames(
        num_frames=3, max_num_objects=1, frame_gaps=(1, 2), reverse_probability=0.5
    )
    with pytest.raises(ClipDataError, match='shows no object'):
        sampler(make_state({index: shown() for index in range(10)}, num_frames=10))
    assert sorted(looked) == [*range(10)]


def test_clips_that_never_run_backwards_say_so_where_that_would_help(
    make_state: Make,
) -> None:
    state = make_state({9: shown(1)}, num_frames=10)
    sampler = ClipSampleFrames(num_frames=2, max_num_objects=1)
    with pytest.raises(ClipDataError, match='set reverse_probability'):
        sampler(state)
    sampler = ClipSampleFrames(num_frames=2, max_num_objects=1, reverse_probability=0.1)
    assert sampler(state).frame_indices == (9, 8)


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


VIDEO: Mapping[int, Mapping[int, NDArray[np.bool_]]] = {
    0: shown(1),
    1: shown(1, 2),
    2: shown(3),
    4: shown(1, 2, 9),
}


def chosen(make_state: Make, seed: int = 0) -> ClipState:
    """Object 1 on frames 0 to 2."""
    state = make_state(VIDEO, seed=seed)
    return replace(
        state,
        frame_indices=(0, 1, 2),
        object_ids=(1,),
        first_ids=(1,),
        first_masks=state.source.read_masks(0),
    )


def test_later_objects_are_added_while_there_is_room(make_state: Make) -> None:
    for most, expected in ((1, [()]), (2, [(2,), (3,)]), (4, [(2, 3), (3, 2)])):
        add = ClipAddHiddenObjects(max_num_objects=most, later_probability=1.0)
        states = [add(chosen(make_state, seed)) for seed in range(30)]
        assert sorted({state.hidden_ids for state in states}) == expected
        assert all(state.object_ids == (1, *state.hidden_ids) for state in states)


def test_clip_without_room_gets_no_objects(
    make_state: Make,
) -> None:
    add = ClipAddHiddenObjects(max_num_objects=1, later_probability=1.0)
    state = add(replace(chosen(make_state), object_ids=(1, 2), first_ids=(1, 2)))
    assert (state.object_ids, state.hidden_ids) == ((1, 2), ())


@pytest.mark.parametrize('first', [(1,), (1, 2)])
def test_absent_object_is_added_or_replaces_the_last(
    make_state: Make, first: tuple[int, ...]
) -> None:
    add = ClipAddHiddenObjects(max_num_objects=2, absent_probability=1.0)
    state = add(replace(chosen(make_state), object_ids=first, first_ids=first))
    assert (state.object_ids, state.hidden_ids) == ((1, 9), (9,))


def test_the_only_object_is_never_replaced(make_state: Make) -> None:
    add = ClipAddHiddenObjects(
        max_num_objects=1, later_probability=1.0, absent_probability=1.0
    )
    state = add(chosen(make_state))
    assert (state.object_ids, state.hidden_ids) == ((1,), ())


def test_both_kinds_share_the_room(make_state: Make) -> None:
    add = ClipAddHiddenObjects(
        max_num_objects=3, later_probability=1.0, absent_probability=1.0
    )
    state = add(chosen(make_state))
    assert state.object_ids[0] == 1
    assert state.object_ids[1] in {2, 3}
    assert state.object_ids[2:] == (9,)


def test_video_without_other_frames_has_no_absent_object(make_state: Make) -> None:
    add = ClipAddHiddenObjects(max_num_objects=2, absent_probability=1.0)
    state = replace(chosen(make_state), frame_indices=(0, 1, 2, 4))
    assert add(state).object_ids == (1,)


def test_clips_change_at_their_rate(make_state: Make) -> None:
    add = ClipAddHiddenObjects(max_num_objects=3, later_probability=0.25)
    changed = [bool(add(chosen(make_state, seed)).hidden_ids) for seed in range(200)]
    assert 0.15 < np.mean(changed) < 0.35
    never = ClipAddHiddenObjects(max_num_objects=3)
    state = chosen(make_state)
    assert never(state) is state


def test_hidden_objects_are_packed_with_their_later_masks(make_state: Make) -> None:
    add = ClipAddHiddenObjects(
        max_num_objects=4, later_probability=1.0, absent_probability=1.0
    )
    sample = ClipPack()(ClipLoadMasklets()(ClipLoadFrames()(add(chosen(make_state)))))
    ids = sample.object_ids.tolist()
    assert sorted(ids) == [1, 2, 3, 9]
    seen = sample.masklets.flatten(2).any(dim=2)
    assert seen[:, ids.index(2)].tolist() == [False, True, False]
    assert not seen[:, ids.index(9)].any()


def test_number_of_objects_is_positive() -> None:
    with pytest.raises(ValueError, match='max_num_objects is 0'):
        ClipAddHiddenObjects(max_num_objects=0)
