"""Where a simulated user clicks to correct a mask (Ravi et al., 2024, appendix D)."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..structures import PointLabel, PointPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRegions:
    """Where a prediction differs from the truth.

    Attributes:
        false_positives: (O, 1, H, W), bool, predicted but not true.
        false_negatives: (O, 1, H, W), bool, true but not predicted.
        outside: (O, 1, H, W), bool, known not to be true.
    """

    false_positives: Tensor
    false_negatives: Tensor
    outside: Tensor

    def clickable(self) -> Tensor:
        """Pixels that a click may fall on.

        Returns:
            (O, 2, H, W), bool, where a negative and where a positive click may
            fall. Without any error, a negative one falls anywhere outside.
        """
        wrong = self.false_positives | self.false_negatives
        perfect = ~wrong.flatten(1).any(dim=1)[:, None, None, None]
        negative = self.false_positives | (perfect & self.outside)
        return torch.cat([negative, self.false_negatives], dim=1)


def error_regions(
    truth: Tensor, prediction: Tensor | None, ignored: Tensor | None = None
) -> ErrorRegions:
    """Compare a prediction with the truth.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None stands for an empty one.
        ignored: Void pixels, which are never wrong, (O | 1, 1, H, W), bool, or None.

    Returns:
        The pixels predicted wrongly.

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
    inside, outside = truth, ~truth
    if ignored is not None:
        inside, outside = inside & ~ignored, outside & ~ignored
    return ErrorRegions(
        false_positives=outside & prediction,
        false_negatives=inside & ~prediction,
        outside=outside,
    )


def sample_error_points(
    truth: Tensor,
    prediction: Tensor | None,
    *,
    generator: torch.Generator,
    ignored: Tensor | None = None,
) -> PointPrompt:
    """Click on a random pixel that is wrong.

    A pixel missing from the prediction gets a positive click, a surplus one a
    negative click, all wrong pixels with the same probability. A perfect
    prediction gets a negative click anywhere outside the object.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None asks for a first click on the object.
        ignored: Void pixels, which get no click, (O | 1, 1, H, W), bool, or None.
    """
    uniform = torch.rand(
        len(truth), generator=generator, device=generator.device, dtype=torch.float64
    )
    return error_points_from_uniform(
        truth, prediction, uniform.to(truth.device), ignored
    )


def error_points_from_uniform(
    truth: Tensor,
    prediction: Tensor | None,
    uniform: Tensor,
    ignored: Tensor | None = None,
) -> PointPrompt:
    """Choose the click of :func:`sample_error_points` by its rank among the pixels.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool, or None.
        uniform: (O,), float64 in [0, 1); which share of the wrong pixels, in the
            order of reading, comes before the click.
        ignored: Void pixels, which get no click, (O | 1, 1, H, W), bool, or None.

    Returns:
        One point for each object; ``(0, 0)``, negative, for an object that fills
        what is known of the frame and is predicted perfectly.
    """
    clickable = error_regions(truth, prediction, ignored).clickable()
    objects = torch.arange(len(truth), device=truth.device)
    # Rows first, then one row alone: no running sum over whole frames.
    rows = clickable.flatten(1, 2)  # (O, 2, H, W) -> (O, 2H, W)
    per_row = rows.view(torch.uint8).sum(dim=2, dtype=torch.int32)
    upto_row = per_row.cumsum(dim=1)
    total = upto_row[:, -1]
    # A product that rounds up to the count itself would miss the last pixel.
    rank = torch.minimum((uniform * total).long(), (total - 1).clamp(min=0))
    row = (upto_row <= rank[:, None]).sum(dim=1)
    row = torch.where(total > 0, row, 0)
    rank_in_row = rank - (upto_row - per_row)[objects, row]
    column = (rows[objects, row].cumsum(dim=1) <= rank_in_row[:, None]).sum(dim=1)
    column = torch.where(total > 0, column, 0)
    height = truth.shape[-2]
    return _clicks(
        x=column[:, None],
        y=(row % height)[:, None],
        is_positive=(row >= height)[:, None],
    )


def error_points_from_noise(
    truth: Tensor, prediction: Tensor | None, noise: Tensor
) -> PointPrompt:
    """Choose clicks as the released code does: where masked noise is largest.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool, or None.
        noise: (O, P, H, W, 2), uniform in [0, 1).

    Returns:
        ``P`` points for each object, distributed as in
        :func:`sample_error_points`.
    """
    clickable = error_regions(truth, prediction).clickable()
    # (O, 2, H, W) -> (O, 1, H, W, 2), the order in which the noise is drawn
    masked = noise * clickable.movedim(1, -1)[:, None]
    index = masked.flatten(2).argmax(dim=2)
    width = truth.shape[-1]
    pixel = index // 2
    return _clicks(x=pixel % width, y=pixel // width, is_positive=index % 2 == 1)


def center_error_points(
    truth: Tensor, prediction: Tensor | None, ignored: Tensor | None = None
) -> PointPrompt:
    """Click in the middle of the largest error, as an attentive user does.

    The middle is the pixel farthest from the border of the wrong region, the
    frame's edge being a border too; the first in the order of reading where several
    are as far.

    Args:
        truth: (O, 1, H, W), bool.
        prediction: (O, 1, H, W), bool; None asks for a first click on the object.
        ignored: Void pixels, which get no click, (O | 1, 1, H, W), bool, or None.

    Returns:
        One point for each object; ``(0, 0)``, negative, for a perfect prediction.
    """
    regions = error_regions(truth, prediction, ignored)
    surplus = regions.false_positives.flatten(0, 1).cpu().numpy()
    missing = regions.false_negatives.flatten(0, 1).cpu().numpy()
    pixels, signs = [], []
    for one_surplus, one_missing in zip(surplus, missing, strict=True):
        negative_pixel, negative_square = _deepest(one_surplus)
        positive_pixel, positive_square = _deepest(one_missing)
        signs.append(positive_square > negative_square)
        pixels.append(positive_pixel if signs[-1] else negative_pixel)
    pixel = torch.tensor(pixels, dtype=torch.int64, device=truth.device)[:, None]
    is_positive = torch.tensor(signs, dtype=torch.bool, device=truth.device)[:, None]
    width = truth.shape[-1]
    return _clicks(x=pixel % width, y=pixel // width, is_positive=is_positive)


def _deepest(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Find the pixel of a region (H, W) farthest from its border, and how far."""
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if not width:
        return 0, 0
    # Beyond the region's box all is border, whether frame or edge.
    part = region[top : top + height, left : left + width]
    padded = np.pad(part.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Equal distances differ in their last bits, by where the array lies in memory;
    # their squares are whole numbers, found exactly up to some 880 pixels.
    deep = np.flatnonzero(depth > 0.999 * depth.max())
    squares = np.rint(np.square(depth.flat[deep], dtype=np.float64)).astype(int)
    first = int(squares.argmax())
    row, column = np.unravel_index(deep[first], depth.shape)
    index = (top + int(row) - 1) * region.shape[1] + left + int(column) - 1
    return index, int(squares[first])


def _clicks(*, x: Tensor, y: Tensor, is_positive: Tensor) -> PointPrompt:
    """Write clicks, (O, P) each, as a prompt."""
    labels = torch.where(is_positive, PointLabel.POSITIVE, PointLabel.NEGATIVE)
    return PointPrompt(coords=torch.stack([x, y], dim=-1).float(), labels=labels.int())
