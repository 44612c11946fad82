"""Contour accuracy F of one mask (Perazzi et al., 2016)."""

import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.contour_points import points_of_bits
from projects.sam2.evaluation.frame_scores import pack_masks, score_masks


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
    points = points_of_bits(pack_masks([mask], [mask]).scan())
    contour = np.zeros(mask.shape, np.bool_)
    contour.reshape(-1)[points.positions] = True
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
    return score_masks([pred], [truth], void).f[0]
