"""Connected components: small holes and specks of masks."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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
        max_area: Largest area of a small component; the time grows with it.

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
        threshold: Where the masks begin.

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
        threshold: Where the masks begin.

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
