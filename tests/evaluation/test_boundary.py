"""Contour accuracy against a pixel-by-pixel comparison and the released evaluator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from golden_cases import assert_exact
from projects.sam2.evaluation import boundary_f, boundary_map, boundary_radius
from score_cases import plain_contour, plain_f
from score_files import MaskPair

SIZE = (60, 130)  # a radius of two


def blob(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """An ellipse that may run over the frame's edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    center = rng.random(2) * size
    radii = rng.uniform(4, 20, 2)
    inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 <= 1
    return np.asarray(inside)


@pytest.mark.golden
def test_equals_the_released_evaluator(golden_pair: MaskPair) -> None:
    pair = golden_pair
    height, width = pair.truth.shape
    assert_exact(boundary_radius((height, width)), pair.radius, 'radius')
    assert_exact(boundary_map(pair.truth), pair.contour, 'contour')
    assert_exact(boundary_f(pair.pred, pair.truth), pair.f, 'F')


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('with_void', [False, True])
def test_equals_a_comparison_pixel_by_pixel(seed: int, with_void: bool) -> None:
    pred, truth = blob(seed), blob(seed + 100) | blob(seed)
    void = blob(seed + 200) if with_void else None
    assert boundary_f(pred, truth, void) == pytest.approx(
        plain_f(pred, truth, void), abs=1e-15
    )


@settings(max_examples=30, deadline=None)
@given(masks=arrays(bool, (2, 9, 11), elements=st.booleans()))
def test_equals_it_on_any_pair_of_small_masks(masks: np.ndarray) -> None:
    assert boundary_f(*masks) == pytest.approx(plain_f(*masks), abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(mask=arrays(bool, (6, 7), elements=st.booleans()))
def test_contour_is_where_a_pixel_differs_from_its_neighbours(mask: np.ndarray) -> None:
    assert list(zip(*np.nonzero(boundary_map(mask)), strict=True)) == plain_contour(
        mask
    )


@pytest.mark.parametrize(
    ('size', 'radius'),
    [((480, 854), 8), ((480, 853), 8), ((1080, 1920), 18), ((8, 8), 1)],
)
def test_radius_is_a_share_of_the_diagonal(size: tuple[int, int], radius: int) -> None:
    assert boundary_radius(size) == radius


def test_contours_within_the_radius_match_and_those_beyond_do_not() -> None:
    truth = np.zeros(SIZE, dtype=bool)
    truth[20:40, 50:80] = True
    assert boundary_f(np.roll(truth, 2, axis=1), truth) == 1.0
    assert boundary_f(np.roll(truth, 3, axis=1), truth) < 1.0


def test_one_empty_mask_scores_nothing_and_two_score_all() -> None:
    empty = np.zeros(SIZE, dtype=bool)
    some = blob(1)
    assert boundary_f(some, empty) == boundary_f(empty, some) == 0.0
    assert boundary_f(empty, empty) == 1.0
    # A mask that fills the frame has no contour either.
    assert boundary_f(~empty, empty) == 1.0


def test_contours_far_apart_score_nothing() -> None:
    truth = np.zeros(SIZE, dtype=bool)
    truth[5:10, 5:10] = True
    assert boundary_f(truth[::-1, ::-1], truth) == 0.0


def test_views_are_taken_as_they_are() -> None:
    stack = np.stack([blob(3), blob(4)], axis=-1)
    pred, truth = stack[..., 0], stack[..., 1]
    assert boundary_f(pred, truth) == boundary_f(pred.copy(), truth.copy())


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match='of one size'):
        boundary_f(blob(0), blob(0)[:-1])
