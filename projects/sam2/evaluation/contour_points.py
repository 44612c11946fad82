"""Contour points of all objects of a frame, from the squares of a joint scan.

A pixel belongs to the contour of an object if it differs from its neighbour to the
right, below or below right in being of the object (Perazzi et al., 2016): so do the
upper left pixels of the squares that hold the object and anything else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.joint_scan import NUM_VALUES, JointSquares

NUM_BITS = 4  # objects in a value where masks may overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class ContourPoints:
    """Points of the contours of all objects, and the areas.

    Attributes:
        positions: (N,), index in the flattened frame; a position comes once for each
            contour that it belongs to.
        planes: (N,), contour of each: the object's number for the truth, and
            ``num_planes`` more for the prediction.
        num_planes: More than the largest number of an object; a power of two, so that
            ``planes ^ num_planes`` is the contour of the partners.
        intersections: Pixels of each object in truth and prediction.
        unions: Pixels of each object in either.
    """

    positions: NDArray[np.int64]
    planes: NDArray[np.int64]
    num_planes: int
    intersections: NDArray[np.float64]
    unions: NDArray[np.float64]

    def count(self, chosen: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Count points.

        Args:
            chosen: Indices of those to count; None for all.

        Returns:
            (2, num_planes), by object, for truth and prediction.
        """
        planes = self.planes if chosen is None else self.planes.take(chosen)
        counts = np.bincount(planes, minlength=2 * self.num_planes)
        return counts.reshape(2, self.num_planes)


def points_of_labels(squares: JointSquares, largest: int) -> ContourPoints:
    """Contours of objects that do not overlap.

    Args:
        squares: Of maps of labels.
        largest: Label on the frame.

    Returns:
        Points; the number of an object is its label.
    """
    num_planes = 1 << largest.bit_length()
    corners = squares.corners.copy()
    corners[:, 1] |= num_planes
    corners = corners.reshape(4, -1)
    first, right, below, across = corners
    low = np.minimum(np.minimum(first, right), np.minimum(below, across))
    high = np.maximum(np.maximum(first, right), np.maximum(below, across))
    upper = np.flatnonzero(low != high)
    low_planes = low.take(upper)
    is_object = np.flatnonzero(low_planes & (num_planes - 1))
    found = [upper, upper.take(is_object)]
    planes = [high.take(upper), low_planes.take(is_object)]
    between = (corners != low) & (corners != high)
    if between.any():
        rare = np.flatnonzero(np.bitwise_or.reduce(between, axis=0))
        # The two in the middle, of which either may be one of the others again.
        lowest, second, third, highest = np.sort(corners.take(rare, axis=1), axis=0)
        new = np.flatnonzero((second != lowest) & (second != highest))
        newer = np.flatnonzero((third != second) & (third != highest))
        found += [rare.take(new), rare.take(newer)]
        planes += [second.take(new), third.take(newer)]
    both = squares.areas.diagonal()
    positions = np.concatenate((squares.positions, squares.positions))
    return ContourPoints(
        positions=positions.take(np.concatenate(found)),
        planes=np.concatenate(planes, dtype=np.int64),
        num_planes=num_planes,
        intersections=both,
        unions=squares.areas.sum(axis=0) + squares.areas.sum(axis=1) - both,
    )


def points_of_bits(squares: JointSquares) -> ContourPoints:
    """Contours of up to four objects that may overlap.

    Args:
        squares: Of maps in which each object has a bit.

    Returns:
        Points; the number of an object is that of its bit.
    """
    first, right, below, across = squares.corners.reshape(4, -1)
    changed = (first ^ right) | (first ^ below) | (first ^ across)
    # Eight bits a square, of which the upper four are zero.
    found = np.flatnonzero(np.unpackbits(changed, bitorder='little').view(np.bool_))
    positions = np.concatenate((squares.positions, squares.positions))
    is_pred = found >= 8 * len(squares.positions)
    members = (np.arange(NUM_VALUES)[:, None] >> np.arange(NUM_BITS)) & 1
    both = np.einsum('tp,tk,pk->k', squares.areas, members, members)
    areas = squares.areas.sum(axis=0) + squares.areas.sum(axis=1)
    return ContourPoints(
        positions=positions.take(found >> 3),
        planes=(found & 7) + is_pred * np.int64(NUM_BITS),
        num_planes=NUM_BITS,
        intersections=both,
        unions=areas @ members - both,
    )
