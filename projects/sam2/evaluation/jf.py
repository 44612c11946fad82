"""One scan of ground truth and prediction together, for all objects at once.

Both are packed into one byte a pixel: the value in the truth in the upper four bits,
that in the prediction in the lower four. Wherever a square of 2 x 2 pixels is not of
one value, some contour passes; everything else is read from these squares: the contour
points of every object, and, since values change nowhere else, the areas.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
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
        """Look at each square of the frame."""
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
    """Contours of objects that do not overlap."""
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
    """Contours of up to four objects that may overlap."""
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
        radius: In pixels, the distance itself included.
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


TOLERANCE = 0.008  # of the frame's diagonal
VOID_LABEL = 255
NUM_LABELS = 2**16

_FRAME = JointFrame()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScores:
    """J and F of each object, in [0, 1].

    Attributes:
        j: Region similarity: intersection over union; 1 where both masks are empty.
        f: Contour accuracy: F-measure of the contours, whose points may be
            :func:`boundary_radius` apart; 1 where neither mask has a contour.
    """

    j: tuple[float, ...]
    f: tuple[float, ...]


def boundary_radius(size: tuple[int, int]) -> int:
    """How far apart two contours may be and still match.

    Args:
        size: Height and width of the frame in pixels.
    """
    return math.ceil(TOLERANCE * np.linalg.norm(size))


def score_labels(
    pred: NDArray[Any], truth: NDArray[Any], object_ids: Sequence[int]
) -> FrameScores:
    """Score maps of labels, for all objects at once.

    Args:
        pred: See :func:`scan_labels`.

    Raises:
        ValueError: If the maps differ in size, are of another type, or a label cannot
            be that of an object.
    """
    return scan_labels(pred, truth).score(object_ids)


def scan_labels(pred: NDArray[Any], truth: NDArray[Any]) -> 'LabelScan':
    """Find the objects of a frame, to score some of them.

    Args:
        pred: (height, width), uint8 or uint16, label of each pixel, 0 for none.
        truth: Likewise. In a map of 8 bits, pixels of label 255 are ignored, and 255
            in ``pred`` is no object.

    Raises:
        ValueError: If the maps differ in size, are empty, or of another type.
    """
    _check([pred, truth])
    if not {pred.dtype, truth.dtype} <= {np.dtype(np.uint8), np.dtype(np.uint16)}:
        msg = (
            f'Expected labels of type uint8 or uint16, but got {pred.dtype} and '
            f'{truth.dtype}; score bool masks with score_masks()'
        )
        raise ValueError(msg)
    if max(int(truth.max()), int(pred.max())) < NUM_VALUES:
        return _few(pred, truth)
    if truth.dtype == np.uint8:
        pred = np.where(truth == VOID_LABEL, 0, pred)
    truth_ids, pred_ids = (_labels_of(labels) for labels in (truth, pred))
    return LabelScan(
        truth_ids=truth_ids, pred_ids=pred_ids, maps=(pred, truth), points=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScan:
    """Objects of a frame of two maps of labels.

    Attributes:
        truth_ids: Labels in the ground truth, ascending.
        pred_ids: Labels in the prediction outside of void, ascending.
        maps: Prediction and truth.
        points: Contours where the labels fit into four bits, else None.
    """

    truth_ids: tuple[int, ...]
    pred_ids: tuple[int, ...]
    maps: tuple[NDArray[Any], NDArray[Any]]
    points: ContourPoints | None

    def score(self, object_ids: Sequence[int]) -> FrameScores:
        """Score objects.

        Raises:
            ValueError: If a label cannot be that of an object.
        """
        pred, truth = self.maps
        limit = VOID_LABEL if truth.dtype == np.uint8 else NUM_LABELS
        if not all(0 < object_id < limit for object_id in object_ids):
            msg = (
                f'Objects {list(object_ids)}: expected labels from 1 to {limit - 1}; '
                'leave background and void out'
            )
            raise ValueError(msg)
        if self.points is not None:
            return _score(self.points, object_ids, (truth.shape[0], truth.shape[1]))
        scores: list[FrameScores] = []
        for first in range(0, len(object_ids), NUM_VALUES - 1):
            chosen = object_ids[first : first + NUM_VALUES - 1]
            table = np.zeros(NUM_LABELS, np.uint8)
            table[list(chosen)] = range(1, len(chosen) + 1)
            few = _few(_relabel(pred, table), _relabel(truth, table))
            scores.append(few.score(range(1, len(chosen) + 1)))
        return _join(scores)


def _labels_of(labels: NDArray[Any]) -> tuple[int, ...]:
    """Labels of objects in a map."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1))).tolist()
    void = VOID_LABEL if labels.dtype == np.uint8 else None
    return tuple(label for label in present if label not in {0, void})


def _relabel(labels: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Look the label of each pixel up."""
    if labels.dtype != np.uint8:
        new_labels: NDArray[np.uint8] = table[labels]
        return new_labels
    return np.asarray(cv2.LUT(labels, table[:256]), np.uint8)


def _few(pred: NDArray[Any], truth: NDArray[Any]) -> LabelScan:
    """Scan maps whose labels fit into four bits."""
    joint = _FRAME.begin((truth.shape[0], truth.shape[1]))
    np.multiply(truth, NUM_VALUES, out=joint, casting='unsafe')
    np.bitwise_or(joint, pred, out=joint, casting='unsafe')
    squares = _FRAME.scan()
    truth_ids, pred_ids = (
        (np.flatnonzero(squares.areas[1:].any(axis=1)) + 1).tolist(),
        (np.flatnonzero(squares.areas[:, 1:].any(axis=0)) + 1).tolist(),
    )
    points = points_of_labels(squares, max((*truth_ids, *pred_ids, 0)))
    return LabelScan(
        truth_ids=tuple(truth_ids),
        pred_ids=tuple(pred_ids),
        maps=(pred, truth),
        points=points,
    )


def score_masks(
    pred: Sequence[NDArray[np.bool_]],
    truth: Sequence[NDArray[np.bool_]],
    void: NDArray[np.bool_] | None = None,
) -> FrameScores:
    """Score masks that may overlap, four objects at a time.

    Args:
        pred: Mask (height, width) of each object, bool.
        void: (height, width), bool, pixels to ignore; None for none.

    Raises:
        ValueError: If the masks differ in size or number.
    """
    if len(pred) != len(truth):
        msg = f'Expected two masks an object, but got {len(pred)} and {len(truth)}'
        raise ValueError(msg)
    _check([*pred, *truth, *(() if void is None else (void,))])
    scores: list[FrameScores] = []
    for first in range(0, len(truth), NUM_BITS):
        chosen = slice(first, first + NUM_BITS)
        points = points_of_bits(pack_masks(pred[chosen], truth[chosen], void).scan())
        size = (truth[0].shape[0], truth[0].shape[1])
        scores.append(_score(points, range(len(truth[chosen])), size))
    return _join(scores)


def pack_masks(
    pred: Sequence[NDArray[np.bool_]],
    truth: Sequence[NDArray[np.bool_]],
    void: NDArray[np.bool_] | None = None,
) -> JointFrame:
    """Give each object a bit, see :func:`score_masks`.

    Args:
        pred: Mask (height, width) of each of one to four objects, bool.
        void: (height, width), bool, pixels to ignore; None for none.
    """
    joint = _FRAME.begin((truth[0].shape[0], truth[0].shape[1]))
    np.copyto(joint, truth[-1])
    _append(joint, truth[-2::-1])
    np.multiply(joint, 2 ** (NUM_BITS - len(truth)), out=joint)
    _append(joint, pred[::-1])
    if void is not None:
        np.copyto(joint, 0, where=void)
    return _FRAME


def _append(joint: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> None:
    """Shift the bits of each pixel and put those of masks below them."""
    for mask in masks:
        np.add(joint, joint, out=joint)
        np.bitwise_or(joint, mask, out=joint)


def _check(maps: Sequence[NDArray[Any]]) -> None:
    """Check that frames are of one size, and not empty."""
    shapes = [each.shape for each in maps]
    if len(set(shapes)) > 1 or any(len(s) != 2 or 0 in s for s in shapes):
        msg = (
            f'Expected masks (height, width) of one size, but got {shapes}; resize '
            'the prediction to the size of the ground truth'
        )
        raise ValueError(msg)


def _score(
    points: ContourPoints, planes: Sequence[int], size: tuple[int, int]
) -> FrameScores:
    """Scores of some of the objects; one without a plane is nowhere on the frame."""
    num_truth, num_pred = points.count().tolist()
    unmatched = find_unmatched(points, size, boundary_radius(size))
    missed, wrong = points.count(unmatched).tolist()
    j, f = [], []
    for plane in planes:
        if plane >= points.num_planes:
            j.append(1.0)
            f.append(1.0)
            continue
        union = float(points.unions[plane])
        j.append(float(points.intersections[plane]) / union if union else 1.0)
        counts = (num_pred[plane], wrong[plane], num_truth[plane], missed[plane])
        f.append(_f_measure(*counts))
    return FrameScores(j=tuple(j), f=tuple(f))


def _f_measure(num_pred: int, num_wrong: int, num_truth: int, num_missed: int) -> float:
    """F of the contours, rounded as the toolkit rounds it."""
    if num_pred == 0 or num_truth == 0:
        # The toolkit takes precision and recall for 1 where there is no contour to
        # be wrong about; the other of the two is then 0, and so is F.
        return float(num_pred == num_truth)
    precision = (num_pred - num_wrong) / num_pred
    recall = (num_truth - num_missed) / num_truth
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _join(scores: Sequence[FrameScores]) -> FrameScores:
    return FrameScores(
        j=tuple(value for some in scores for value in some.j),
        f=tuple(value for some in scores for value in some.f),
    )


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


def check_sizes(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.bool_] | None
) -> None:
    """Check that masks are two-dimensional and of one size.

    Args:
        void: Pixels to ignore, or None.

    Raises:
        ValueError: If they are not.
    """
    shapes = [mask.shape for mask in (pred, truth, void) if mask is not None]
    if truth.ndim != 2 or len(set(shapes)) != 1:
        msg = (
            f'Expected masks (height, width) of one size, but got {shapes}; resize '
            'the prediction to the size of the ground truth'
        )
        raise ValueError(msg)


def region_similarity(
    pred: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> float:
    """Intersection over union of two masks.

    Args:
        pred: (height, width), bool.
        truth: (height, width), bool.
        void: (height, width), bool, pixels to ignore; None for none.

    Returns:
        In [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: If the masks differ in size.
    """
    check_sizes(pred, truth, void)
    both = pred & truth
    either = pred | truth
    if void is not None:
        both &= ~void
        either &= ~void
    union = np.count_nonzero(either)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(both) / union)
