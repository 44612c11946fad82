"""Boxes around masks, and the imprecision of a hand-drawn box."""

import torch
from torch import Tensor

from projects.sam2.structures import PointLabel, PointPrompt

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

    Returns:
        Two points for each object, top left and bottom right.
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
        generator: Source of the imprecision, on any device.

    Returns:
        Two points for each object, top left and bottom right.
    """
    noise = torch.rand(len(masks), 4, generator=generator, device=generator.device)
    height, width = masks.shape[-2:]
    boxes = jitter_boxes(
        masks_to_boxes(masks), noise.to(masks.device), size=(height, width)
    )
    return boxes_to_points(boxes)
