"""Contour accuracy F (Perazzi et al., 2016), equal to the DAVIS toolkit's."""

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.jaccard import check_sizes

TOLERANCE = 0.008  # of the frame's diagonal


def boundary_radius(size: tuple[int, int]) -> int:
    """How far apart two contours may be and still match.

    Args:
        size: Height and width of the frame in pixels.

    Returns:
        Pixels.
    """
    return math.ceil(TOLERANCE * np.linalg.norm(size))


def boundary_map(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Contour of a mask, one pixel wide.

    A pixel belongs to it if it differs from its neighbour to the right, below or
    below right. Outside the frame the mask goes on as at its edge, so that the edge
    of the frame is no contour.

    Args:
        mask: (height, width), bool.

    Returns:
        (height, width), bool.
    """
    edged = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    contour: NDArray[np.bool_] = mask ^ edged[:-1, 1:]
    contour |= mask ^ edged[1:, :-1]
    contour |= mask ^ edged[1:, 1:]
    return contour


def boundary_f(
    pred: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> float:
    """F-measure of the contours of two masks.

    Precision is the share of the predicted contour that lies within
    :func:`boundary_radius` of the true one, recall the reverse.

    Args:
        pred: (height, width), bool.
        truth: (height, width), bool.
        void: (height, width), bool, pixels to ignore; None for none.

    Returns:
        In [0, 1]; 1 where neither mask has a contour.

    Raises:
        ValueError: If the masks differ in size.
    """
    check_sizes(pred, truth, void)
    radius = boundary_radius((truth.shape[0], truth.shape[1]))
    if void is not None:
        pred, truth = pred & ~void, truth & ~void
    window = _window(pred | truth)
    pred_contour = boundary_map(pred[window])
    truth_contour = boundary_map(truth[window])
    num_pred = np.count_nonzero(pred_contour)
    num_truth = np.count_nonzero(truth_contour)
    if num_pred == 0 or num_truth == 0:
        # The toolkit takes precision and recall for 1 where there is no contour to
        # be wrong about; the other of the two is then 0, and so is F.
        return float(num_pred == num_truth)
    precision = np.count_nonzero(pred_contour & _widen(truth_contour, radius))
    recall = np.count_nonzero(truth_contour & _widen(pred_contour, radius))
    return _harmonic_mean(precision / num_pred, recall / num_truth)


def _harmonic_mean(precision: float, recall: float) -> float:
    """F of precision and recall, rounded as the toolkit rounds it."""
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Where contours can be: the box around a mask and one pixel about it.

    Matches are counted on contours alone, so that what widened contours cover
    outside of it does not matter.
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows = slice(max(top - 1, 0), top + height + 1)
    return rows, slice(max(left - 1, 0), left + width + 1)


def _widen(contour: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """All pixels within a radius of a contour."""
    widened = cv2.dilate(contour.view(np.uint8), _disk(radius))
    return widened.view(np.bool_)


@lru_cache(maxsize=16)
def _disk(radius: int) -> NDArray[np.uint8]:
    """Pixels whose centre is at most ``radius`` from the middle one."""
    offset = np.arange(-radius, radius + 1)
    return (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.uint8)
