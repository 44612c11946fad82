"""What scripts look up in the state by the released keys."""

import pytest
import torch

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.ops import upsample_logits
from toy_videos import SIDE, SIZE, click, toy_frames, toy_model, track


def test_state_answers_what_scripts_look_up() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(3))
    click(predictor, state, number=7)
    assert (state['video_height'], state['video_width']) == SIZE
    assert state['num_frames'] == 3
    click(predictor, state, number=4)
    assert state['obj_ids'] == [7, 4]
    assert state['obj_idx_to_id'] == {0: 7, 1: 4}
    assert state['obj_id_to_idx'] == {7: 0, 4: 1}
    with pytest.raises(KeyError, match='the keys are images, num_frames, video_height'):
        state['constants']
    assert state.get('constants') is None
    assert {'images', 'output_dict_per_obj'} <= set(state.keys())
    with pytest.raises(TypeError, match=r'cannot be written to .* to SAM2Stream'):
        state['num_frames'] = 4
    track(predictor, state)
    memories = state['output_dict_per_obj'][0]['non_cond_frame_outputs']
    for mapping, key in (
        (state, 'images'),
        (state['frames_tracked_per_obj'], 1),
        (state['point_inputs_per_obj'][0], 0),
        (memories, 1),
    ):
        with pytest.raises(TypeError, match=rf'cannot be written to \({key!r}\)'):
            mapping[key] = None
        with pytest.raises(TypeError, match='keeps no more than it needs'):
            del mapping[key]
        for call in ('pop', 'clear', 'update'):
            with pytest.raises(AttributeError, match=rf'written to \(\.{call}\)'):
                getattr(mapping, call)
        assert key in mapping
        with pytest.raises(AttributeError, match="has no attribute 'append'"):
            getattr(mapping, 'append')  # noqa: B009


def test_state_shows_frames_prompts_and_memories() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(3))
    click(predictor, state, number=7)
    click(predictor, state, number=4, frame=1)
    pending = state['temp_output_dict_per_obj'][1]['cond_frame_outputs']
    assert list(pending) == [1]
    shown = track(predictor, state)
    assert list(state['frames_tracked_per_obj'][0]) == [0, 1, 2]
    assert state['point_inputs_per_obj'][1][1]['point_labels'].tolist() == [[1]]
    assert state['mask_inputs_per_obj'] == {0: {}, 1: {}}
    outputs = state['output_dict_per_obj']
    assert [list(outputs[row]['cond_frame_outputs']) for row in (0, 1)] == [[0], [1]]
    assert list(outputs[0]['non_cond_frame_outputs']) == [1, 2]
    low_res = outputs[0]['non_cond_frame_outputs'][2]['pred_masks']
    assert torch.equal(upsample_logits(low_res, SIZE), shown[2].mask_logits[:1])
    images = state['images']
    assert images.shape == (len(images), 3, SIDE, SIDE) == (3, 3, SIDE, SIDE)
    expected = predictor.model.data_preprocessor.frame(toy_frames(3)[2])[0]
    assert torch.equal(images[-1], expected)
    assert torch.equal(images[1:][1], expected)
    assert len(list(images)) == 3


def test_a_state_equals_itself_and_no_other() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state, other = (predictor.init_state(toy_frames(2)) for _ in range(2))
    assert state == state  # noqa: PLR0124  it is the claim
    assert state != other
    assert len({state, other}) == 2
