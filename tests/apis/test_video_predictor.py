"""The calls of the video predictor: what they return, change and refuse."""

from typing import Any

import numpy as np
import pytest
import torch

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_state import VideoState
from toy_videos import (
    SIZE,
    assert_same_results,
    click,
    toy_frames,
    toy_model,
    track,
    with_finite_scores,
)

LENGTH = 6


@pytest.fixture(scope='module')
def predictor() -> SAM2VideoPredictor:
    """The small predictor."""
    return SAM2VideoPredictor(toy_model())


@pytest.fixture
def state(predictor: SAM2VideoPredictor) -> VideoState:
    """A short video."""
    return predictor.init_state(toy_frames(LENGTH))


def test_results_unpack_as_users_know_them(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    frame_idx, obj_ids, mask_logits = click(predictor, state, number=7)
    assert (frame_idx, obj_ids) == (0, [7])
    assert isinstance(mask_logits, torch.Tensor)
    assert mask_logits.shape == (1, 1, *SIZE)
    results = track(predictor, state)
    assert list(results) == list(range(LENGTH))
    assert with_finite_scores(list(results.values()))


@pytest.mark.parametrize(
    ('how', 'frames'),
    [
        ({'start_frame_idx': 2}, [2, 3, 4, 5]),
        ({'start_frame_idx': 2, 'max_frame_num_to_track': 1}, [2, 3]),
        ({'start_frame_idx': 4, 'reverse': True}, [4, 3, 2, 1, 0]),
        (
            {'start_frame_idx': 4, 'max_frame_num_to_track': 2, 'reverse': True},
            [4, 3, 2],
        ),
        ({'start_frame_idx': 0, 'reverse': True}, []),
        ({}, [3, 4, 5]),
    ],
)
def test_frames_are_tracked_in_the_order_asked_for(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    how: dict[str, Any],
    frames: list[int],
) -> None:
    click(predictor, state, frame=3)
    assert list(track(predictor, state, **how)) == frames


def test_points_may_be_added_to_earlier_ones(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    predictor.add_new_points_or_box(
        state, 0, 1, [[30, 30]], [0], clear_old_points=False
    )
    prompt = state.objects[1].prompts[0].points
    assert prompt is not None
    assert prompt.labels.tolist() == [[1, 0]]
    click(predictor, state)
    prompt = state.objects[1].prompts[0].points
    assert prompt is not None
    assert prompt.labels.tolist() == [[1]]


def test_pixels_and_shares_mean_the_same(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    pixels = predictor.add_new_points_or_box(state, 0, 1, box=[8, 12, 40, 24])
    predictor.reset_state(state)
    shares = predictor.add_new_points_or_box(
        state, 0, 1, box=[0.1, 0.25, 0.5, 0.5], normalize_coords=False
    )
    assert torch.allclose(pixels.mask_logits, shares.mask_logits, atol=1e-4)


def test_mask_prompt_is_shown_as_it_was_given(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:40, 20:60] = True
    shown = predictor.add_new_mask(state, 0, 1, mask).mask_logits[0, 0] > 0
    union = (shown | torch.from_numpy(mask)).sum()
    assert (shown & torch.from_numpy(mask)).sum() / union > 0.75


def test_object_without_an_answer_on_a_frame_is_shown_absent(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state, frame=0, number=1)
    result = click(predictor, state, frame=2, number=2)
    assert (result.mask_logits[0] < -1023).all()
    assert result.object_score_logits.isnan().tolist() == [True, False]
    assert result.ious.isnan().tolist() == [True, False]


def test_prompt_taken_back_leaves_what_was_tracked(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    before = track(predictor, state)[0]
    after = predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert torch.equal(after.mask_logits, before.mask_logits)
    assert not state.objects[1].is_prompted
    with pytest.raises(ValueError, match='Object 1 has no prompt left'):
        track(predictor, state)
    click(predictor, state)
    assert list(track(predictor, state)) == list(range(LENGTH))


def test_removed_object_is_gone_and_the_others_go_on(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state, number=1)
    alone = track(predictor, state)
    predictor.reset_state(state)
    click(predictor, state, number=1)
    click(predictor, state, number=2, at=(40.0, 30.0))
    click(predictor, state, frame=3, number=2, at=(40.0, 30.0))
    ids, shown = predictor.remove_object(state, 2)
    assert ids == [1]
    assert [result.frame_index for result in shown] == [0, 3]
    assert_same_results(track(predictor, state), alone, tolerance=1e-4)
    assert predictor.remove_object(state, 2) == ([1], [])
    assert predictor.remove_object(state, 1) == ([], [])
    with pytest.raises(ValueError, match='There is no object to track'):
        track(predictor, state)


def test_reset_forgets_all_objects(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    first = track(predictor, state)
    predictor.reset_state(state)
    assert not state.objects
    click(predictor, state)
    assert_same_results(track(predictor, state), first)


def test_cancelled_propagation_stops_and_can_be_taken_up_again(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    whole = track(predictor, state)
    predictor.reset_state(state)
    click(predictor, state)
    seen = {}
    for result in predictor.propagate_in_video(state):
        seen[result.frame_index] = result
        if result.frame_index == 2:
            predictor.cancel_propagate(state)
    assert list(seen) == [0, 1, 2]
    seen |= track(predictor, state, start_frame_idx=3)
    assert_same_results(seen, whole)


def test_objects_come_and_go_while_frames_are_tracked(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state, number=1)
    ids = []
    for result in predictor.propagate_in_video(state):
        ids.append(result.object_ids)
        if result.frame_index == 1:
            click(predictor, state, frame=1, number=2, at=(40.0, 30.0))
        if result.frame_index == 3:
            predictor.remove_object(state, 1)
    assert ids == [[1], [1], [1, 2], [1, 2], [2], [2]]


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ({'points': [[81, 9]], 'labels': [1]}, r'\(81, 9\) lies outside'),
        ({'points': [[5, 5]], 'labels': [1, 1]}, 'one label for each point'),
        ({'points': [[np.nan, 5]], 'labels': [1]}, 'points holds NaN'),
        ({}, 'Neither points nor a box'),
        ({'box': np.zeros((2, 4))}, 'has 2 objects; prompt one at a time'),
        (
            {'box': [1, 2, 3, 4], 'clear_old_points': False},
            'A box comes before all points',
        ),
        (
            {'points': [[5, 5]], 'labels': [1], 'frame_idx': 6},
            'Frame 6 is not in 0 to 5',
        ),
    ],
)
def test_bad_prompt_is_named_and_changes_nothing(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    prompt: dict[str, Any],
    message: str,
) -> None:
    click(predictor, state)
    for number in (1, 2):
        arguments = {'frame_idx': 0, 'obj_id': number} | prompt
        with pytest.raises(ValueError, match=message):
            predictor.add_new_points_or_box(state, **arguments)
    assert list(state.objects) == [1]
    assert list(track(predictor, state)) == list(range(LENGTH))


def test_what_does_not_exist_is_named(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    with pytest.raises(ValueError, match='no object 3; known ids: none yet'):
        predictor.clear_all_prompts_in_frame(state, 0, 3)
    click(predictor, state, number=5)
    with pytest.raises(ValueError, match='no object 3; known ids: 5'):
        predictor.remove_object(state, 3, strict=True)
    with pytest.raises(ValueError, match='Frame 9 is not in 0 to 5'):
        track(predictor, state, start_frame_idx=9)
    with pytest.raises(ValueError, match=r'\(5, 5\), but the frames are \(48, 80\)'):
        predictor.add_new_mask(state, 0, 6, np.zeros((5, 5), bool))
    assert list(track(predictor, state)) == list(range(LENGTH))


def test_bad_frame_in_the_middle_leaves_the_state_usable(
    predictor: SAM2VideoPredictor,
) -> None:
    frames = toy_frames(LENGTH)
    good = frames[3]
    frames[3] = good[:, :, 0]
    state = predictor.init_state(frames)
    click(predictor, state)
    with pytest.raises(ValueError, match=r'Frame 3 has shape \(48, 80\)'):
        track(predictor, state)
    frames[3] = good
    rest = track(predictor, state, start_frame_idx=3)
    assert list(rest) == [3, 4, 5]
