"""Functions on masks: areas, IoU, boxes, resizing, data types, small components."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# Largest logit of an object on pixels that another one wins; a probability of 5e-5.
NON_OVERLAPPING_LOGIT = -10.0


def count_pixels(masks: Tensor) -> Tensor:
    """Measure the areas of masks.

    Args:
        masks: (..., H, W), bool.

    Returns:
        (...,), int32, pixels.
    """
    # Older versions of torch sum bytes several times faster than bools. A view as bytes
    # would save the copy, but cannot be exported to ONNX.
    return masks.flatten(-2).to(torch.uint8).sum(dim=-1, dtype=torch.int32)


def mask_stability(logits: Tensor, *, threshold: float, offset: float) -> Tensor:
    """IoU of each mask with itself at a higher and at a lower threshold.

    Args:
        logits: (..., H, W).
        threshold: Logits above it belong to the mask.
        offset: The thresholds compared are this much higher and lower.

    Returns:
        (...,), in [0, 1]; NaN where the mask is empty at both.
    """
    inner = count_pixels(logits > threshold + offset)
    return inner / count_pixels(logits > threshold - offset)


def mask_ious(
    masks: Tensor,
    truth: Tensor,
    void: Tensor | None = None,
    *,
    empty_iou: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Intersection over union of masks and their ground truth.

    Args:
        masks: (O, M, H, W), bool.
        truth: (O, 1, H, W), bool.
        void: Pixels to leave out, (O | 1, 1, H, W), bool, or None.
        empty_iou: IoU of two empty masks.

    Returns:
        (O, M), in [0, 1].
    """
    intersection, union = masks & truth, masks | truth
    if void is not None:
        intersection, union = intersection & ~void, union & ~void
    area = count_pixels(union)
    ious = count_pixels(intersection).to(dtype) / area.clamp(min=1)
    return torch.where(area > 0, ious, empty_iou)


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Find the tightest box around each mask.

    Args:
        masks: (O, 1, H, W), bool.

    Returns:
        (O, 4), float, ``(x, y)`` of the first and of the last pixel inside. An empty
        mask has the inverted box ``(W, H, -1, -1)``.
    """
    height, width = masks.shape[-2:]
    columns = masks.any(dim=-2).flatten(1)  # (O, 1, H, W) -> (O, W)
    rows = masks.any(dim=-1).flatten(1)  # (O, 1, H, W) -> (O, H)
    x = torch.arange(width, device=masks.device)
    y = torch.arange(height, device=masks.device)
    corners = (
        torch.where(columns, x, width).amin(dim=1),
        torch.where(rows, y, height).amin(dim=1),
        torch.where(columns, x, -1).amax(dim=1),
        torch.where(rows, y, -1).amax(dim=1),
    )
    return torch.stack(corners, dim=1).float()


def non_overlapping(logits: Tensor) -> Tensor:
    """Assign each pixel to at most one object, the one with the highest logit.

    Args:
        logits: (O, 1, H, W), the objects of one frame of one video.

    Returns:
        (O, 1, H, W); the other objects have at most ``NON_OVERLAPPING_LOGIT`` there.
    """
    if len(logits) < 2:
        return logits
    objects = torch.arange(len(logits), device=logits.device)[:, None, None, None]
    is_highest = logits.argmax(dim=0, keepdim=True) == objects
    return torch.where(is_highest, logits, logits.clamp(max=NON_OVERLAPPING_LOGIT))


def upsample_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize mask logits to a larger size.

    Args:
        logits: (O, M, H4, W4).
        size: Height and width of the result in pixels.

    Returns:
        ``(O, M, *size)``; ``logits`` itself where it has that size already.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(
        logits, size=size, mode='bilinear', align_corners=False
    )


def downsample_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize mask logits to a smaller size, with antialiasing.

    Args:
        logits: (O, M, H, W).
        size: Height and width of the result in pixels.

    Returns:
        ``(O, M, *size)``, in the type of ``logits``.
    """
    # Not every device has the antialiasing kernel in half precision.
    resized = functional.interpolate(
        at_least_float32(logits),
        size=size,
        mode='bilinear',
        align_corners=False,
        antialias=True,
    )
    return resized.to(logits.dtype)


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks with antialiasing, then threshold them at one half.

    Args:
        masks: (O, 1, H, W), bool.
        size: Height and width of the result in pixels.

    Returns:
        ``(O, 1, *size)``, bool; ``masks`` itself where it has that size already.
    """
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return downsample_logits(masks.float(), size) >= 0.5


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast half precision to float32; float32 and float64 stay as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def match_weights(tensor: Tensor, weight: Tensor) -> Tensor:
    """Cast a tensor to the type of weights that are not float32.

    With float32 weights it stays as it is, since autocast chooses the type then.
    """
    return tensor if weight.dtype is torch.float32 else tensor.to(weight.dtype)


NUM_NEIGHBOURS = 8  # diagonal neighbours count as connected
# The search on the device takes this many steps at most; larger areas go to OpenCV.
MAX_DEVICE_AREA = 64
EXACT_IN_FLOAT32 = 2**24  # float32 holds whole numbers up to here exactly


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
    """Remove small parts of masks.

    Args:
        logits: (..., H, W); a mask is where they exceed the threshold.
        max_area: Largest area of a part that is removed, in pixels.
        value: Logit that removed pixels get.

    Returns:
        (..., H, W).
    """
    specks = small_components(logits > threshold, max_area)
    return torch.where(specks, value, logits)


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
    small = torch.zeros(masks.shape, dtype=torch.bool)
    host_masks = masks.reshape(-1, *masks.shape[-2:]).cpu().numpy()
    for mask, part in zip(host_masks, small.view(host_masks.shape), strict=True):
        part.copy_(torch.from_numpy(_small_components(mask, max_area)))
    return small.to(masks.device)


def small_components_on_device(masks: Tensor, max_area: float) -> Tensor:
    """Find small components without waiting for the device.

    Each pixel starts with its own number and takes the highest number among its
    neighbours in the mask, ``max_area`` times. A small component then has a single
    number; a large one may have several, but those border on each other.

    Args:
        masks: (..., H, W), bool, of fewer than 2**24 pixels each.

    Returns:
        (..., H, W), bool.
    """
    height, width = masks.shape[-2:]
    inside = masks.reshape(-1, 1, height, width).float()  # (N, 1, H, W)
    last = height * width
    numbers = torch.arange(1, last + 1, device=masks.device, dtype=torch.float32)
    labels = numbers.view(1, 1, height, width) * inside  # 0 outside
    for _ in range(int(max_area)):
        labels = functional.max_pool2d(labels, 3, stride=1, padding=1) * inside
    highest = functional.max_pool2d(labels, 3, stride=1, padding=1)
    hidden = labels + (1 - inside) * (last + 1)  # pixels outside are never the lowest
    lowest = -functional.max_pool2d(-hidden, 3, stride=1, padding=1)
    borders = inside.bool() & ((highest != labels) | (lowest != labels))
    # Count, for each number of each mask, its pixels and those next to another number.
    rows = torch.arange(len(labels), device=masks.device).view(-1, 1) * (last + 1)
    index = (labels.flatten(1).long() + rows).flatten()  # (N * H * W,)
    counts = torch.zeros(2, len(labels) * (last + 1), device=masks.device).int()
    weights = torch.stack([torch.ones_like(borders), borders]).int().flatten(1)
    areas, num_borders = counts.index_add_(1, index, weights)[:, index]
    small: Tensor = masks.flatten() & (areas <= max_area) & (num_borders == 0)
    return small.view(masks.shape)


def without_small_regions(
    mask: NDArray[np.bool_], min_area: float
) -> NDArray[np.bool_]:
    """Close the small holes of a mask, then remove its small parts.

    Where all parts are small, the largest one stays.

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


def _small_components(mask: NDArray[np.bool_], max_area: float) -> NDArray[np.bool_]:
    labels, areas = _label(mask)
    is_small = np.concatenate([[False], areas <= max_area])
    small: NDArray[np.bool_] = is_small[labels]
    return small


def _label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Label of each pixel, 0 for the background, and the areas of labels 1, 2, …."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=NUM_NEIGHBOURS
    )
    areas = np.asarray(stats[1:, cv2.CC_STAT_AREA], dtype=np.int32)
    return np.asarray(labels, dtype=np.int32), areas
