"""Geometry and colour transforms, which edit matrices."""

import colorsys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from exact_transforms import ExactAugment
from projects.sam2.datasets import (
    ClipColorJitter,
    ClipFit,
    ClipPack,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipRandomGrayscale,
    ClipRandomResize,
    ClipResize,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.transforms.augmentation import (
    FILL_COLOR,
    Affine,
    ColorJitter,
    hue_matrix,
    keeps_all_objects,
    resize_matrix,
)
from projects.sam2.structures import FrameMasks

Load = Callable[..., ClipState]
LUMA = (0.299, 0.587, 0.114)


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
        ({'angle': 90.0}, (4.0, 10.0)),  # clockwise: right becomes down
        ({'scale': 2.0}, (12.0, 6.0)),
        ({'shift': (3.0, -1.0)}, (11.0, 5.0)),
        ({'shear': 45.0}, (8.0, 6.0)),  # the row of the centre stays
    ],
)
def test_affine_parts_act_about_the_centre(
    settings: dict[str, float], expected: tuple[float, float]
) -> None:
    neutral = {'angle': 0.0, 'shear': 0.0, 'scale': 1.0, 'shift': (0.0, 0.0)}
    matrix = Affine(**(neutral | settings)).matrix((13, 9))  # type: ignore[arg-type]
    assert move(matrix, 8, 6) == expected


def test_shear_moves_rows_against_each_other() -> None:
    shear = Affine(angle=0.0, shear=45.0, scale=1.0, shift=(0.0, 0.0))
    matrix = shear.matrix((13, 9))
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
def test_object_that_leaves_the_frame_is_detected(shift: int, kept: bool) -> None:
    matrix = np.eye(3)
    matrix[0, 2] = shift
    assert keeps_all_objects(one_pixel(30, 5), matrix, (24, 32)) is kept


def test_draw_that_loses_an_object_is_repeated(loaded_state: Load) -> None:
    affine = ClipRandomAffine(degrees=0, translate=0.5)
    corner = one_pixel(0, 0)
    moved = 0
    for seed in range(40):
        state = replace(loaded_state(seed), masklets=(corner, None, None))
        flipped = ClipRandomFlip(probability=1.0)(state)
        matrix = affine(flipped).matrix
        assert keeps_all_objects(corner, matrix, (24, 32))
        moved += not np.array_equal(matrix, flipped.matrix)
    assert moved > 30  # a quarter of the draws keeps the corner, of which there are ten


def test_clip_stays_after_ten_draws_that_lose_an_object(loaded_state: Load) -> None:
    state = replace(loaded_state(), masklets=(one_pixel(0, 0), None, None))
    affine = ClipRandomAffine(degrees=0, scale=(50.0, 60.0))
    np.testing.assert_array_equal(affine(state).matrix, np.eye(3))


def test_unannotated_first_frame_accepts_every_draw() -> None:
    assert keeps_all_objects(None, resize_matrix((4, 4), (8, 8)), (8, 8))


def test_small_object_between_the_sampled_pixels_is_kept() -> None:
    masks = one_pixel(30, 5)
    assert keeps_all_objects(masks, np.eye(3), (24, 32))
    assert not keeps_all_objects(masks, np.eye(3), (24, 30))


def test_empty_mask_has_nothing_to_lose() -> None:
    masks = FrameMasks(object_ids=(1,), masks=np.zeros((1, 24, 32), bool))
    assert keeps_all_objects(masks, np.eye(3), (24, 32))


def test_sizes_are_all_drawn_and_no_other(loaded_state: Load) -> None:
    sizes = ((16, 16), (24, 32), (48, 48))
    resize = ClipRandomResize(sizes=sizes)
    drawn = [resize(loaded_state(seed)).size for seed in range(60)]
    assert set(drawn) == set(sizes)
    assert min(map(drawn.count, sizes)) > 8


def test_frames_of_a_clip_get_one_size(loaded_state: Load) -> None:
    state = ClipWarp()(ClipRandomResize(sizes=((8, 8), (16, 16)))(loaded_state()))
    assert {frame.shape[:2] for frame in state.frames} == {state.size}


@pytest.mark.parametrize(
    ('size', 'inside'), [((48, 48), (36, 48)), ((12, 64), (12, 16)), ((24, 32),) * 2]
)
def test_fitted_frames_keep_their_shape_and_are_padded(
    loaded_state: Load, size: tuple[int, int], inside: tuple[int, int]
) -> None:
    fitted = ClipFit(size=size)(loaded_state())
    assert fitted.size == size
    corner = fitted.matrix @ (31.5, 23.5, 1)
    np.testing.assert_allclose(corner[:2], (inside[1] - 0.5, inside[0] - 0.5))
    warped = ClipWarp()(fitted)
    beyond = np.ones(size, bool)
    beyond[: inside[0] + 1, : inside[1] + 1] = False
    assert (warped.frames[0][beyond] == FILL_COLOR).all()
    masks = warped.masklets[0]
    assert masks is not None
    assert not masks.masks[:, beyond].any()
    assert masks.masks.any(axis=(1, 2)).all()


def test_later_transforms_act_on_the_padded_frame(loaded_state: Load) -> None:
    fitted = ClipFit(size=(48, 48))(loaded_state())
    mirrored = ClipRandomFlip(probability=1.0)(fitted)
    assert (mirrored.matrix @ (-0.5, -0.5, 1))[0] == 47.5


@pytest.mark.parametrize('size', [(0, 4), (4, -1), (4, 4, 4)])
def test_sizes_must_be_positive(size: tuple[int, int]) -> None:
    for build in (ClipResize, ClipFit):
        with pytest.raises(ValueError, match='positive height and width'):
            build(size=size)
    with pytest.raises(ValueError, match='positive height and width'):
        ClipRandomResize(sizes=[(4, 4), size])


def test_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match='sizes is empty'):
        ClipRandomResize(sizes=())


def test_random_size_marks_the_clip_as_multi_scale(
    loaded_state: Load,
) -> None:
    drawn: dict[str, Any] = {'type': 'ClipRandomResize', 'sizes': [(8, 8), (16, 16)]}
    given: dict[str, Any] = {'type': 'ClipFit', 'size': (16, 16)}
    for steps, expected in (([drawn], True), ([drawn, given], False), ([given], False)):
        composed = loaded_state()
        for step in steps:
            composed = TRANSFORMS.build(step)(composed)
        one_by_one = ExactAugment(transforms=steps)(loaded_state())
        samples = (ClipPack()(ClipWarp()(composed)), ClipPack()(one_by_one))
        assert [sample.is_multi_scale for sample in samples] == [expected] * 2


def literal_jitter(
    frame: NDArray[np.float64], order: tuple[int, ...], factors: tuple[float, ...]
) -> NDArray[np.float64]:
    """Brightness, contrast and saturation as torchvision defines them."""
    for operation in order:
        factor = factors[operation]
        luma = frame @ np.array(LUMA)
        target = (np.zeros(1), luma.mean(), luma[..., None])[operation]
        frame = factor * frame + (1 - factor) * target
    return frame


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_composed_colours_equal_the_operations_in_their_order(
    order: tuple[int, ...],
) -> None:
    frame = np.random.default_rng(0).uniform(60, 180, (6, 7, 3))
    factors = (1.1, 0.8, 1.3)
    mean = np.append(frame.mean(axis=(0, 1)), 1.0)
    color = ColorJitter(order=order, factors=factors).compose(np.eye(3, 4), mean)
    composed = frame @ color[:, :3].T + color[:, 3]
    np.testing.assert_allclose(composed, literal_jitter(frame, order, factors))


def test_second_jitter_continues_the_first() -> None:
    frame = np.random.default_rng(1).uniform(60, 180, (6, 7, 3))
    mean = np.append(frame.mean(axis=(0, 1)), 1.0)
    color, expected = np.eye(3, 4), frame
    for order, factors in (((1, 0, 2), (1.1, 0.7, 0.9)), ((0, 1, 2), (0.8, 1.4, 1.2))):
        color = ColorJitter(order=order, factors=factors).compose(color, mean)
        expected = literal_jitter(expected, order, factors)
    np.testing.assert_allclose(frame @ color[:, :3].T + color[:, 3], expected)


@pytest.mark.parametrize('consistent', [True, False])
def test_colour_changes_are_drawn_for_each_clip_or_each_frame(
    loaded_state: Load,
    consistent: bool,
) -> None:
    change = ClipColorJitter(
        brightness=0.3, contrast=0.0, saturation=0.0, consistent=consistent
    )
    colors = change(loaded_state()).colors
    assert colors is not None
    assert np.allclose(colors[0], colors[1]) is consistent
    assert np.allclose(colors[0], colors[2]) is consistent


def test_factors_stay_within_their_strength(loaded_state: Load) -> None:
    change = ClipColorJitter(
        brightness=0.1, contrast=0.0, saturation=0.0, consistent=True
    )
    factors = []
    for seed in range(60):
        colors = change(loaded_state(seed)).colors
        assert colors is not None
        factors.append(colors[0, 0, 0])
    assert 0.9 <= min(factors) < 0.92
    assert 1.08 < max(factors) <= 1.1


def test_grey_clips_have_three_equal_channels(loaded_state: Load) -> None:
    state = loaded_state()
    grey = ClipWarp()(ClipRandomGrayscale(probability=1.0)(state))
    for before, after in zip(state.frames, grey.frames, strict=True):
        assert np.abs(after[..., 0] - before @ np.array(LUMA)).max() <= 1
        np.testing.assert_array_equal(after[..., 0], after[..., 2])


def test_grey_happens_at_its_rate(loaded_state: Load) -> None:
    grey = ClipRandomGrayscale(probability=0.25)
    changed = [grey(loaded_state(seed)).colors is not None for seed in range(300)]
    assert 0.15 < np.mean(changed) < 0.35


def test_rotated_hue_keeps_greys_and_luma_and_turns_red_to_green() -> None:
    turn = hue_matrix(1 / 3)
    np.testing.assert_allclose(turn @ np.ones(3), np.ones(3), atol=1e-3)
    np.testing.assert_allclose(np.array(LUMA) @ turn, LUMA, atol=1e-3)
    assert np.argmax(turn @ (1.0, 0.0, 0.0)) == 1
    near = hue_matrix(0.05) @ (0.8, 0.3, 0.3)
    expected = colorsys.hsv_to_rgb(0.05, 0.625, 0.8)
    assert np.abs(near - expected).max() < 0.2


def test_hue_is_drawn_within_its_strength(loaded_state: Load) -> None:
    change = ClipColorJitter(
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.1, consistent=True
    )
    turns = []
    for seed in range(40):
        (drawn,) = change.draw(loaded_state(seed))
        assert isinstance(drawn, ColorJitter)
        assert sorted(drawn.order) == [0, 1, 2, 3]
        turns.append(drawn.factors[3])
    assert -0.1 <= min(turns) < -0.05
    assert 0.05 < max(turns) <= 0.1


@pytest.mark.parametrize(
    'transform',
    [
        ClipRandomFlip(probability=0.5, consistent=False),
        ClipRandomAffine(degrees=20, consistent=False),
        ClipRandomGrayscale(probability=0.5, consistent=False),
        ClipColorJitter(brightness=0.3, contrast=0.1, saturation=0, consistent=False),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_each_frame_gets_its_own_draw(
    loaded_state: Load,
    transform: ClipRandomFlip,
) -> None:
    state = loaded_state(1)
    drawn = transform.draw(state)
    assert len(drawn) == len(state.frames)
    assert len(set(map(str, drawn))) > 1


def test_frames_that_move_differently_keep_their_masks(loaded_state: Load) -> None:
    state = loaded_state(1)
    turned = ClipRandomFlip(probability=0.5, consistent=False)(state)
    assert turned.matrix.shape == (3, 3, 3)
    turned = ClipResize(size=(24, 32))(turned)
    warped = ClipWarp()(turned)
    mirrored = turned.matrix[:, 0, 0] < 0
    assert 0 < mirrored.sum() < 3
    for time, is_mirrored in enumerate(mirrored):
        step = -1 if is_mirrored else 1
        frame, before, after = (
            state.frames[time],
            *(each.masklets[time] for each in (state, warped)),
        )
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(warped.frames[time], frame[:, ::step])
        np.testing.assert_array_equal(after.masks, before.masks[..., ::step])


def test_grey_frames_among_coloured_ones(loaded_state: Load) -> None:
    state = ClipRandomGrayscale(probability=0.5, consistent=False)(loaded_state(1))
    colors = state.colors
    assert colors is not None
    grey = [np.allclose(color[0], color[2]) for color in colors]
    assert set(grey) == {True, False}
    for color, is_grey in zip(colors, grey, strict=True):
        assert is_grey or np.array_equal(color, np.eye(3, 4))


def test_nothing_drawn_changes_nothing(loaded_state: Load) -> None:
    state = loaded_state()
    assert ClipRandomFlip(probability=0.0)(state) is state
    assert ClipRandomGrayscale(probability=0.0)(state) is state
