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
