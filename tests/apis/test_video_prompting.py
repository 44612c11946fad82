"""What is said about objects: what it shows and changes, and what is refused."""

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


def test_prompt_taken_back_leaves_what_was_tracked(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    before = track(predictor, state)[0]
    after = predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert after is not None
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


def test_removal_gives_pairs_of_frame_and_masks(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    for number in (1, 2, 3):
        click(predictor, state, number=number, at=(9.0 * number, 9.0))
    left, updated = predictor.remove_object(state, 2)
    assert left == [1, 3]
    ((frame_idx, masks),) = updated
    assert frame_idx == updated[0].frame_index == 0
    assert masks is updated[0].mask_logits is updated[0][1]
    assert updated[0].object_ids == [1, 3]
    assert isinstance(masks, torch.Tensor)
    assert masks.shape == (2, 1, *SIZE)


def test_reset_forgets_all_objects(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    first = track(predictor, state)
    predictor.reset_state(state)
    assert not state.objects
    click(predictor, state)
    assert_same_results(track(predictor, state), first)


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ({'points': [[85, 9]], 'labels': [1]}, r'\(85, 9\) lies outside'),
        ({'points': [[5, 5]], 'labels': [1, 1]}, 'one label for each point'),
        ({'points': [[np.nan, 5]], 'labels': [1]}, 'points holds NaN'),
        ({'points': [[5, 5]], 'labels': [9]}, 'Unknown label 9'),
        ({'box': [1, 2, np.nan, 4]}, 'box holds NaN'),
        ({'box': [1, 2, 300, 4]}, r'\(300, 4\) lies outside'),
        ({}, 'Neither points nor a box'),
        ({'box': np.zeros((2, 4))}, 'has 2 objects; prompt one at a time'),
        (
            {'box': [1, 2, 3, 4], 'clear_old_points': False},
            'A box replaces earlier points',
        ),
        (
            {'points': [[5, 5]], 'labels': [1], 'frame_idx': 6},
            'Frame 6 is not in 0 to 5',
        ),
        ({'box': [1, 2, 3, 4], 'frame_idx': 0.5}, r'frame_idx is 0\.5 \(float\)'),
        ({'box': [1, 2, 3, 4], 'obj_id': True}, r'obj_id is True \(bool\); give'),
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
    with pytest.raises(ValueError, match='mask holds NaN'):
        predictor.add_new_mask(state, 0, 6, np.full(SIZE, np.nan))
    assert list(state.objects) == [5]
    assert list(track(predictor, state)) == list(range(LENGTH))


def test_nothing_is_shown_where_no_output_is_needed(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state, number=1)
    click(predictor, state, number=2, at=(40.0, 30.0))
    assert predictor.clear_all_prompts_in_frame(state, 0, 2, need_output=False) is None
    assert not state.objects[2].is_prompted
    assert predictor.remove_object(state, 2, need_output=False) == ([1], [])
