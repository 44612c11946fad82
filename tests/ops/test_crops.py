"""Crops cover the image and overlap; points are spread evenly."""

import numpy as np
import pytest

from projects.sam2.ops import crops_of_image, grid_of_points


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
