"""The calls of the video predictor: what they return, change and refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.frame_readers import FileReader
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.visualization.video_file import write_video
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


def test_nothing_is_shown_of_no_object(state: VideoState) -> None:
    shown = state.show(0)
    assert shown.mask_logits.shape == (0, 1, *SIZE)
    assert shown.ious.shape == shown.object_score_logits.shape == (0,)


def test_results_unpack_as_users_know_them(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    result = click(predictor, state, number=7)
    frame_idx, obj_ids, mask_logits = result
    assert (frame_idx, obj_ids) == (0, [7])
    assert isinstance(mask_logits, torch.Tensor)
    assert mask_logits.shape == (1, 1, *SIZE)
    assert (len(result), result[0]) == (3, 0)
    assert result[2] is result[-1] is result.mask_logits
    with pytest.raises(IndexError):
        result[3]
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
def test_frames_are_tracked_in_the_order_of_the_pass(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    how: dict[str, Any],
    frames: list[int],
) -> None:
    click(predictor, state, frame=3)
    assert list(track(predictor, state, **how)) == frames


def test_object_without_a_mask_on_a_frame_is_shown_absent(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state, frame=0, number=1)
    result = click(predictor, state, frame=2, number=2)
    assert (result.mask_logits[0] < -1023).all()
    assert result.object_score_logits.isnan().tolist() == [True, False]
    assert result.ious.isnan().tolist() == [True, False]


def test_cancelled_propagation_stops_and_can_be_continued(
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
    ('change', 'message'),
    [
        (lambda frame: frame[:, :, 0], r'has shape \(48, 80\)'),
        (lambda frame: frame.astype(np.uint16), 'holds uint16, not uint8'),
        (lambda frame: frame * np.nan, 'holds float64 with NaN'),
        (lambda frame: frame[:40], r'is \(40, 80\), but the first frame'),
        (lambda frame: Image.fromarray(frame).convert('L'), "has mode 'L'"),
    ],
)
@pytest.mark.parametrize('ahead', [False, True])
def test_bad_frame_in_the_middle_leaves_the_state_usable(
    *,
    predictor: SAM2VideoPredictor,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    message: str,
    ahead: bool,
) -> None:
    frames = toy_frames(LENGTH)
    good = frames[3]
    frames[3] = change(good)
    state = predictor.init_state(frames, async_loading_frames=ahead)
    click(predictor, state)
    with pytest.raises(ValueError, match=f'Frame 3 {message}'):
        track(predictor, state)
    frames[3] = good
    rest = track(predictor, state, start_frame_idx=3)
    assert list(rest) == [3, 4, 5]


def test_what_is_no_video_leaves_the_predictor_usable(
    predictor: SAM2VideoPredictor, tmp_path: Path, state: VideoState
) -> None:
    with pytest.raises(ValueError, match=r'holds no \.jpg'):
        predictor.init_state(tmp_path)
    with pytest.raises(FileNotFoundError, match='there is no such file or folder'):
        predictor.init_state(tmp_path / 'missing.mp4')
    with pytest.raises(ValueError, match='Frame 0 holds uint16'):
        predictor.init_state(np.stack(toy_frames(1)).astype(np.uint16))
    click(predictor, state)
    assert list(track(predictor, state)) == list(range(LENGTH))


@pytest.mark.parametrize('ahead', [False, True])
def test_video_that_ends_early_is_tracked_as_far_as_it_goes(
    *, predictor: SAM2VideoPredictor, tmp_path: Path, ahead: bool
) -> None:
    write_video(tmp_path / 'v.mp4', toy_frames(LENGTH))
    state = predictor.init_state(tmp_path / 'v.mp4')
    reader = state.frames
    assert isinstance(reader, FileReader)
    reader.num_frames = LENGTH + 2  # as a header that is wrong says
    state = predictor.init_state(reader, async_loading_frames=ahead)
    click(predictor, state)
    seen: list[int] = []
    passes = predictor.propagate_in_video(state)
    with pytest.raises(ValueError, match=f'frame {LENGTH} of'):
        seen.extend(shown.frame_index for shown in passes)
    assert seen == list(range(LENGTH))
    reached = track(predictor, state, start_frame_idx=LENGTH - 1, reverse=True)
    assert list(reached) == list(range(LENGTH - 1, -1, -1))
    click(predictor, state, frame=2, number=2)
    assert state['obj_ids'] == [1, 2]


def test_options_of_the_release_change_no_mask(predictor: SAM2VideoPredictor) -> None:
    plain = predictor.init_state(toy_frames(LENGTH))
    options = ('offload_video_to_cpu', 'offload_state_to_cpu', 'async_loading_frames')
    with pytest.warns(UserWarning, match='offload_video_to_cpu changes nothing'):
        other = predictor.init_state(toy_frames(LENGTH), **dict.fromkeys(options, True))
    shown = []
    for state in (plain, other):
        click(predictor, state)
        predictor.propagate_in_video_preflight(state)
        assert state.objects[1].store.conditioning
        shown.append(track(predictor, state))
    assert_same_results(shown[1], shown[0])


def test_predictor_is_moved_and_set_as_a_module_is() -> None:
    predictor = SAM2VideoPredictor(toy_model().train())
    assert predictor.eval() is predictor
    assert not any(part.training for part in predictor.model.modules())
    assert predictor.to('meta') is predictor
    assert predictor.device.type == 'meta'


def test_options_may_be_changed_between_calls() -> None:
    changed = SAM2VideoPredictor(toy_model())
    changed.fill_hole_area = 10_000
    same = SAM2VideoPredictor(toy_model(), fill_hole_area=10_000)
    plain = SAM2VideoPredictor(toy_model())
    results = []
    for predictor in (changed, same, plain):
        own = predictor.init_state(toy_frames(LENGTH))
        click(predictor, own)
        results.append(track(predictor, own))
    assert_same_results(results[0], results[1])
    with pytest.raises(AssertionError):
        assert_same_results(results[0], results[2])
    assert changed.fill_hole_area == 10_000
    assert plain.fill_hole_area == 0


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'fill_hole_area': -1}, 'fill_hole_area is -1; give a number of at least 0'),
        ({'non_overlap_masks': 'yes'}, r"non_overlap_masks is 'yes' \(str\); give Tr"),
        ({'max_batch_objects': 0}, 'max_batch_objects is 0; give a number of at leas'),
        ({'max_batch_objects': 2.5}, r'max_batch_objects is 2\.5 \(float\)'),
        ({'memory_dtype': torch.int8}, r'memory_dtype is torch\.int8; give a type of'),
        ({'num_cached_embeddings': None}, 'num_cached_embeddings is None'),
    ],
)
def test_wrong_option_is_named(option: dict[str, Any], message: str) -> None:
    model = toy_model()
    with pytest.raises(ValueError, match=message):
        SAM2VideoPredictor(model, **option)
    predictor = SAM2VideoPredictor(model)
    (name,) = option
    before = getattr(predictor, name)
    with pytest.raises(ValueError, match=message):
        setattr(predictor, name, option[name])
    assert getattr(predictor, name) == before


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ({'start_frame_idx': '1'}, r"start_frame_idx is '1' \(str\); give a whole"),
        ({'start_frame_idx': 1.5}, r'start_frame_idx is 1\.5 \(float\)'),
        ({'max_frame_num_to_track': True}, r'max_frame_num_to_track is True \(bool\)'),
        ({'max_frame_num_to_track': -1}, 'is -1; give a number of at least 0'),
        ({'reverse': 'no'}, r"reverse is 'no' \(str\); give True or False"),
    ],
)
def test_wrong_argument_of_a_pass_is_named_at_once(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    how: dict[str, Any],
    message: str,
) -> None:
    click(predictor, state)
    with pytest.raises(ValueError, match=message):
        predictor.propagate_in_video(state, **how)
    plain = {'start_frame_idx': np.int64(4), 'max_frame_num_to_track': torch.tensor(1)}
    assert list(track(predictor, state, **plain)) == [4, 5]


# ---------------------------------------------------------------------------- prompts
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


def test_cleared_prompt_leaves_what_was_tracked(
    predictor: SAM2VideoPredictor, state: VideoState
) -> None:
    click(predictor, state)
    before = track(predictor, state)[0]
    after = predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert after is not None
    assert torch.equal(after.mask_logits, before.mask_logits)
    assert not state.objects[1].conditioning_frames
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


def test_reset_removes_all_objects(
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


def test_unknown_object_and_frame_are_named(
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
    assert not state.objects[2].conditioning_frames
    assert predictor.remove_object(state, 2, need_output=False) == ([1], [])
