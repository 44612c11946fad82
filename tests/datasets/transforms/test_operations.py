"""Operations that are drawn once, or for each frame."""

from collections.abc import Callable

import numpy as np
import pytest

from projects.sam2.datasets import (
    ClipColorJitter,
    ClipRandomAffine,
    ClipRandomFlip,
    ClipRandomGrayscale,
    ClipResize,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.transforms.base import DrawnTransform, colors_of

Load = Callable[..., ClipState]


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
    transform: DrawnTransform[object],  # type: ignore[type-var]
) -> None:
    state = loaded_state(1)
    drawn = transform.draw(state)
    assert len(drawn) == state.num_frames
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
    colors = colors_of(state)
    grey = [np.allclose(color[0], color[2]) for color in colors]
    assert set(grey) == {True, False}
    for color, is_grey in zip(colors, grey, strict=True):
        assert is_grey or np.array_equal(color, np.eye(3, 4))


def test_nothing_drawn_changes_nothing(loaded_state: Load) -> None:
    state = loaded_state()
    assert ClipRandomFlip(probability=0.0)(state) is state
    assert ClipRandomGrayscale(probability=0.0)(state) is state


def test_unchanged_colours_are_the_identity(loaded_state: Load) -> None:
    np.testing.assert_array_equal(colors_of(loaded_state()), [np.eye(3, 4)] * 3)
