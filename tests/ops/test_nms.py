"""Of boxes that overlap, the best stays."""

import pytest
import torch
from torch import Tensor

from projects.sam2.ops import suppress_boxes


def _iou(first: Tensor, second: Tensor) -> float:
    sides = torch.minimum(first[2:], second[2:]) - torch.maximum(first[:2], second[:2])
    overlap = float(sides.clamp(min=0).prod())
    union = float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod())
    return overlap / (union - overlap) if union > overlap else 0.0


@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize('seed', range(3))
def test_boxes_left_are_those_of_the_definition(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 30, (60, 2, 2), generator=generator).float()
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    scores = torch.randint(0, 9, (60,), generator=generator).float()
    expected: list[int] = []
    for box in sorted(range(60), key=lambda index: -scores[index]):
        if all(_iou(boxes[box], boxes[other]) <= threshold for other in expected):
            expected.append(box)
    assert suppress_boxes(boxes, scores, threshold=threshold).tolist() == expected


def test_no_box_leaves_no_box() -> None:
    kept = suppress_boxes(torch.zeros(0, 4), torch.zeros(0), threshold=0.5)
    assert kept.shape == (0,)
    assert kept.dtype is torch.int64
