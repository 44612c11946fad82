"""Which contour points have a partner within the radius; exact, and seldom measured.

A point is matched if its cell of a grid holds a point of the other contour of the same
object: cells are so small that any two pixels of one are near enough. A second grid,
shifted by half a cell, finds most of the rest. What is left is tested row by row, each
row of the disk as a window of 64 pixels, one bit a pixel.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.contour_points import ContourPoints

_BLOCK = 2048  # points that are tested row by row at a time
_BITS = 64  # pixels of a row in one word
_SHIFT = 6
_ALL_BITS = 2**_BITS - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Cell of each row and column, multiplied by the number of planes."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    num_places: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """Rows of a disk as masks of words.

    Attributes:
        masks: (words in a row, 2 · radius + 1), bits of the disk from its left edge on.
        rows: (2 · radius + 1,), from the middle row, in words of the table.
    """

    masks: NDArray[np.uint64]
    rows: NDArray[np.int64]


def find_unmatched(
    points: ContourPoints, size: tuple[int, int], radius: int
) -> NDArray[np.int64]:
    """Find the points with no partner within a radius.

    Args:
        points: Contours of truth and prediction.
        size: Height and width of the frame.
        radius: In pixels, the distance itself included.

    Returns:
        Indices of the points, ascending.
    """
    rows = points.positions // size[1]
    columns = points.positions - rows * size[1]
    places = (rows, columns, points.planes)
    grids = [
        _grid(size, radius, 2 * points.num_planes, shifted=shifted)
        for shifted in (False, True)
    ]
    left = _find_alone(places, grids[0], points.num_planes)
    left = _find_alone(places, grids[1], points.num_planes, left)
    if not len(left):
        return left
    table = _RowTable(points, rows, columns, size, radius)
    blocks = [left[i : i + _BLOCK] for i in range(0, len(left), _BLOCK)]
    return np.concatenate([block[~table.near(block)] for block in blocks])


@lru_cache(maxsize=16)
def _grid(
    size: tuple[int, int], radius: int, num_planes: int, *, shifted: bool
) -> _Grid:
    """A grid of cells whose corners are at most a radius apart."""
    side = math.isqrt(radius**2 // 2) + 1
    rows, columns = (
        (np.arange(length) + (side // 2 if shifted else 0)) // side for length in size
    )
    num_columns = int(columns[-1]) + 1
    return _Grid(
        rows=rows * num_columns * num_planes,
        columns=columns * num_planes,
        num_places=(int(rows[-1]) + 1) * num_columns * num_planes,
    )


def _find_alone(
    places: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    grid: _Grid,
    num_planes: int,
    asked: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Which points have no partner in their cell, of all or of those asked about.

    ``places`` are the rows, columns and planes of all points.
    """
    rows, columns, planes = places
    cells = grid.rows.take(rows)
    cells += grid.columns.take(columns)
    cells += planes
    held = np.zeros(grid.num_places, np.bool_)
    held[cells] = True
    if asked is None:
        return np.flatnonzero(~held.take(cells ^ num_planes))
    cells = cells.take(asked)
    return asked.take(np.flatnonzero(~held.take(cells ^ num_planes)))


class _RowTable:
    """Contours as bits, 64 pixels of a row in a word, a margin about each plane."""

    def __init__(
        self,
        points: ContourPoints,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        size: tuple[int, int],
        radius: int,
    ) -> None:
        height, width = size
        margin = -(-radius // _BITS)
        row_words = -(-width // _BITS) + 2 * margin + 1
        plane_words = (height + 2 * radius) * row_words
        words = np.zeros(2 * points.num_planes * plane_words, np.uint64)
        starts = (rows + radius) * row_words + margin
        bits = np.left_shift(np.uint64(1), (columns & (_BITS - 1)).astype(np.uint64))
        places = points.planes * plane_words + starts + (columns >> _SHIFT)
        np.bitwise_or.at(words, places, bits)
        starts += (points.planes ^ points.num_planes) * plane_words
        self._words = words
        self._starts = starts
        self._left_edges = columns - radius
        self._windows = _windows(radius, row_words)

    def near(self, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of some points has a partner in its disk."""
        edges = self._left_edges.take(chosen)
        first = self._starts.take(chosen) + (edges >> _SHIFT)
        places = first + self._windows.rows[:, None]
        shift = (edges & (_BITS - 1)).astype(np.uint64)
        found = np.zeros(len(chosen), np.uint64)
        for masks in self._windows.masks:
            # A window ends in the word after the one in which it begins.
            window = self._words.take(places) >> shift
            places += 1
            window |= self._words.take(places) << (np.uint64(_BITS) - shift)
            window &= masks[:, None]
            found |= np.bitwise_or.reduce(window, axis=0)
        near: NDArray[np.bool_] = found != 0
        return near


@lru_cache(maxsize=16)
def _windows(radius: int, row_words: int) -> _Windows:
    """Rows of a disk."""
    offsets = range(-radius, radius + 1)
    halves = [math.isqrt(radius**2 - offset**2) for offset in offsets]
    rows = [((1 << (2 * half + 1)) - 1) << (radius - half) for half in halves]
    num_words = -(-(2 * radius + 1) // _BITS)
    masks = [
        [(row >> (_BITS * i)) & _ALL_BITS for row in rows] for i in range(num_words)
    ]
    return _Windows(
        masks=np.array(masks, np.uint64),
        rows=np.arange(-radius, radius + 1) * row_words,
    )
