"""Region similarity against a pixel-by-pixel count and the released evaluator."""

import numpy as np
import pytest

from golden_cases import assert_exact
from projects.sam2.evaluation import region_similarity
from score_cases import plain_j
from score_files import MaskPair


@pytest.mark.golden
def test_equals_the_released_evaluator(golden_pair: MaskPair) -> None:
    found = region_similarity(golden_pair.pred, golden_pair.truth)
    assert_exact(found, golden_pair.j, 'J')


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('with_void', [False, True])
def test_equals_a_count_pixel_by_pixel(seed: int, with_void: bool) -> None:
    rng = np.random.default_rng(seed)
    pred, truth, void = rng.random((3, 13, 17)) > 0.6
    given = void if with_void else None
    assert region_similarity(pred, truth, given) == plain_j(pred, truth, given)


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((4, 5), dtype=bool)
    assert region_similarity(empty, empty) == 1.0
    assert region_similarity(~empty, empty) == 0.0


def test_masks_that_differ_under_void_alone_agree() -> None:
    truth = np.zeros((4, 5), dtype=bool)
    pred = truth.copy()
    pred[1, 2] = True
    assert region_similarity(pred, truth, pred) == 1.0


def test_inputs_are_left_alone() -> None:
    masks = np.random.default_rng(0).random((3, 6, 6)) > 0.5
    before = masks.copy()
    region_similarity(*masks)
    assert np.array_equal(masks, before)


@pytest.mark.parametrize('shapes', [((4, 5), (5, 4)), ((1, 4, 5), (1, 4, 5))])
def test_masks_of_other_sizes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    pred, truth = (np.zeros(shape, dtype=bool) for shape in shapes)
    with pytest.raises(ValueError, match=r'of one size.*resize the prediction'):
        region_similarity(pred, truth)
