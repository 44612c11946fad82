"""Brings the masks of a frame to the size of the video."""

from collections.abc import Mapping

import torch

from projects.sam2.apis.memory_archive import FrameAnswer
from projects.sam2.apis.video_state import VideoFrameResult
from projects.sam2.models.mask_heads import NO_OBJECT_LOGIT
from projects.sam2.ops import non_overlapping, upsample_logits

__all__ = ['show_frame']


def show_frame(
    frame_index: int,
    answers: Mapping[int, FrameAnswer | None],
    *,
    size: tuple[int, int],
    low_res: tuple[int, int],
    separate: bool,
    device: torch.device,
) -> VideoFrameResult:
    """Show the answers of all objects on a frame.

    Args:
        frame_index: Position in the video.
        answers: Of each object, by id; None is shown absent.
        size: Height and width of the video.
        low_res: H4 and W4.
        separate: Let each pixel belong to at most one object.
        device: Where the masks go.

    Returns:
        Masks and scores of all objects.
    """
    nothing = torch.full((1, 1, *low_res), NO_OBJECT_LOGIT, device=device)
    unknown = torch.full((1, 1), torch.nan, device=device)
    absent = FrameAnswer(mask_logits=nothing, object_score_logits=unknown, ious=unknown)
    shown = [answer or absent for answer in answers.values()]
    # The empty tensor comes first, since there may be no object.
    masks = torch.cat([nothing[:0], *(answer.mask_logits for answer in shown)])
    scores = torch.cat([unknown[:0], *(a.object_score_logits for a in shown)])
    ious = torch.cat([unknown[:0], *(answer.ious for answer in shown)])
    full = upsample_logits(masks, size)
    return VideoFrameResult(
        frame_index=frame_index,
        object_ids=list(answers),
        mask_logits=non_overlapping(full) if separate else full,
        object_score_logits=scores[:, 0],
        ious=ious[:, 0],
    )
