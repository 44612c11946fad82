"""Whole masks: their area, and the objects of one frame seen together."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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


NUM_NEIGHBOURS = 8  # diagonal neighbours count as connected
MAX_DEVICE_AREA = 64  # of components that are found on the device itself
EXACT_IN_FLOAT32 = 2**24


def small_components(masks: Tensor, max_area: float) -> Tensor:
    """Find the pixels of small connected components.

    Args:
        masks: (..., H, W), bool.
        max_area: Largest area of a small component, in pixels.

    Returns:
        (..., H, W), bool, on the device of ``masks``.
    """
    num_pixels = masks.shape[-2] * masks.shape[-1]
    if (
        masks.device.type != 'cpu'
        and max_area <= MAX_DEVICE_AREA
        and num_pixels < EXACT_IN_FLOAT32
    ):
        return small_components_on_device(masks, max_area)
    return _for_each(masks, lambda mask: _small_components(mask, max_area))


def small_components_on_device(masks: Tensor, max_area: float) -> Tensor:
    """Find small components without waiting for the device.

    Each pixel takes the highest number among its neighbours in the mask, as many times
    as a small component has pixels. A small component then has one number. A large one
    may have several, but those border on each other.

    Args:
        masks: (..., H, W), bool, of fewer than 2**24 pixels each.

    Returns:
        (..., H, W), bool.
    """
    height, width = masks.shape[-2:]
    inside = masks.reshape(-1, 1, height, width).float()
    last = height * width
    numbers = torch.arange(1, last + 1, device=masks.device, dtype=torch.float32)
    labels = numbers.view(1, 1, height, width) * inside  # 0 outside
    for _ in range(int(max_area)):
        labels = functional.max_pool2d(labels, 3, stride=1, padding=1) * inside
    highest = functional.max_pool2d(labels, 3, stride=1, padding=1)
    hidden = labels + (1 - inside) * (last + 1)  # what is outside is never lowest
    lowest = -functional.max_pool2d(-hidden, 3, stride=1, padding=1)
    borders = inside.bool() & ((highest != labels) | (lowest != labels))
    rows = torch.arange(len(labels), device=masks.device).view(-1, 1) * (last + 1)
    index = (labels.flatten(1).long() + rows).flatten()
    counts = torch.zeros(2, len(labels) * (last + 1), device=masks.device).int()
    weights = torch.stack([torch.ones_like(borders), borders]).int().flatten(1)
    areas, num_borders = counts.index_add_(1, index, weights)[:, index]
    small: Tensor = masks.flatten() & (areas <= max_area) & (num_borders == 0)
    return small.view(masks.shape)


def fill_holes(
    logits: Tensor, *, max_area: float, value: float, threshold: float = 0.0
) -> Tensor:
    """Close small holes of masks.

    Args:
        logits: (..., H, W); a mask is where they exceed the threshold.
        max_area: Largest area of a hole that is closed, in pixels.
        value: Logit that closed pixels get.

    Returns:
        (..., H, W).
    """
    holes = small_components(logits <= threshold, max_area)
    return torch.where(holes, value, logits)


def remove_specks(
    logits: Tensor, *, max_area: float, value: float, threshold: float = 0.0
) -> Tensor:
    """Drop small parts of masks.

    Args:
        logits: (..., H, W); a mask is where they exceed the threshold.
        max_area: Largest area of a part that is dropped, in pixels.
        value: Logit that dropped pixels get.

    Returns:
        (..., H, W).
    """
    specks = small_components(logits > threshold, max_area)
    return torch.where(specks, value, logits)


def without_small_regions(
    mask: NDArray[np.bool_], min_area: float
) -> NDArray[np.bool_]:
    """Close the small holes of a mask, then drop its small parts.

    Where all parts are small, the largest stays.

    Args:
        mask: (H, W).
        min_area: Smallest area of a hole or part that stays, in pixels.

    Returns:
        (H, W); ``mask`` itself where nothing changes.
    """
    holes = _small_components(~mask, np.nextafter(min_area, -np.inf))
    closed = mask | holes if holes.any() else mask
    labels, areas = _label(closed)
    small = np.flatnonzero(areas < min_area) + 1
    if not len(small):
        return closed
    if len(small) == len(areas):
        small = np.delete(small, areas.argmax())
    return closed & ~np.isin(labels, small)


def _for_each(
    masks: Tensor, work: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
) -> Tensor:
    """Work on each mask of a tensor in turn."""
    planes = masks.reshape(-1, *masks.shape[-2:]).cpu().numpy()
    found = np.stack([work(plane) for plane in planes]) if len(planes) else planes
    return torch.from_numpy(found).to(masks.device).view(masks.shape)


def _small_components(mask: NDArray[np.bool_], max_area: float) -> NDArray[np.bool_]:
    """Pixels of the small components of one mask."""
    labels, areas = _label(mask)
    is_small = np.concatenate([[False], areas <= max_area])
    small: NDArray[np.bool_] = is_small[labels]
    return small


def _label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Components of a mask, 0 for what is outside, and their areas from label 1."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=NUM_NEIGHBOURS
    )
    areas = np.asarray(stats[1:, cv2.CC_STAT_AREA], dtype=np.int32)
    return np.asarray(labels, dtype=np.int32), areas


Size = tuple[int, int]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays.

    Returns:
        The same numbers; ``tensor`` itself where it is wide enough.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def match_weights(tensor: Tensor, weight: Tensor) -> Tensor:
    """Bring numbers to the type of weights that are not float32.

    Args:
        tensor: Floats of any shape, such as a constant or pixels.

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
