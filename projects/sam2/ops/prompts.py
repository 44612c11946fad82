"""Prompts of a simulated user: boxes and correction clicks.

Ravi et al. (2024), appendix D.2.2. The functions are deterministic: random numbers are
arguments.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..structures import PointLabel, PointPrompt
from .masks import masks_to_boxes

BOX_NOISE_FRACTION = 0.1
BOX_NOISE_LIMIT = 20.0  # pixels


def sample_error_points(
    truth: Tensor,
    prediction: Tensor | None,
    uniform: Tensor,
    void: Tensor | None = None,
) -> PointPrompt:
    """Click on a random pixel that is wrong.

    A missing pixel gets a positive click, a false positive a negative click; all wrong
    pixels are equally probable. A perfect prediction gets a negative click anywhere
    outside the object.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None for a first click on the object.
        uniform: (O,), float64 in [0, 1): the fraction of the wrong pixels, row by row
            and false positives first, that comes before the click.
        void: Pixels that get no click, (O | 1, 1, H, W), bool, or None.

    Returns:
        One point per object; a negative one at ``(0, 0)`` where no pixel is left.
    """
    clickable = clickable_pixels(truth, prediction, void)
    objects = torch.arange(len(truth), device=truth.device)
    # Find the row first, then the column: no cumulative sum over whole frames.
    rows = clickable.flatten(1, 2)  # (O, 2, H, W) -> (O, 2H, W)
    per_row = rows.view(torch.uint8).sum(dim=2, dtype=torch.int32)  # (O, 2H)
    up_to_row = per_row.cumsum(dim=1)
    total = up_to_row[:, -1]
    # The product may round up to the total, which is beyond the last pixel.
    rank = torch.minimum((uniform * total).long(), (total - 1).clamp(min=0))
    row = (up_to_row <= rank[:, None]).sum(dim=1)
    row = torch.where(total > 0, row, 0)
    rank_in_row = rank - (up_to_row - per_row)[objects, row]
    column = (rows[objects, row].cumsum(dim=1) <= rank_in_row[:, None]).sum(dim=1)
    column = torch.where(total > 0, column, 0)
    height = truth.shape[-2]
    return _clicks(x=column, y=row % height, is_positive=row >= height)


def clickable_pixels(
    truth: Tensor, prediction: Tensor | None, void: Tensor | None = None
) -> Tensor:
    """Pixels on which a random click may fall.

    Returns:
        (O, 2, H, W), bool: for negative clicks, then for positive ones.
    """
    errors = error_regions(truth, prediction, void)
    is_perfect = ~errors.flatten(1).any(dim=1)[:, None, None, None]
    background = ~truth if void is None else ~truth & ~void
    errors[:, :1] |= is_perfect & background
    return errors


def center_error_points(
    truth: Tensor, prediction: Tensor | None, void: Tensor | None = None
) -> PointPrompt:
    """Click in the middle of the largest error, as an attentive user does.

    The middle is the pixel farthest from the border of the error region, where the
    frame's edge is a border too; of several, the first in row-major order. OpenCV
    finds it on the CPU, so the call waits for a GPU.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None for a first click on the object.
        void: Pixels that are never wrong, (O | 1, 1, H, W), bool, or None.

    Returns:
        One point per object; a negative one at ``(0, 0)`` for a perfect prediction.
    """
    pixels, signs = [], []
    for false_positives, false_negatives in (
        error_regions(truth, prediction, void).cpu().numpy()
    ):
        negative_pixel, negative_depth = _deepest_pixel(false_positives)
        positive_pixel, positive_depth = _deepest_pixel(false_negatives)
        signs.append(positive_depth > negative_depth)
        pixels.append(positive_pixel if signs[-1] else negative_pixel)
    pixel = torch.tensor(pixels, dtype=torch.int64, device=truth.device)
    is_positive = torch.tensor(signs, dtype=torch.bool, device=truth.device)
    width = truth.shape[-1]
    return _clicks(x=pixel % width, y=pixel // width, is_positive=is_positive)


def error_regions(
    truth: Tensor, prediction: Tensor | None, void: Tensor | None = None
) -> Tensor:
    """Compare a prediction with the truth.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None stands for an empty one.
        void: Pixels that are never wrong, (O | 1, 1, H, W), bool, or None.

    Returns:
        (O, 2, H, W), bool: false positives, then false negatives.

    Raises:
        ValueError: If the masks are not bool or differ in shape.
    """
    if prediction is None:
        prediction = torch.zeros_like(truth)
    if {truth.dtype, prediction.dtype} != {torch.bool}:
        msg = (
            f'Expected bool masks, but got {truth.dtype} and {prediction.dtype}; '
            'compare logits with 0 first'
        )
        raise ValueError(msg)
    if truth.shape != prediction.shape or truth.ndim != 4 or truth.shape[1] != 1:
        msg = (
            f'Expected truth and prediction (O, 1, H, W), but got '
            f'{tuple(truth.shape)} and {tuple(prediction.shape)}'
        )
        raise ValueError(msg)
    errors = torch.cat([~truth & prediction, truth & ~prediction], dim=1)
    return errors if void is None else errors & ~void


def _deepest_pixel(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Index of the pixel of a region (H, W) farthest from its border; its distance²."""
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if not width:
        return 0, 0
    # Everything outside the region's bounding box is border.
    part = region[top : top + height, left : left + width]
    padded = np.pad(part.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The last bits of equal distances depend on where the array lies in memory. Their
    # squares are whole numbers, which rounding finds exactly up to some 880 pixels.
    deep = np.flatnonzero(depth > 0.999 * depth.max())
    squares = np.rint(np.square(depth.flat[deep], dtype=np.float64)).astype(int)
    first = int(squares.argmax())
    row, column = np.unravel_index(deep[first], depth.shape)
    index = (top + int(row) - 1) * region.shape[1] + left + int(column) - 1
    return index, int(squares[first])


def _clicks(*, x: Tensor, y: Tensor, is_positive: Tensor) -> PointPrompt:
    """One click per object, (O,) each, as a prompt."""
    labels = torch.where(is_positive, PointLabel.POSITIVE, PointLabel.NEGATIVE)
    coords = torch.stack([x, y], dim=-1).float()
    return PointPrompt(coords=coords[:, None], labels=labels.int()[:, None])


def jittered_boxes(masks: Tensor, noise: Tensor) -> PointPrompt:
    """Make an imprecise box around each mask, as a prompt.

    Args:
        masks: (O, 1, H, W), bool.
        noise: (O, 4), uniform in [0, 1), for :func:`jitter_boxes`.
    """
    height, width = masks.shape[-2:]
    return boxes_to_points(jitter_boxes(masks_to_boxes(masks), noise, (height, width)))


def jitter_boxes(boxes: Tensor, noise: Tensor, size: tuple[int, int]) -> Tensor:
    """Move the corners of boxes at random, as an imprecise user draws them.

    A corner moves by at most a tenth of the box's size and at most 20 pixels, and stays
    inside the frame.

    Args:
        boxes: (O, 4), corners ``(x, y, x, y)``.
        noise: (O, 4), uniform in [0, 1); 0.5 leaves a coordinate unchanged.
        size: Height and width of the frame in pixels.

    Returns:
        (O, 4), the moved corners.
    """
    height, width = size
    extent = (boxes[:, 2:] - boxes[:, :2]) * BOX_NOISE_FRACTION
    reach = extent.clamp(max=BOX_NOISE_LIMIT).repeat(1, 2)
    moved = (boxes + (2 * noise - 1) * reach).clamp(min=0)
    x, y = moved.unflatten(1, (2, 2)).unbind(2)  # (O, 4) -> (O, 2) each
    corners = torch.stack([x.clamp(max=width - 1), y.clamp(max=height - 1)], dim=2)
    return corners.flatten(1)  # (O, 2, 2) -> (O, 4)


def boxes_to_points(boxes: Tensor) -> PointPrompt:
    """Convert boxes to the two corner points by which the prompt encoder embeds them.

    Args:
        boxes: (O, 4), corners ``(x, y, x, y)``.
    """
    labels = torch.full((len(boxes), 2), PointLabel.BOX_TOP_LEFT, device=boxes.device)
    labels[:, 1] = PointLabel.BOX_BOTTOM_RIGHT
    return PointPrompt(coords=boxes.reshape(-1, 2, 2), labels=labels.int())
