"""Crops and points of automatic mask generation, and the boxes that it keeps."""

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.sam2.ops import crops_of_image, grid_of_points, suppress_boxes


@pytest.mark.parametrize('size', [(48, 80), (101, 67), (1080, 1920)])
def test_each_layer_covers_the_image(size: tuple[int, int]) -> None:
    crops = crops_of_image(size, 2)
    assert [crop.layer for crop in crops] == [0] + [1] * 4 + [2] * 16
    assert crops[0].size == size
    for layer in (1, 2):
        covered = np.zeros(size, dtype=int)
        for crop in crops:
            left, top, right, bottom = crop.box
            covered[top:bottom, left:right] += crop.layer == layer
        assert covered.min() == 1
        assert covered.max() > 1


def test_crops_are_those_of_the_released_generator() -> None:
    boxes = [crop.box for crop in crops_of_image((48, 80), 1)]
    # An overlap of int(512 / 1500 * 48) = 16 pixels: sides of 32 and 48.
    assert boxes == [
        (0, 0, 80, 48),
        (0, 0, 48, 32),
        (0, 16, 48, 48),
        (32, 0, 80, 32),
        (32, 16, 80, 48),
    ]


def test_overlap_is_a_share_of_the_short_side() -> None:
    boxes = [crop.box for crop in crops_of_image((48, 80), 1, overlap_ratio=0.5)]
    # int(0.5 * 48) = 24 pixels: sides of 36 and 52.
    assert boxes[1] == (0, 0, 52, 36)
    assert boxes[4] == (28, 12, 80, 48)


def test_points_lie_in_the_middle_of_their_cells() -> None:
    assert grid_of_points(1).tolist() == [[0.5, 0.5]]
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert grid_of_points(2).tolist() == expected


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
    indices = suppress_boxes(torch.zeros(0, 4), torch.zeros(0), threshold=0.5)
    assert indices.shape == (0,)
    assert indices.dtype is torch.int64
