"""Brings the masks of a frame to the size of the video."""

import torch
from torch import Tensor

from projects.sam2.apis.video_state import TrackedObject, VideoFrameResult, VideoState
from projects.sam2.models.mask_heads import NO_OBJECT_LOGIT
from projects.sam2.ops import non_overlapping, upsample_logits

__all__ = ['show_frame']


def show_frame(
    state: VideoState,
    frame_index: int,
    *,
    low_res: tuple[int, int],
    separate: bool,
    device: torch.device,
) -> VideoFrameResult:
    """Collect what is known of a frame.

    Args:
        state: State of the video.
        frame_index: The frame.
        low_res: H4 and W4.
        separate: Let each pixel belong to at most one object.
        device: Where the masks go.

    Returns:
        Masks and scores of all objects; one without an answer is shown absent.
    """
    nothing = torch.full((1, 1, *low_res), NO_OBJECT_LOGIT, device=device)
    unknown = torch.full((1, 1), torch.nan, device=device)
    masks, scores, ious = [nothing[:0]], [unknown[:0]], [unknown[:0]]
    for one in state.objects.values():
        shown = _answer(one, frame_index)
        mask, score, iou = shown or (nothing, unknown, unknown)
        masks.append(mask)
        scores.append(score)
        ious.append(iou)
    full = upsample_logits(torch.cat(masks), state.frames.size)
    return VideoFrameResult(
        frame_index=frame_index,
        object_ids=list(state.objects),
        mask_logits=non_overlapping(full) if separate else full,
        object_score_logits=torch.cat(scores)[:, 0],
        ious=torch.cat(ious)[:, 0],
    )


def _answer(
    one: TrackedObject, frame_index: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Mask, object score and IoU of an object: the latest answer on the frame."""
    pending = one.pending.get(frame_index)
    if pending is not None:
        step = pending.step
        iou = step.candidate_ious.amax(dim=1, keepdim=True)
        return step.mask_logits, step.object_score_logits, iou
    memory = one.store.answer(frame_index)
    if memory is None:
        return None
    return memory.mask_logits, memory.object_score_logits, memory.ious
