"""Masks of a frame at the size of the video."""

import torch

from projects.sam2.apis.memory_archive import FrameAnswer
from projects.sam2.apis.video_session import show_frame
from projects.sam2.models.tracking.frame import NO_OBJECT_LOGIT
from projects.sam2.ops import upsample_logits
from toy_videos import SIDE, SIZE

LOW_RES = (SIDE // 4, SIDE // 4)
CPU = torch.device('cpu')


def test_objects_without_an_answer_are_shown_absent() -> None:
    mask = torch.randn(1, 1, *LOW_RES, generator=torch.Generator().manual_seed(0))
    answer = FrameAnswer(
        mask_logits=mask,
        object_score_logits=torch.ones(1, 1),
        ious=torch.full((1, 1), 0.5),
    )
    shown = show_frame(
        4, {7: None, 3: answer}, size=SIZE, low_res=LOW_RES, separate=False, device=CPU
    )
    assert (shown.frame_index, shown.object_ids) == (4, [7, 3])
    assert (shown.mask_logits[0] < NO_OBJECT_LOGIT + 1).all()
    assert torch.equal(shown.mask_logits[1:], upsample_logits(mask, SIZE))
    assert shown.ious.isnan().tolist() == [True, False]
    assert shown.ious[1] == 0.5


def test_nothing_is_shown_of_no_object() -> None:
    shown = show_frame(0, {}, size=SIZE, low_res=LOW_RES, separate=True, device=CPU)
    assert shown.mask_logits.shape == (0, 1, *SIZE)
    assert shown.ious.shape == (0,)
