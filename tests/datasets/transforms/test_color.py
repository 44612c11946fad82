"""Colour transforms, against the operations done one by one."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import (
    ClipColorJitter,
    ClipRandomGrayscale,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.transforms.color import Jitter, hue_matrix, jitter

Load = Callable[..., ClipState]
LUMA = (0.299, 0.587, 0.114)


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
    color = jitter(np.eye(3, 4), mean, order, factors)
    composed = frame @ color[:, :3].T + color[:, 3]
    np.testing.assert_allclose(composed, literal_jitter(frame, order, factors))


def test_second_jitter_continues_the_first() -> None:
    frame = np.random.default_rng(1).uniform(60, 180, (6, 7, 3))
    mean = np.append(frame.mean(axis=(0, 1)), 1.0)
    color, expected = np.eye(3, 4), frame
    for order, factors in (((1, 0, 2), (1.1, 0.7, 0.9)), ((0, 1, 2), (0.8, 1.4, 1.2))):
        color = jitter(color, mean, order, factors)
        expected = literal_jitter(expected, order, factors)
    np.testing.assert_allclose(frame @ color[:, :3].T + color[:, 3], expected)


@pytest.mark.parametrize('consistent', [True, False])
def test_frames_of_a_clip_change_alike_or_each_for_itself(
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


def test_turned_hue_keeps_greys_and_luma_and_turns_red_towards_green() -> None:
    turn = hue_matrix(1 / 3)
    np.testing.assert_allclose(turn @ np.ones(3), np.ones(3), atol=1e-3)
    np.testing.assert_allclose(np.array(LUMA) @ turn, LUMA, atol=1e-3)
    assert np.argmax(turn @ (1.0, 0.0, 0.0)) == 1
    near = hue_matrix(0.05) @ (0.8, 0.3, 0.3)
    expected = colorsys.hsv_to_rgb(0.05, 0.625, 0.8)
    assert np.abs(near - expected).max() < 0.2


def test_hue_is_drawn_where_it_is_asked_for(loaded_state: Load) -> None:
    change = ClipColorJitter(
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.1, consistent=True
    )
    turns = []
    for seed in range(40):
        (drawn,) = change.draw(loaded_state(seed))
        assert isinstance(drawn, Jitter)
        assert sorted(drawn.order) == [0, 1, 2, 3]
        turns.append(drawn.factors[3])
    assert -0.1 <= min(turns) < -0.05
    assert 0.05 < max(turns) <= 0.1
