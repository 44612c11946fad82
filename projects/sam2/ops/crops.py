"""Crops of an image, points spread over it, and the choice among overlapping boxes.

The geometry of automatic mask generation (Kirillov et al., 2023, section 5).
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OVERLAP_RATIO = 512 / 1500  # of neighbouring crops, over the image's short side


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of an image.

    Attributes:
        box: Corners ``(x, y, x, y)`` in pixels; the second corner is exclusive.
        layer: 0 for the whole image; layer ``n`` has ``4 ** n`` crops.
    """

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]


def crops_of_image(
    size: tuple[int, int], num_layers: int, *, overlap_ratio: float = OVERLAP_RATIO
) -> list[Crop]:
    """Lay overlapping crops over an image, finer in each layer.

    Args:
        size: Height and width of the image in pixels.
        overlap_ratio: Overlap of neighbouring crops of the first layer, over the
            image's short side. Each further layer halves it.
    """
    height, width = size
    crops = [Crop(box=(0, 0, width, height), layer=0)]
    for layer in range(1, num_layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / per_side))
        crop_height = math.ceil((overlap * (per_side - 1) + height) / per_side)
        crop_width = math.ceil((overlap * (per_side - 1) + width) / per_side)
        for column, row in product(range(per_side), repeat=2):
            x = (crop_width - overlap) * column
            y = (crop_height - overlap) * row
            box = (x, y, min(x + crop_width, width), min(y + crop_height, height))
            crops.append(Crop(box=box, layer=layer))
    return crops


def grid_of_points(points_per_side: int) -> NDArray[np.float64]:
    """Spread points evenly over a unit square.

    Returns:
        (points_per_side squared, 2), ``(x, y)`` in (0, 1), row by row.
    """
    margin = 1 / (2 * points_per_side)
    side = np.linspace(margin, 1 - margin, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def suppress_boxes(boxes: Tensor, scores: Tensor, *, threshold: float) -> Tensor:
    """Drop each box that overlaps a better one (non-maximum suppression).

    Args:
        boxes: (N, 4), corners ``(x, y, x, y)``.
        scores: (N,), the higher the better; of equal scores the first wins.

    Returns:
        Indices of the boxes that are kept, best first, int64.
    """
    order = scores.argsort(descending=True, stable=True)
    corners = boxes[order].double().cpu().numpy()
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    alive = np.ones(len(corners), dtype=bool)
    for best in range(len(corners)):
        if not alive[best]:
            continue
        rest = best + 1 + np.flatnonzero(alive[best + 1 :])
        top_left = np.maximum(corners[rest, :2], corners[best, :2])
        bottom_right = np.minimum(corners[rest, 2:], corners[best, 2:])
        overlap = (bottom_right - top_left).clip(min=0).prod(axis=1)
        union = areas[rest] + areas[best] - overlap
        # A product instead of a division, since the union may be empty.
        alive[rest[overlap > threshold * union]] = False
    return order[torch.from_numpy(alive).to(order.device)]
