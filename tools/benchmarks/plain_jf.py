"""J&F written out plainly, and generated scenes: the reference for speed and tests.

This follows the DAVIS toolkit step by step: for each object two whole masks, two
contour maps as large as the frame, each dilated by a disk, and counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

TOLERANCE = 0.008  # of the frame's diagonal
NUM_HARMONICS = 24  # of an outline
NUM_CORNERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Label maps of one frame.

    Attributes:
        truth: (height, width), 0 for the background.
        pred: Likewise, with smoother outlines that are a little displaced.
        object_ids: Labels of the objects.
    """

    truth: Labels
    pred: Labels
    object_ids: tuple[int, ...]


def literal_contour(mask: Mask) -> NDArray[np.uint8]:
    """Draw the contour of a mask, as the toolkit's ``_seg2bmap`` does.

    Args:
        mask: (height, width), bool.

    Returns:
        (height, width), 1 where a pixel differs from its neighbour to the right, below
        or below right, and 0 elsewhere.
    """
    east, south, south_east = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1] = mask[:, 1:]
    south[:-1, :] = mask[1:, :]
    south_east[:-1, :-1] = mask[1:, 1:]
    contour = mask ^ east | mask ^ south | mask ^ south_east
    contour[-1, :] = mask[-1, :] ^ east[-1, :]
    contour[:, -1] = mask[:, -1] ^ south[:, -1]
    contour[-1, -1] = 0
    return contour.astype(np.uint8)


def literal_disk(radius: int) -> NDArray[np.uint8]:
    """Draw a disk like scikit-image's: (2 · radius + 1, 2 · radius + 1), 0 or 1."""
    offset = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(offset, offset)
    return np.array(x**2 + y**2 <= radius**2, dtype=np.uint8)


def literal_f(pred: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Compute the contour accuracy of a mask, ignoring void pixels."""
    if void is not None:
        pred, truth = pred & ~void, truth & ~void
    radius = math.ceil(TOLERANCE * np.linalg.norm(truth.shape))
    disk = literal_disk(radius)
    pred_contour, truth_contour = literal_contour(pred), literal_contour(truth)
    pred_wide = cv2.dilate(pred_contour, disk)
    truth_wide = cv2.dilate(truth_contour, disk)
    num_pred, num_truth = np.sum(pred_contour), np.sum(truth_contour)
    if num_pred == 0 and num_truth > 0:
        precision, recall = 1.0, 0.0
    elif num_pred > 0 and num_truth == 0:
        precision, recall = 0.0, 1.0
    elif num_pred == 0 and num_truth == 0:
        precision, recall = 1.0, 1.0
    else:
        precision = np.sum(pred_contour * truth_wide) / float(num_pred)
        recall = np.sum(truth_contour * pred_wide) / float(num_truth)
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def literal_j(pred: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Compute the region similarity of a mask, ignoring void pixels."""
    kept = np.ones_like(truth) if void is None else ~void
    union = np.sum((pred | truth) & kept)
    return float(np.sum((pred & truth) & kept) / union) if union else 1.0


def literal_scores(
    pred: Labels, truth: Labels, object_ids: Sequence[int], void_label: int = 255
) -> list[tuple[float, float]]:
    """Compute J and F of each object of a frame.

    Args:
        void_label: Pixels with this label in ``truth`` are ignored.
    """
    void = truth == void_label
    scores = []
    for object_id in object_ids:
        pair = (pred == object_id, truth == object_id)
        scores.append((literal_j(*pair, void), literal_f(*pair, void)))
    return scores


def literal_folder_scores(
    pred: Path, truth: Path, object_ids: Sequence[int]
) -> list[list[tuple[float, float]]]:
    """Compute J and F of each object on each frame of a folder, read with Pillow."""
    return [
        literal_scores(_read(pred / path.name), _read(path), object_ids)
        for path in sorted(truth.glob('*.png'))
    ]


def _read(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.array(image)


def make_scene(height: int, width: int, num_objects: int, seed: int = 0) -> Scene:
    """Draw objects of uneven outline, and a prediction of them."""
    rng = np.random.default_rng(seed)
    truth, pred = (np.zeros((height, width), np.uint8) for _ in range(2))
    radius = 0.34 * height / math.sqrt(num_objects)
    for object_id in range(1, num_objects + 1):
        middle = rng.uniform((0.15, 0.2), (0.85, 0.8)) * (width, height)
        size = radius * rng.uniform(0.6, 1.3)
        waves = rng.normal(size=(2, NUM_HARMONICS)) * _amplitudes()
        _draw(truth, object_id, middle, size * _outline(waves))
        # The prediction follows coarse waves well, fine ones badly.
        order = np.arange(1, NUM_HARMONICS + 1)
        followed = waves * np.exp(-order / 40)
        off = rng.normal(size=waves.shape) * _amplitudes() * 0.1
        shift = rng.normal(size=2) * height / 400
        _draw(pred, object_id, middle + shift, size * _outline(followed + off))
    return Scene(truth=truth, pred=pred, object_ids=tuple(range(1, num_objects + 1)))


def _amplitudes() -> NDArray[np.float64]:
    """Amplitudes of the waves of an outline, coarse to fine."""
    return 0.24 / np.arange(1, NUM_HARMONICS + 1)


def _outline(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners (NUM_CORNERS, 2) about the origin, on average at a distance of one."""
    angle = np.linspace(0, 2 * math.pi, NUM_CORNERS, endpoint=False)
    phase = np.arange(1, len(waves[0]) + 1)[:, None] * angle
    distance = 1 + waves[0] @ np.cos(phase) + waves[1] @ np.sin(phase)
    distance = np.maximum(distance, 0.15)
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)


def _draw(
    labels: Labels,
    object_id: int,
    middle: NDArray[np.float64],
    outline: NDArray[np.float64],
) -> None:
    corners = np.round(middle + outline).astype(np.int32)
    cv2.fillPoly(labels, [corners], color=(object_id,))
