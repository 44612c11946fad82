"""Masks of a frame at the size of the video."""

import torch

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_results import show_frame
from projects.sam2.ops import upsample_logits
from toy_videos import SIDE, SIZE, click, toy_frames, toy_model, track

LOW_RES = (SIDE // 4, SIDE // 4)
CPU = torch.device('cpu')


def test_latest_answer_is_shown() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(2))
    click(predictor, state)
    track(predictor, state)
    memory = state.objects[1].store.answer(1)
    assert memory is not None
    shown = show_frame(state, 1, low_res=LOW_RES, separate=False, device=CPU)
    expected = upsample_logits(memory.mask_logits, SIZE)
    assert torch.equal(shown.mask_logits, expected)
    assert shown.ious.tolist() == memory.ious.flatten().tolist()
    click(predictor, state, frame=1, at=(60.0, 40.0))
    again = show_frame(state, 1, low_res=LOW_RES, separate=False, device=CPU)
    pending = state.objects[1].pending[1].step
    assert torch.equal(again.mask_logits, upsample_logits(pending.mask_logits, SIZE))
    assert again.object_score_logits == pending.object_score_logits.flatten()


def test_nothing_is_shown_of_no_object() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(1))
    shown = show_frame(state, 0, low_res=LOW_RES, separate=True, device=CPU)
    assert shown.mask_logits.shape == (0, 1, *SIZE)
    assert shown.ious.shape == (0,)
