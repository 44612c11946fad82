"""J and F of the objects of one frame, as the DAVIS toolkit defines them.

J (region similarity) is the intersection over union of two masks. F (contour accuracy)
compares their contours: precision is the share of the predicted contour that lies
within a small radius of the true one, recall the reverse, and F their harmonic mean.
:func:`region_similarity` and :func:`boundary_map` are written as they are defined.

The toolkit draws whole masks for each object and dilates whole contour maps. Here the
cost depends on the length of the contours, and hardly on the number of objects:

1. **Pack** ground truth and prediction into one byte per pixel: the label in the truth
   in the upper four bits, that in the prediction in the lower four. Masks that may
   overlap get a bit each. More objects than fit are scored in groups.
2. **Scan** for squares of 2 x 2 pixels whose bytes differ, eight bytes at a time. Every
   contour passes through such a square, and they are a few percent of the frame. They
   also bound the runs of equal bytes, whose lengths add up to all areas, which give J.
3. **Collect** the contour points of all objects from the corners of these squares.
4. **Match** each point with the other contour of its object. Most points have a partner
   in the same cell of a grid whose cells fit into the radius, or of that grid shifted
   by half a cell. Only the others are compared with the disk, 64 pixels at a time.
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

from ..structures import VOID_LABEL

Mask = NDArray[np.bool_]
Size = tuple[int, int]

TOLERANCE = 0.008  # radius within which contours match, as a share of the diagonal
NUM_LABELS = 2**16
NUM_VALUES = 16  # that fit into half a byte: background and 15 labels
NUM_BITS = 4  # overlapping masks that fit into half a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScores:
    """J and F of each object, in [0, 1].

    Attributes:
        j: 1 where both masks are empty.
        f: 1 where neither mask has a contour.
    """

    j: tuple[float, ...]
    f: tuple[float, ...]


def score_labels(
    pred: NDArray[Any], truth: NDArray[Any], object_ids: Sequence[int]
) -> FrameScores:
    """Score two label maps, all objects at once.

    Args:
        pred: See :func:`scan_labels`.

    Raises:
        ValueError: If the maps differ in size, have another type, or if an id cannot be
            the label of an object.
    """
    return scan_labels(pred, truth).score(object_ids)


def score_masks(
    pred: Sequence[Mask],
    truth: Sequence[Mask],
    void: Mask | None = None,
    *,
    radius: float | None = None,
) -> FrameScores:
    """Score masks that may overlap.

    Args:
        pred: A mask (height, width) for each object, bool.
        void: (height, width), bool, pixels to ignore.
        radius: In pixels, within which two contours match (:func:`disk_kernel`); None
            for that of DAVIS, :func:`boundary_radius`.

    Raises:
        ValueError: If the masks differ in size or number.
    """
    if len(pred) != len(truth):
        msg = f'Expected two masks an object, but got {len(pred)} and {len(truth)}'
        raise ValueError(msg)
    _check_sizes([*pred, *truth, *([] if void is None else [void])])
    scores = FrameScores(j=(), f=())
    for first in range(0, len(truth), NUM_BITS):
        group = slice(first, first + NUM_BITS)
        packed = _pack_masks(pred[group], truth[group], void)
        points = points_of_bits(scan_squares(packed))
        objects = range(len(truth[group]))
        group_scores = _score_points(points, objects, packed.size, radius)
        scores = _concatenated(scores, group_scores)
    return scores


def region_similarity(pred: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Compute J of one object: the intersection over union of two masks.

    Args:
        pred: (height, width), bool.
        truth: (height, width), bool.
        void: (height, width), bool, pixels to ignore.

    Returns:
        In [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: If the masks differ in size.
    """
    _check_sizes([pred, truth, *([] if void is None else [void])])
    intersection, union = pred & truth, pred | truth
    if void is not None:
        intersection &= ~void
        union &= ~void
    area = np.count_nonzero(union)
    return float(np.count_nonzero(intersection) / area) if area else 1.0


def boundary_f(
    pred: Mask,
    truth: Mask,
    void: Mask | None = None,
    *,
    radius: float | None = None,
) -> float:
    """Compute F of one object.

    Args:
        pred: (height, width), bool.
        truth: (height, width), bool.
        void: (height, width), bool, pixels to ignore.
        radius: See :func:`score_masks`.

    Returns:
        In [0, 1]; 1 where neither mask has a contour.

    Raises:
        ValueError: If the masks differ in size.
    """
    return score_masks([pred], [truth], void, radius=radius).f[0]


def boundary_map(mask: Mask) -> Mask:
    """Draw the contour of a mask, one pixel wide.

    A pixel belongs to it if it differs from the pixel to its right, below it, or below
    and to its right. The edge of the frame is not a contour.

    Args:
        mask: (height, width), bool.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    contour: Mask = (mask != right) | (mask != below) | (mask != diagonal)
    return contour


def boundary_radius(size: Size) -> int:
    """Radius in pixels within which two contours match.

    Args:
        size: Height and width of the frame in pixels.
    """
    return math.ceil(TOLERANCE * np.linalg.norm(size))


def scan_labels(pred: NDArray[Any], truth: NDArray[Any]) -> 'LabelScan':
    """Find the objects of two label maps, before it is known which ones count.

    Args:
        pred: (height, width), uint8 or uint16, label of each pixel, 0 for background.
        truth: Likewise. In a map of 8 bits, pixels of label 255 are ignored, and 255
            in ``pred`` is background.

    Raises:
        ValueError: If the maps differ in size, are empty, or have another type.
    """
    _check_sizes([pred, truth])
    if not {pred.dtype, truth.dtype} <= {np.dtype(np.uint8), np.dtype(np.uint16)}:
        msg = (
            f'Expected labels of type uint8 or uint16, but got {pred.dtype} and '
            f'{truth.dtype}; score bool masks with score_masks()'
        )
        raise ValueError(msg)
    if max(int(truth.max()), int(pred.max())) < NUM_VALUES:
        return _scan_small_labels(pred, truth)
    if truth.dtype == np.uint8:
        pred = np.where(truth == VOID_LABEL, 0, pred)
    return LabelScan(
        pred=pred, truth=truth, pred_ids=_labels_in(pred), truth_ids=_labels_in(truth)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScan:
    """Objects of two label maps, ready to be scored.

    Attributes:
        pred: (height, width), labels.
        truth: (height, width), labels.
        pred_ids: Labels in the prediction outside of void, ascending.
        truth_ids: Labels in the ground truth, ascending.
        points: Contours, where all labels fit into four bits; else None.
    """

    pred: NDArray[Any]
    truth: NDArray[Any]
    pred_ids: tuple[int, ...]
    truth_ids: tuple[int, ...]
    points: 'ContourPoints | None' = None

    def score(self, object_ids: Sequence[int]) -> FrameScores:
        """Score objects.

        Raises:
            ValueError: If an id cannot be the label of an object.
        """
        limit = VOID_LABEL if self.truth.dtype == np.uint8 else NUM_LABELS
        if not all(0 < object_id < limit for object_id in object_ids):
            msg = (
                f'Objects {list(object_ids)}: expected labels from 1 to {limit - 1}; '
                'leave background and void out'
            )
            raise ValueError(msg)
        if self.points is not None:
            size = (self.truth.shape[0], self.truth.shape[1])
            return _score_points(self.points, object_ids, size)
        scores = FrameScores(j=(), f=())
        for first in range(0, len(object_ids), NUM_VALUES - 1):
            group = list(object_ids[first : first + NUM_VALUES - 1])
            small_labels = range(1, len(group) + 1)
            table = np.zeros(NUM_LABELS, np.uint8)
            table[group] = small_labels
            scan = _scan_small_labels(
                _relabel(self.pred, table), _relabel(self.truth, table)
            )
            scores = _concatenated(scores, scan.score(small_labels))
        return scores


def _scan_small_labels(pred: NDArray[Any], truth: NDArray[Any]) -> LabelScan:
    """Scan maps whose labels fit into four bits."""
    squares = scan_squares(_pack_labels(pred, truth))
    truth_ids = (np.flatnonzero(squares.areas[1:].any(axis=1)) + 1).tolist()
    pred_ids = (np.flatnonzero(squares.areas[:, 1:].any(axis=0)) + 1).tolist()
    return LabelScan(
        pred=pred,
        truth=truth,
        pred_ids=tuple(pred_ids),
        truth_ids=tuple(truth_ids),
        points=points_of_labels(squares, max((*truth_ids, *pred_ids, 0))),
    )


def _labels_in(labels: NDArray[Any]) -> tuple[int, ...]:
    """Labels of objects in a map."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1))).tolist()
    void = VOID_LABEL if labels.dtype == np.uint8 else None
    return tuple(label for label in present if label not in {0, void})


def _relabel(labels: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if labels.dtype == np.uint8:  # OpenCV is faster than NumPy, but knows bytes only
        return np.asarray(cv2.LUT(labels, table[:256]), np.uint8)
    relabelled: NDArray[np.uint8] = table[labels]
    return relabelled


def _check_sizes(maps: Sequence[NDArray[Any]]) -> None:
    """Check that maps have one size, and are not empty."""
    shapes = [each.shape for each in maps]
    if len(set(shapes)) > 1 or any(len(s) != 2 or 0 in s for s in shapes):
        msg = (
            f'Expected masks (height, width) of one size, but got {shapes}; resize '
            'the prediction to the size of the ground truth'
        )
        raise ValueError(msg)


def _score_points(
    points: 'ContourPoints',
    objects: Sequence[int],
    size: Size,
    radius: float | None = None,
) -> FrameScores:
    """Score objects by their number in ``points``."""
    num_truth, num_pred = points.count().tolist()
    radius = boundary_radius(size) if radius is None else radius
    unmatched = find_unmatched(points, size, radius)
    num_missed, num_wrong = points.count(unmatched).tolist()
    j, f = [], []
    for obj in objects:
        if obj >= points.pred_bit:  # nowhere on the frame
            j.append(1.0)
            f.append(1.0)
            continue
        union = float(points.unions[obj])
        j.append(float(points.intersections[obj]) / union if union else 1.0)
        f.append(
            _f_measure(num_pred[obj], num_wrong[obj], num_truth[obj], num_missed[obj])
        )
    return FrameScores(j=tuple(j), f=tuple(f))


def _f_measure(num_pred: int, num_wrong: int, num_truth: int, num_missed: int) -> float:
    """F, rounded as the toolkit rounds it."""
    if num_pred == 0 or num_truth == 0:
        # Precision or recall is 1 where there is no contour, and the other one is 0.
        return float(num_pred == num_truth)
    precision = (num_pred - num_wrong) / num_pred
    recall = (num_truth - num_missed) / num_truth
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _concatenated(first: FrameScores, second: FrameScores) -> FrameScores:
    return FrameScores(j=first.j + second.j, f=first.f + second.f)


# --------------------------------------------------------------------------- 1. Pack


class PackedFrame:
    """Ground truth and prediction of a frame, one byte per pixel.

    Attributes:
        size: Height and width in pixels.
        pixels: (height, width), uint8: 16 * value in the truth + value in the
            prediction. To be filled before the scan.
        buffer: ``pixels``, flattened, with a row and a pixel more at its end.
        changed: (height * width,), uint8, rounded up to whole words, for the scan.
        below: (height * width,), uint8, for the scan.
    """

    def __init__(self, size: Size) -> None:
        num_pixels = size[0] * size[1]
        self.size = size
        self.buffer = np.zeros(num_pixels + size[1] + 1, np.uint8)
        self.pixels = self.buffer[:num_pixels].reshape(size)
        self.changed = np.zeros(-(-num_pixels // 8) * 8, np.uint8)
        self.below = np.empty(num_pixels, np.uint8)


_reused = threading.local()


def packed_frame(size: Size) -> PackedFrame:
    """Get a frame to fill; the thread's previous one is reused if it has this size.

    New memory would cost as much as the scan: the system clears each page of it.
    """
    frame: PackedFrame | None = getattr(_reused, 'frame', None)
    if frame is None or frame.size != size:
        frame = _reused.frame = PackedFrame(size)
    return frame


def _pack_labels(pred: NDArray[Any], truth: NDArray[Any]) -> PackedFrame:
    """Pack labels below 16."""
    frame = packed_frame((truth.shape[0], truth.shape[1]))
    np.multiply(truth, NUM_VALUES, out=frame.pixels, casting='unsafe')
    np.bitwise_or(frame.pixels, pred, out=frame.pixels, casting='unsafe')
    return frame


def _pack_masks(
    pred: Sequence[Mask], truth: Sequence[Mask], void: Mask | None
) -> PackedFrame:
    """Pack one to four masks; object k has bit k in both halves of the byte."""
    frame = packed_frame((truth[0].shape[0], truth[0].shape[1]))
    pixels = frame.pixels
    np.copyto(pixels, truth[-1])
    _append_bits(pixels, truth[-2::-1])
    np.multiply(pixels, 2 ** (NUM_BITS - len(truth)), out=pixels)
    _append_bits(pixels, pred[::-1])
    if void is not None:
        np.copyto(pixels, 0, where=void)
    return frame


def _append_bits(pixels: NDArray[np.uint8], masks: Sequence[Mask]) -> None:
    """Shift the bits of each pixel up and put those of the masks below them."""
    for mask in masks:
        np.add(pixels, pixels, out=pixels)
        np.bitwise_or(pixels, mask, out=pixels)


# --------------------------------------------------------------------------- 2. Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """Squares of 2 x 2 pixels whose packed bytes differ.

    Attributes:
        positions: (N,), index of the upper left pixel in the flattened frame,
            ascending. Always includes the last pixel of the frame.
        corners: (4, 2, N), values at the upper left, upper right, lower left and lower
            right pixel, first in the truth, then in the prediction. The edge of the
            frame is repeated outside of it.
        areas: (16, 16), number of pixels by their values in truth and prediction.
    """

    positions: NDArray[np.int64]
    corners: NDArray[np.uint8]
    areas: NDArray[np.float64]


def scan_squares(frame: PackedFrame) -> Squares:
    """Find the squares that a contour passes through, and all areas."""
    buffer, (height, width) = frame.buffer, frame.size
    num_pixels = height * width
    buffer[num_pixels:-1] = buffer[num_pixels - width : num_pixels]  # repeat last row
    positions = _changed_positions(frame)
    corners = np.empty((4, len(positions)), np.uint8)
    for corner, offset in zip(corners, (0, 1, width, width + 1), strict=True):
        # All positions are inside; mode 'clip' saves NumPy a check.
        buffer[offset:].take(positions, out=corner, mode='clip')
    areas = _areas(positions, corners)
    # The right neighbour of the last column was the next row's first pixel.
    rows = np.flatnonzero(frame.changed[width - 1 : num_pixels : width])
    at_edge = np.searchsorted(positions, rows * width + width - 1)
    corners[1, at_edge] = corners[0, at_edge]
    corners[3, at_edge] = corners[2, at_edge]
    halves = np.empty((4, 2, len(positions)), np.uint8)
    np.floor_divide(corners, NUM_VALUES, out=halves[:, 0])
    np.bitwise_and(corners, NUM_VALUES - 1, out=halves[:, 1])
    return Squares(positions=positions, corners=halves, areas=areas)


def _changed_positions(frame: PackedFrame) -> NDArray[np.int64]:
    """Positions of squares whose bytes differ, or at which a run of bytes ends."""
    buffer, below, width = frame.buffer, frame.below, frame.size[1]
    num_pixels = len(below)
    changed = frame.changed[:num_pixels]
    np.bitwise_xor(buffer[:num_pixels], buffer[1 : num_pixels + 1], out=changed)
    np.bitwise_xor(buffer[:num_pixels], buffer[width:-1], out=below)
    np.bitwise_or(changed, below, out=changed)
    # The lower right pixel differs from the upper right one: below, one pixel on.
    np.bitwise_or(changed[:-1], below[1:], out=changed[:-1])
    changed[-1] = 1
    # Most words of eight bytes are zero; only the others are looked at byte by byte.
    words = frame.changed.view(np.uint64)
    nonzero = np.flatnonzero(words != 0)
    in_words = np.flatnonzero(words.take(nonzero).view(np.bool_))
    return (nonzero.take(in_words >> 3) << 3) | (in_words & 7)


def _areas(
    positions: NDArray[np.int64], corners: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Count the pixels of each byte by the runs of equal bytes."""
    is_end = corners[0] != corners[1]
    is_end[-1] = True
    run_ends = np.flatnonzero(is_end)
    ends = positions.take(run_ends)
    lengths = ends.copy()
    lengths[0] += 1
    lengths[1:] -= ends[:-1]
    values = corners[0].take(run_ends)
    areas = np.bincount(values, weights=lengths, minlength=NUM_VALUES**2)
    return areas.astype(np.float64).reshape(NUM_VALUES, NUM_VALUES)


# ------------------------------------------------------------------------ 3. Collect


@dataclass(frozen=True, slots=True, kw_only=True)
class ContourPoints:
    """Points of the contours of all objects, and the objects' areas.

    Attributes:
        positions: (N,), index in the flattened frame, once for each contour that passes
            through the pixel.
        contours: (N,), contour of each point: the number of the object in the truth,
            with ``pred_bit`` set in the prediction. ``contours ^ pred_bit`` is the
            contour to match with.
        pred_bit: A power of two above the number of any object.
        intersections: (pred_bit,) or more, pixels of each object in both.
        unions: Likewise, pixels of each object in either.
    """

    positions: NDArray[np.int64]
    contours: NDArray[np.int64]
    pred_bit: int
    intersections: NDArray[np.float64]
    unions: NDArray[np.float64]

    def count(self, chosen: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Count all points, or those at the chosen indices.

        Returns:
            (2, pred_bit), by object, in truth and prediction.
        """
        contours = self.contours if chosen is None else self.contours.take(chosen)
        counts = np.bincount(contours, minlength=2 * self.pred_bit)
        return counts.reshape(2, self.pred_bit)


def points_of_labels(squares: Squares, largest: int) -> ContourPoints:
    """Collect the contours of objects that do not overlap; their labels are numbers.

    A square is a point of each object that has a label at one of its corners, unless
    all four are equal.
    """
    pred_bit = 1 << largest.bit_length()
    corners = squares.corners.copy()
    corners[:, 1] |= pred_bit
    corners = corners.reshape(4, -1)  # (4, 2N), those of the truth first
    # Most squares have two labels, the lowest and the highest of the corners.
    first, right, below, diagonal = corners
    low = np.minimum(np.minimum(first, right), np.minimum(below, diagonal))
    high = np.maximum(np.maximum(first, right), np.maximum(below, diagonal))
    mixed = np.flatnonzero(low != high)
    low_mixed = low.take(mixed)
    is_object = np.flatnonzero(low_mixed & (pred_bit - 1))  # not the background
    square_index = [mixed, mixed.take(is_object)]
    contours = [high.take(mixed), low_mixed.take(is_object)]
    is_between = (corners != low) & (corners != high)
    if is_between.any():
        # A few squares have three or four.
        rare = np.flatnonzero(np.bitwise_or.reduce(is_between, axis=0))
        lowest, second, third, highest = np.sort(corners.take(rare, axis=1), axis=0)
        with_second = np.flatnonzero((second != lowest) & (second != highest))
        with_third = np.flatnonzero((third != second) & (third != highest))
        square_index += [rare.take(with_second), rare.take(with_third)]
        contours += [second.take(with_second), third.take(with_third)]
    intersections = squares.areas.diagonal()
    positions = np.concatenate((squares.positions, squares.positions))
    return ContourPoints(
        positions=positions.take(np.concatenate(square_index)),
        contours=np.concatenate(contours, dtype=np.int64),
        pred_bit=pred_bit,
        intersections=intersections,
        unions=squares.areas.sum(axis=0) + squares.areas.sum(axis=1) - intersections,
    )


def points_of_bits(squares: Squares) -> ContourPoints:
    """Collect the contours of up to four objects that may overlap.

    A square is a point of each object whose bit differs between its corners.
    """
    first, right, below, diagonal = squares.corners.reshape(4, -1)
    changed = (first ^ right) | (first ^ below) | (first ^ diagonal)
    # Eight bits for each square, the upper four of which are zero.
    bits = np.flatnonzero(np.unpackbits(changed, bitorder='little').view(np.bool_))
    positions = np.concatenate((squares.positions, squares.positions))
    is_pred = bits >= 8 * len(squares.positions)
    has_object = (np.arange(NUM_VALUES)[:, None] >> np.arange(NUM_BITS)) & 1
    intersections = np.einsum('tp,tk,pk->k', squares.areas, has_object, has_object)
    areas = squares.areas.sum(axis=0) + squares.areas.sum(axis=1)
    return ContourPoints(
        positions=positions.take(bits >> 3),
        contours=(bits & 7) + is_pred * np.int64(NUM_BITS),
        pred_bit=NUM_BITS,
        intersections=intersections,
        unions=areas @ has_object - intersections,
    )


# -------------------------------------------------------------------------- 4. Match

MAX_DISK_POINTS = 2048  # that are compared with the disk at once, to stay in the cache


def find_unmatched(
    points: ContourPoints, size: Size, radius: float
) -> NDArray[np.int64]:
    """Find the points that are farther than a radius from the contour to match.

    Args:
        size: Height and width of the frame in pixels.
        radius: In pixels, of :func:`disk_kernel`.

    Returns:
        (K,), indices of the points.
    """
    rows = points.positions // size[1]
    columns = points.positions - rows * size[1]
    candidates = np.arange(len(points.positions))
    side = _cell_side(radius)
    for shifted in (False, True) if side else ():
        grid = _grid(size, side, 2 * points.pred_bit, shifted=shifted)
        cells, is_filled = _fill_cells(points, rows, columns, grid)
        partners = cells.take(candidates) ^ points.pred_bit
        candidates = candidates.take(np.flatnonzero(~is_filled.take(partners)))
    if not len(candidates):
        return candidates
    return _beyond_disk(points, (rows, columns), candidates, size, radius)


def disk_kernel(radius: float) -> Mask:
    """Draw the disk within which contours match, as ``skimage.morphology.disk`` does.

    The pixels lie on a grid that begins at ``-radius``. If the radius is not a whole
    number, the disk is therefore up to a pixel off its middle: the evaluation of MOSEv2
    compares contours with such disks.

    Returns:
        (D, D), the point to match at index ``D // 2`` of both axes.
    """
    grid = np.arange(-radius, radius + 1)
    inside: Mask = grid[:, None] ** 2 + grid**2 <= radius**2
    return inside


@lru_cache(maxsize=64)
def _cell_side(radius: float) -> int:
    """Largest side of a cell whose points all match each other, 0 for none."""
    kernel = disk_kernel(radius)
    middle = len(kernel) // 2
    sides = 0
    for reach in range(min(middle + 1, len(kernel) - middle)):
        ends = [middle - reach, middle + reach]
        sides += bool(kernel[np.ix_(ends, ends)].all())
    return sides


def _fill_cells(
    points: ContourPoints,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    grid: 'Grid',
) -> tuple[NDArray[np.int64], Mask]:
    """Find the cell of each point, and which cells have a point."""
    row_cells, column_cells, num_cells = grid
    cells = row_cells.take(rows)
    cells += column_cells.take(columns)
    cells += points.contours
    is_filled = np.zeros(num_cells, np.bool_)
    is_filled[cells] = True
    return cells, is_filled


Grid = tuple[NDArray[np.int64], NDArray[np.int64], int]


@lru_cache(maxsize=64)
def _grid(size: Size, side: int, num_contours: int, *, shifted: bool) -> Grid:
    """Lay a grid of square cells.

    Returns:
        What each row and each column adds to the index of a cell, which leaves room for
        the number of a contour, and the number of cells.
    """
    rows, columns = (
        (np.arange(length) + (side // 2 if shifted else 0)) // side for length in size
    )
    row_stride = (int(columns[-1]) + 1) * num_contours
    return (
        rows * row_stride,
        columns * num_contours,
        (int(rows[-1]) + 1) * row_stride,
    )


def _beyond_disk(
    points: ContourPoints,
    coordinates: tuple[NDArray[np.int64], NDArray[np.int64]],
    candidates: NDArray[np.int64],
    size: Size,
    radius: float,
) -> NDArray[np.int64]:
    """Choose the candidates with no point of the other contour within the radius.

    Each contour is drawn as a bitmap, 64 pixels of a row in a word. The rows of a disk
    about a candidate are then a few words each.

    Args:
        coordinates: Rows and columns of all points.
    """
    rows, columns = coordinates
    reach = len(disk_kernel(radius)) // 2
    margin = -(-reach // 64)  # words on either side, so that no disk leaves the bitmap
    row_words = -(-size[1] // 64) + 2 * margin + 1
    bitmap_words = (size[0] + 2 * reach) * row_words
    bitmaps = np.zeros(2 * points.pred_bit * bitmap_words, np.uint64)
    starts = (rows + reach) * row_words + margin  # word of a row's first pixel
    bits = np.left_shift(np.uint64(1), (columns & 63).astype(np.uint64))
    words = points.contours * bitmap_words + starts + (columns >> 6)
    np.bitwise_or.at(bitmaps, words, bits)

    starts += (points.contours ^ points.pred_bit) * bitmap_words
    left_edges = columns - reach
    row_offsets, disk_masks = _disk(radius, row_words)
    unmatched = []
    for first in range(0, len(candidates), MAX_DISK_POINTS):
        block = candidates[first : first + MAX_DISK_POINTS]
        left = left_edges.take(block)
        shift = (left & 63).astype(np.uint64)
        words = starts.take(block) + (left >> 6) + row_offsets  # (D, K)
        is_near = np.zeros(len(block), np.uint64)
        for mask in disk_masks:
            # 64 pixels from the left edge on begin in one word and end in the next.
            window = bitmaps.take(words) >> shift
            words += 1
            window |= bitmaps.take(words) << (np.uint64(64) - shift)
            window &= mask
            is_near |= np.bitwise_or.reduce(window, axis=0)
        unmatched.append(block[is_near == 0])
    return np.concatenate(unmatched)


@lru_cache(maxsize=64)
def _disk(
    radius: float, row_words: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Rows of a disk of D x D pixels.

    Returns:
        (D, 1), offset of each row in words; and (words of a row, D, 1), its pixels as
        bits, from the left edge of the disk on.
    """
    kernel = disk_kernel(radius)
    side = len(kernel)
    bits = [sum(1 << int(column) for column in np.flatnonzero(row)) for row in kernel]
    masks = [
        [(row >> first) & (2**64 - 1) for row in bits] for first in range(0, side, 64)
    ]
    row_offsets = (np.arange(side) - side // 2) * row_words
    return row_offsets[:, None], np.array(masks, np.uint64)[:, :, None]
