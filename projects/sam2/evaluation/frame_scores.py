"""J and F of all objects of one frame at once, equal to the DAVIS toolkit's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.contour_matching import find_unmatched
from projects.sam2.evaluation.contour_points import (
    NUM_BITS,
    ContourPoints,
    points_of_bits,
    points_of_labels,
)
from projects.sam2.evaluation.joint_scan import NUM_VALUES, JointFrame

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

    Returns:
        Pixels.
    """
    return math.ceil(TOLERANCE * np.linalg.norm(size))


def score_labels(
    pred: NDArray[Any], truth: NDArray[Any], object_ids: Sequence[int]
) -> FrameScores:
    """Score maps of labels, for all objects at once.

    Args:
        pred: See :func:`scan_labels`.
        truth: Likewise.
        object_ids: Labels of the objects; one that a map lacks is empty in it.

    Returns:
        Scores in the order of the objects.

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

    Returns:
        The objects, which it also scores.

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

        Args:
            object_ids: Their labels; one that a map lacks is empty in it.

        Returns:
            Scores in the order of the objects.

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
        truth: Likewise.
        void: (height, width), bool, pixels to ignore; None for none.

    Returns:
        Scores in the order of the objects.

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
        truth: Likewise.
        void: (height, width), bool, pixels to ignore; None for none.

    Returns:
        The frame, to be scanned before another is packed.
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
