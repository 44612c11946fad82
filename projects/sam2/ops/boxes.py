"""Boxes around masks, and the imprecision of a hand-drawn box."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..structures import PointLabel, PointPrompt

BOX_NOISE_FRACTION = 0.1
BOX_NOISE_LIMIT = 20.0  # pixels


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Find the tightest box around each mask.

    Args:
        masks: (O, 1, H, W), bool.

    Returns:
        (O, 4), float, ``(x, y)`` of the first and the last pixel inside. An empty
        mask has the inverted box ``(W, H, -1, -1)``.
    """
    height, width = masks.shape[-2:]
    columns = masks.any(dim=-2).flatten(1)  # (O, 1, H, W) -> (O, W)
    rows = masks.any(dim=-1).flatten(1)  # (O, 1, H, W) -> (O, H)
    x = torch.arange(width, device=masks.device)
    y = torch.arange(height, device=masks.device)
    corners = (
        torch.where(columns, x, width).amin(dim=1),
        torch.where(rows, y, height).amin(dim=1),
        torch.where(columns, x, -1).amax(dim=1),
        torch.where(rows, y, -1).amax(dim=1),
    )
    return torch.stack(corners, dim=1).float()


def jitter_boxes(boxes: Tensor, noise: Tensor, size: tuple[int, int]) -> Tensor:
    """Move the corners of boxes as an imprecise hand would.

    A corner moves by at most a tenth of the box's size and by at most 20 pixels,
    and stays inside the frame.

    Args:
        boxes: (O, 4), corners ``(x, y, x, y)``.
        noise: (O, 4), uniform in [0, 1); 0.5 leaves a coordinate where it is.
        size: Height and width of the frame in pixels.

    Returns:
        (O, 4), the moved corners.
    """
    height, width = size
    extent = (boxes[:, 2:] - boxes[:, :2]) * BOX_NOISE_FRACTION
    reach = extent.clamp(max=BOX_NOISE_LIMIT).repeat(1, 2)
    moved = boxes + (2 * noise - 1) * reach
    last = boxes.new_tensor([width, height, width, height]) - 1
    return torch.minimum(moved.clamp(min=0), last)


def boxes_to_points(boxes: Tensor) -> PointPrompt:
    """Write boxes as the two points that the prompt encoder takes them for.

    Args:
        boxes: (O, 4), corners ``(x, y, x, y)``.
    """
    corners = (PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT)
    labels = torch.tensor(corners, dtype=torch.int32, device=boxes.device)
    return PointPrompt(
        coords=boxes.reshape(-1, 2, 2), labels=labels.expand(len(boxes), 2)
    )


def sample_boxes(masks: Tensor, *, generator: torch.Generator) -> PointPrompt:
    """Draw an imprecise box around each mask.

    Args:
        masks: (O, 1, H, W), bool.
    """
    noise = torch.rand(len(masks), 4, generator=generator, device=generator.device)
    height, width = masks.shape[-2:]
    boxes = jitter_boxes(
        masks_to_boxes(masks), noise.to(masks.device), size=(height, width)
    )
    return boxes_to_points(boxes)


def suppress_boxes(boxes: Tensor, scores: Tensor, *, threshold: float) -> Tensor:
    """Drop each box that overlaps a better one (non-maximum suppression).

    Args:
        boxes: (N, 4), corners ``(x, y, x, y)``.
        scores: (N,), the higher the better; of equals the first is better.

    Returns:
        Positions of the boxes that stay, best first, int64.
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
        # A product in place of a quotient: two boxes without area do not overlap.
        alive[rest[overlap > threshold * union]] = False
    return order[torch.from_numpy(alive).to(order.device)]


OVERLAP_RATIO = 512 / 1500  # of neighbouring crops, over the image's short side


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of an image.

    Attributes:
        box: Corners ``(x, y, x, y)`` in pixels, the second one not inside.
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
            image's short side; half of it in the next.
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
