"""Which points have a partner, against all distances measured."""

import numpy as np
import pytest

from projects.sam2.evaluation import jf as contour_matching
from projects.sam2.evaluation.jf import ContourPoints, find_unmatched

NUM_PLANES = 4


def random_points(size: tuple[int, int], number: int, seed: int) -> ContourPoints:
    """Points of four objects, on few rows and columns so that many are near."""
    rng = np.random.default_rng(seed)
    planes = rng.integers(0, 2 * NUM_PLANES, number)
    return ContourPoints(
        positions=rng.integers(0, size[0] * size[1], number),
        planes=planes,
        num_planes=NUM_PLANES,
        intersections=np.zeros(NUM_PLANES),
        unions=np.zeros(NUM_PLANES),
    )


def measured(points: ContourPoints, size: tuple[int, int], radius: int) -> list[int]:
    """Points farther than the radius from each of the other contour's."""
    y, x = np.divmod(points.positions, size[1])
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 <= radius**2
    partners = points.planes[:, None] == points.planes ^ NUM_PLANES
    return np.flatnonzero(~(near & partners).any(axis=1)).tolist()


@pytest.mark.parametrize('radius', [1, 2, 3, 5, 8, 31, 32, 37, 64, 70])
def test_points_without_a_partner_within_the_radius_are_found(radius: int) -> None:
    rng = np.random.default_rng(radius)
    for number in (1, 40, 300):
        # Large enough that some points of each contour are alone.
        side = int(radius * np.sqrt(number)) + 2
        size = (int(rng.integers(1, 2 * side)), side)
        points = random_points(size, number, radius)
        found = find_unmatched(points, size, radius).tolist()
        assert found == measured(points, size, radius)
        assert number < 300 or 0 < len(found) < number


def test_points_are_tested_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contour_matching, '_BLOCK', 7)
    points = random_points((90, 90), 300, 0)
    assert find_unmatched(points, (90, 90), 5).tolist() == measured(points, (90, 90), 5)


@pytest.mark.parametrize('radius', [1, 2, 3, 8, 12, 37])
@pytest.mark.parametrize('shifted', [False, True])
def test_pixels_of_a_cell_are_at_most_the_radius_apart(
    radius: int,
    shifted: bool,
) -> None:
    grid = contour_matching._grid((200, 150), radius, 1, shifted=shifted)
    sides = [int(np.bincount(cells).max()) for cells in (grid.columns,)]
    rows = np.unique(grid.rows, return_counts=True)[1].max()
    assert np.hypot(sides[0] - 1, rows - 1) <= radius
    places = grid.rows[:, None] + grid.columns
    assert places.max() < grid.num_places
    assert len(np.unique(places)) == len(np.unique(grid.rows)) * len(
        np.unique(grid.columns)
    )
