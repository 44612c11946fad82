"""Contour points and areas of all objects, against one object after another."""

import numpy as np
import pytest

from projects.sam2.evaluation.jf import (
    ContourPoints,
    JointFrame,
    JointSquares,
    points_of_bits,
    points_of_labels,
)
from score_cases import plain_contour

SIZE = (9, 12)


def scan(truth: np.ndarray, pred: np.ndarray) -> JointSquares:
    frame = JointFrame()
    frame.begin(SIZE)[:] = 16 * truth + pred
    return frame.scan()


def assert_points(points: ContourPoints, pairs: list[list[np.ndarray]]) -> None:
    """Planes hold the contours of pairs of masks, truth first; areas are theirs."""
    for number, pair in enumerate(pairs):
        for plane, mask in zip((number, number + points.num_planes), pair, strict=True):
            found = points.positions[points.planes == plane]
            expected = [y * SIZE[1] + x for y, x in plain_contour(mask)]
            assert sorted(found.tolist()) == expected
        assert points.intersections[number] == (pair[0] & pair[1]).sum()
        assert points.unions[number] == (pair[0] | pair[1]).sum()


@pytest.mark.parametrize('num_labels', [1, 2, 3, 8, 15])
def test_contours_of_labels_are_those_of_each_mask(num_labels: int) -> None:
    rng = np.random.default_rng(num_labels)
    truth, pred = rng.integers(0, num_labels + 1, (2, *SIZE), np.uint8)
    points = points_of_labels(scan(truth, pred), num_labels)
    assert points.num_planes > num_labels
    labels = range(1, num_labels + 1)
    pairs = [[frame == label for frame in (truth, pred)] for label in labels]
    # Plane 0 is the background's, of which nobody asks for areas.
    assert not (points.planes & (points.num_planes - 1) == 0).any()
    shifted = ContourPoints(
        positions=points.positions,
        planes=points.planes - 1,
        num_planes=points.num_planes,
        intersections=points.intersections[1:],
        unions=points.unions[1:],
    )
    assert_points(shifted, pairs)


def test_contours_of_bits_are_those_of_each_mask() -> None:
    rng = np.random.default_rng(0)
    truth, pred = rng.integers(0, 16, (2, *SIZE), np.uint8)
    points = points_of_bits(scan(truth, pred))
    bits = [1, 2, 4, 8]
    assert_points(points, [[(f & bit) > 0 for f in (truth, pred)] for bit in bits])


def test_points_are_counted_by_contour() -> None:
    truth, pred = np.zeros((2, *SIZE), np.uint8)
    truth[4, 4], pred[4, 4], pred[7, 9] = 1, 1, 2
    points = points_of_labels(scan(truth, pred), 2)
    np.testing.assert_array_equal(points.count(), [[0, 4, 0, 0], [0, 4, 4, 0]])
    none = points.count(np.zeros(0, np.int64))
    np.testing.assert_array_equal(none, np.zeros((2, 4)))
