"""Keeps the best of boxes that overlap."""

import numpy as np
import torch
from torch import Tensor


def suppress_boxes(boxes: Tensor, scores: Tensor, *, threshold: float) -> Tensor:
    """Drop each box that overlaps a better one (non-maximum suppression).

    Args:
        boxes: (N, 4), corners ``(x, y, x, y)``.
        scores: (N,), the higher the better; of equals the first is better.
        threshold: Largest IoU of two boxes that both stay.

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
