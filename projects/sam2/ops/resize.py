"""Resizing of masks, as logits and as pixels."""

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays.

    Args:
        tensor: Floats of any shape.

    Returns:
        The same numbers; ``tensor`` itself where it is wide enough.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def match_weights(tensor: Tensor, weight: Tensor) -> Tensor:
    """Bring numbers to the type of weights that are not float32.

    Args:
        tensor: Floats of any shape, such as a constant or pixels.
        weight: A weight of the part that reads them.

    Returns:
        The same numbers; ``tensor`` itself beside float32, where autocast chooses the
        type.
    """
    return tensor if weight.dtype is torch.float32 else tensor.to(weight.dtype)


def upsample_logits(logits: Tensor, size: Size) -> Tensor:
    """Enlarge mask logits.

    Args:
        logits: (O, M, H4, W4).
        size: Height and width of the result in pixels.

    Returns:
        (O, M, *size); ``logits`` itself where it has that size already.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(
        logits, size=size, mode='bilinear', align_corners=False
    )


def downsample_logits(logits: Tensor, size: Size) -> Tensor:
    """Shrink mask logits without aliasing.

    Args:
        logits: (O, M, H, W).
        size: Height and width of the result in pixels.

    Returns:
        (O, M, *size), in the type of ``logits``.
    """
    # The antialiasing kernel knows no half precision on every device.
    resized = functional.interpolate(
        at_least_float32(logits),
        size=size,
        mode='bilinear',
        align_corners=False,
        antialias=True,
    )
    return resized.to(logits.dtype)


def resize_masks(masks: Tensor, size: Size) -> Tensor:
    """Resize masks: antialiased, then thresholded at one half.

    Args:
        masks: (O, 1, H, W), bool.
        size: Height and width of the result in pixels.

    Returns:
        (O, 1, *size), bool; ``masks`` itself where it has that size already.
    """
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return downsample_logits(masks.float(), size) >= 0.5
