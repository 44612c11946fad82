"""The size of a clip."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from exact_transforms import ExactAugment
from projects.sam2.datasets import (
    ClipFit,
    ClipPack,
    ClipRandomFlip,
    ClipRandomResize,
    ClipResize,
    ClipState,
    ClipWarp,
)
from projects.sam2.datasets.transforms.geometry import FILL_COLOR

Load = Callable[..., ClipState]


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


def test_what_comes_after_acts_on_the_padded_frame(loaded_state: Load) -> None:
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


def test_size_that_is_drawn_is_told_from_one_that_is_given(
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
