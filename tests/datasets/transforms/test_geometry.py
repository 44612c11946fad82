"""Geometry transforms, which edit a matrix."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipRandomAffine,
    ClipRandomFlip,
    ClipResize,
    ClipState,
)
from projects.sam2.datasets.transforms.geometry import (
    affine_matrix,
    keeps_all_objects,
    resize_matrix,
)
from projects.sam2.structures import FrameMasks

Load = Callable[..., ClipState]


def move(matrix: NDArray[np.float64], x: float, y: float) -> tuple[float, float]:
    """A point under a matrix."""
    moved = matrix @ (x, y, 1.0)
    return round(float(moved[0]), 6), round(float(moved[1]), 6)


def test_flip_exchanges_the_first_and_the_last_column(loaded_state: Load) -> None:
    flipped = ClipRandomFlip(probability=1.0)(loaded_state())
    assert move(flipped.matrix, 0, 5) == (31, 5)
    assert move(ClipRandomFlip(probability=1.0)(flipped).matrix, 7, 5) == (7, 5)


def test_flip_happens_at_its_rate(loaded_state: Load) -> None:
    flip = ClipRandomFlip(probability=0.25)
    flipped = [flip(loaded_state(seed)).matrix[0, 0] < 0 for seed in range(300)]
    assert 0.15 < np.mean(flipped) < 0.35


def test_resize_maps_the_borders_of_the_frame(loaded_state: Load) -> None:
    resized = ClipResize(size=(12, 128))(loaded_state())
    assert resized.size == (12, 128)
    assert move(resized.matrix, -0.5, -0.5) == (-0.5, -0.5)
    assert move(resized.matrix, 31.5, 23.5) == (127.5, 11.5)


def test_transforms_compose_in_their_order(loaded_state: Load) -> None:
    state = ClipResize(size=(48, 64))(ClipRandomFlip(probability=1.0)(loaded_state()))
    assert move(state.matrix, 0, 0) == (62.5, 0.5)  # mirrored to x = 31, then doubled


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({'angle': 90.0}, (4.0, 8.0)),  # clockwise: right becomes down
        ({'scale': 2.0}, (12.0, 6.0)),
        ({'shift': (3.0, -1.0)}, (11.0, 5.0)),
        ({'shear': 45.0}, (8.0, 6.0)),  # the row of the centre stays
    ],
)
def test_affine_parts_act_about_the_centre(
    settings: dict[str, float], expected: tuple[float, float]
) -> None:
    neutral = {'angle': 0.0, 'shear': 0.0, 'scale': 1.0, 'shift': (0.0, 0.0)}
    matrix = affine_matrix(center=(4.0, 6.0), **(neutral | settings))  # type: ignore[arg-type]
    if 'angle' in settings:
        expected = (4.0, 10.0)
    assert move(matrix, 8, 6) == expected


def test_shear_moves_rows_against_each_other() -> None:
    matrix = affine_matrix(
        angle=0.0, shear=45.0, scale=1.0, center=(4.0, 6.0), shift=(0.0, 0.0)
    )
    assert move(matrix, 8, 5) == (9.0, 5.0)
    assert move(matrix, 8, 8) == (6.0, 8.0)


def test_affine_draws_within_its_limits(loaded_state: Load) -> None:
    affine = ClipRandomAffine(degrees=20, scale=(0.8, 1.25), translate=0.1)
    matrices = [affine(loaded_state(seed)).matrix for seed in range(50)]
    scales = [np.sqrt(np.linalg.det(matrix[:2, :2])) for matrix in matrices]
    angles = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in matrices]
    centers = [move(matrix, 15.5, 11.5) for matrix in matrices]
    assert 0.8 <= min(scales) < 0.9
    assert 1.1 < max(scales) <= 1.25
    assert -20 <= min(angles) < -10
    assert 10 < max(angles) <= 20
    assert max(abs(x - 15.5) for x, _ in centers) <= 3.2
    assert max(abs(y - 11.5) for _, y in centers) <= 2.4


def one_pixel(x: int, y: int) -> FrameMasks:
    """A mask of a single pixel."""
    masks = np.zeros((1, 24, 32), bool)
    masks[0, y, x] = True
    return FrameMasks(object_ids=(1,), masks=masks)


@pytest.mark.parametrize(('shift', 'kept'), [(0, True), (1, True), (2, False)])
def test_object_that_leaves_the_frame_is_noticed(shift: int, kept: bool) -> None:
    matrix = np.eye(3)
    matrix[0, 2] = shift
    assert keeps_all_objects(one_pixel(30, 5), matrix, (24, 32)) is kept


def test_draws_that_lose_an_object_are_drawn_again(loaded_state: Load) -> None:
    affine = ClipRandomAffine(degrees=0, translate=0.5)
    corner = one_pixel(0, 0)
    moved = 0
    for seed in range(40):
        state = replace(loaded_state(seed), masklets=(corner, None, None))
        matrix = affine(state).matrix
        assert keeps_all_objects(corner, matrix, (24, 32))
        moved += not np.array_equal(matrix, np.eye(3))
    assert moved > 30  # a quarter of the draws keeps the corner, and ten are made


def test_after_ten_refusals_the_clip_stays(loaded_state: Load) -> None:
    state = replace(loaded_state(), masklets=(one_pixel(0, 0), None, None))
    affine = ClipRandomAffine(degrees=0, scale=(50.0, 60.0))
    np.testing.assert_array_equal(affine(state).matrix, np.eye(3))


def test_unannotated_first_frame_refuses_nothing() -> None:
    assert keeps_all_objects(None, resize_matrix((4, 4), (8, 8)), (8, 8))


def test_few_pixels_between_the_first_ones_asked_are_found() -> None:
    masks = one_pixel(30, 5)
    assert keeps_all_objects(masks, np.eye(3), (24, 32))
    assert not keeps_all_objects(masks, np.eye(3), (24, 30))


def test_empty_mask_has_nothing_to_lose() -> None:
    masks = FrameMasks(object_ids=(1,), masks=np.zeros((1, 24, 32), bool))
    assert keeps_all_objects(masks, np.eye(3), (24, 32))
