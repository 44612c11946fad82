"""One scan of ground truth and prediction together, for all objects at once.

Both are packed into one byte a pixel: the value in the truth in the upper four bits,
that in the prediction in the lower four. Wherever a square of 2 x 2 pixels is not of
one value, some contour passes; everything else is read from these squares: the contour
points of every object, and, since values change nowhere else, the areas.
"""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_VALUES = 16  # of a pixel in the truth, and as many in the prediction
_WORD = 8  # bytes looked at together


@dataclass(frozen=True, slots=True, kw_only=True)
class JointSquares:
    """Squares of 2 x 2 pixels that are not of one value.

    Attributes:
        positions: (N,), index of the upper left pixel in the flattened frame,
            ascending. The last pixel of the frame is always among them.
        corners: (4, 2, N), values in the upper left, upper right, lower left and lower
            right pixel, first of the truth, then of the prediction. Outside the frame a
            value goes on as at its edge.
        areas: (NUM_VALUES, NUM_VALUES), pixels by their values in truth and prediction.
    """

    positions: NDArray[np.int64]
    corners: NDArray[np.uint8]
    areas: NDArray[np.float64]


class JointFrame(threading.local):
    """Memory for one frame, used again for the next.

    Fresh memory of this size costs as much as the scan: the system clears each page.
    """

    def __init__(self) -> None:
        self._width = 0
        self._joint = np.empty(0, np.uint8)
        self._changed = np.empty(0, np.uint8)
        self._below = np.empty(0, np.uint8)

    def begin(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Start a frame.

        Args:
            size: Height and width.

        Returns:
            (height, width), to be filled with both values of each pixel.
        """
        num_pixels = size[0] * size[1]
        if len(self._below) != num_pixels or self._width != size[1]:
            # A copy of the last row below it, and a pixel to its right.
            self._joint = np.zeros(num_pixels + size[1] + 1, np.uint8)
            self._changed = np.zeros(-(-num_pixels // _WORD) * _WORD, np.uint8)
            self._below = np.empty(num_pixels, np.uint8)
            self._width = size[1]
        return self._joint[:num_pixels].reshape(size)

    def scan(self) -> JointSquares:
        """Look at each square of the frame.

        Returns:
            Those that are not of one value.
        """
        joint, width, num_pixels = self._joint, self._width, len(self._below)
        joint[num_pixels:-1] = joint[num_pixels - width : num_pixels]
        positions = self._changes()
        both = np.empty((4, len(positions)), np.uint8)
        for corner, offset in zip(both, (0, 1, width, width + 1), strict=True):
            # No position is outside; mode 'clip' spares numpy the look.
            joint[offset:].take(positions, out=corner, mode='clip')
        areas = _areas(positions, both)
        # To the right of the last column goes on what is in it.
        rows = np.flatnonzero(self._changed[width - 1 : num_pixels : width])
        last = np.searchsorted(positions, rows * width + width - 1)
        both[1, last] = both[0, last]
        both[3, last] = both[2, last]
        corners = np.empty((4, 2, len(positions)), np.uint8)
        np.floor_divide(both, NUM_VALUES, out=corners[:, 0])
        np.bitwise_and(both, NUM_VALUES - 1, out=corners[:, 1])
        return JointSquares(positions=positions, corners=corners, areas=areas)

    def _changes(self) -> NDArray[np.int64]:
        """Positions of the squares, and of pixels at which a run may end.

        In the last column the pixel to the right is the first of the next row, which
        counts for runs alone.
        """
        joint, width, num_pixels = self._joint, self._width, len(self._below)
        changed, below = self._changed[:num_pixels], self._below
        np.bitwise_xor(joint[:num_pixels], joint[1 : num_pixels + 1], out=changed)
        np.bitwise_xor(joint[:num_pixels], joint[width:-1], out=below)
        np.bitwise_or(changed, below, out=changed)
        np.bitwise_or(changed[:-1], below[1:], out=changed[:-1])
        changed[-1] = 1
        # Most words are zero; the bytes of the others are few.
        words = self._changed.view(np.uint64)
        found = np.flatnonzero(words != 0)
        inside = np.flatnonzero(words.take(found).view(np.bool_))
        return (found.take(inside >> 3) << 3) | (inside & 7)


def _areas(
    positions: NDArray[np.int64], corners: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Areas from the runs of equal pixels in the flattened frame."""
    is_end = corners[0] != corners[1]
    is_end[-1] = True
    found = np.flatnonzero(is_end)
    ends = positions.take(found)
    lengths = ends.copy()
    lengths[0] += 1
    lengths[1:] -= ends[:-1]
    values = corners[0].take(found)
    areas = np.bincount(values, weights=lengths, minlength=NUM_VALUES**2)
    return areas.astype(np.float64).reshape(NUM_VALUES, NUM_VALUES)
