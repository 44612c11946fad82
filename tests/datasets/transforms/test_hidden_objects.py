"""Objects that the first frame does not show."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipAddHiddenObjects,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipPack,
    ClipState,
)

Make = Callable[..., ClipState]
SIZE = (24, 32)


def shown(*ids: int) -> dict[int, NDArray[np.bool_]]:
    """Masks of some objects, all alike."""
    return {object_id: np.ones(SIZE, bool) for object_id in ids}


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


def test_objects_that_appear_later_join_while_there_is_room(make_state: Make) -> None:
    for most, expected in ((1, [()]), (2, [(2,), (3,)]), (4, [(2, 3), (3, 2)])):
        add = ClipAddHiddenObjects(max_num_objects=most, later_probability=1.0)
        states = [add(chosen(make_state, seed)) for seed in range(30)]
        assert sorted({state.hidden_ids for state in states}) == expected
        assert all(state.object_ids == (1, *state.hidden_ids) for state in states)


def test_clip_with_more_objects_than_there_is_room_for_gets_no_others(
    make_state: Make,
) -> None:
    add = ClipAddHiddenObjects(max_num_objects=1, later_probability=1.0)
    state = add(replace(chosen(make_state), object_ids=(1, 2), first_ids=(1, 2)))
    assert (state.object_ids, state.hidden_ids) == ((1, 2), ())


@pytest.mark.parametrize('first', [(1,), (1, 2)])
def test_an_absent_object_joins_or_takes_a_place(
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
