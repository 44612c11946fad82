"""Whole masks: their area, and the objects of one frame seen together."""

import torch
from torch import Tensor

# A pixel's loser keeps at most this logit: a probability of 5e-5.
NON_OVERLAPPING_LOGIT = -10.0


def non_overlapping(logits: Tensor) -> Tensor:
    """Let each pixel belong to at most one object, the one most sure of it.

    Args:
        logits: (O, 1, H, W), the objects of one frame of one video.

    Returns:
        (O, 1, H, W); an object that is not the highest at a pixel has at most
        ``NON_OVERLAPPING_LOGIT`` there.
    """
    if len(logits) < 2:
        return logits
    objects = torch.arange(len(logits), device=logits.device)[:, None, None, None]
    highest = logits.argmax(dim=0, keepdim=True) == objects
    return torch.where(highest, logits, logits.clamp(max=NON_OVERLAPPING_LOGIT))


def count_pixels(masks: Tensor) -> Tensor:
    """Measure the areas of masks.

    Args:
        masks: (..., H, W), bool.

    Returns:
        (...,), int32, pixels.
    """
    # Bytes are summed several times faster than bools, which a CPU first makes int64.
    return masks.flatten(-2).view(torch.uint8).sum(dim=-1, dtype=torch.int32)


def mask_ious(first: Tensor, second: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Intersection over union of pairs of masks.

    Args:
        first: (O, 1, H, W), bool.
        second: (O, 1, H, W), bool.
        ignored: Void pixels, (O | 1, 1, H, W), bool, or None.

    Returns:
        (O,), float64, in [0, 1]; 1 where both masks are empty.
    """
    both, either = first & second, first | second
    if ignored is not None:
        both, either = both & ~ignored, either & ~ignored
    shared = count_pixels(both)[:, 0].double()
    union = count_pixels(either)[:, 0]
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)
