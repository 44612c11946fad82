"""Random textures, as images that objects and grounds are cut from."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

NOISE_CELLS = (48, 20, 8, 3)  # pixels of a cell, coarse to fine
GRAIN = 0.25  # share of the noise in a pattern


def value_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, ...]
) -> NDArray[np.float32]:
    """Sum smooth noise of several scales.

    Args:
        rng: Source of the noise.
        size: Height and width.
        cells: Pixels of a cell of each scale, coarse (strong) to fine (weak).

    Returns:
        (height, width), in [0, 1].
    """
    height, width = size
    total = np.zeros(size, np.float32)
    for octave, cell in enumerate(cells):
        grid = rng.random((height // cell + 2, width // cell + 2), np.float32)
        smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(smooth, np.float32) * 0.5**octave
    low, high = total.min(), total.max()
    return np.asarray((total - low) / (high - low), np.float32)


def stripes(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Parallel bands of a random direction and width, in [0, 1]."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(7, 16)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period
    return np.asarray(np.sin(2 * np.pi * phase) > 0, np.float32)


def checks(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """A chessboard of random direction and width, in [0, 1]."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(14, 26)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period
    across = (y * np.cos(angle) - x * np.sin(angle)) / period
    product = np.sin(2 * np.pi * along) * np.sin(2 * np.pi * across)
    return np.asarray(product > 0, np.float32)


def spots(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Blotches of two levels, in [0, 1]."""
    noise = value_noise(rng, size, (int(rng.integers(7, 14)),))
    return np.asarray(noise > 0.55, np.float32)


def clouds(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise, in [0, 1]."""
    return value_noise(rng, size, NOISE_CELLS[1:])


PATTERNS: tuple[
    Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]], ...
] = (stripes, checks, spots, clouds)


def object_texture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw a texture of two colours.

    Args:
        rng: Source of the pattern and of the colours.
        size: Height and width.

    Returns:
        (size, size, 3), RGB.
    """
    dark, light = rng.uniform(20, 150, 3), rng.uniform(90, 245, 3)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, (size, size))
    noise = value_noise(rng, (size, size), NOISE_CELLS[2:])
    mix = ((1 - GRAIN) * pattern + GRAIN * noise)[..., None]
    return np.asarray(dark + (light - dark) * mix, np.uint8)


def ground_texture(
    rng: np.random.Generator, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw a ground of three colours, rough at all scales.

    Args:
        rng: Source of the pattern and of the colours.
        size: Height and width.

    Returns:
        (height, width, 3), RGB.
    """
    colors = rng.uniform(60, 180, (3, 3))
    broad = value_noise(rng, size, NOISE_CELLS[:2])[..., None]
    fine = value_noise(rng, size, NOISE_CELLS[1:])[..., None]
    mixed = colors[0] * broad + colors[1] * (1 - broad)
    return (
        np.asarray(0.65 * mixed + 0.35 * colors[2] * 2 * fine, np.float32)
        .clip(0, 255)
        .astype(np.uint8)
    )
