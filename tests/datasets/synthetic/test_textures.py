"""Random textures."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets.sources.synthetic import (
    PATTERNS,
    ground_texture,
    object_texture,
    value_noise,
)

Pattern = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]]


@pytest.mark.parametrize('pattern', PATTERNS)
def test_patterns_vary_between_nought_and_one(pattern: Pattern) -> None:
    drawn = pattern(np.random.default_rng(0), (40, 60))
    assert drawn.shape == (40, 60)
    assert (drawn.min(), drawn.max()) == (0, 1)
    assert drawn.std() > 0.1


def test_noise_of_a_coarser_cell_is_smoother() -> None:
    rough, smooth = (
        np.abs(np.diff(value_noise(np.random.default_rng(0), (64, 64), (cell,)))).mean()
        for cell in (3, 24)
    )
    assert rough > 3 * smooth


def test_textures_depend_on_the_generator_alone() -> None:
    first, again, other = (
        object_texture(np.random.default_rng(seed), 50) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_ground_fills_the_range_without_wrapping() -> None:
    ground = ground_texture(np.random.default_rng(3), (80, 120))
    assert ground.shape == (80, 120, 3)
    # A value that wrapped around would leave a jump of more than 200.
    assert np.abs(np.diff(ground.astype(int), axis=1)).max() < 120
