"""Colours of a clip: each transform only edits a matrix, ``ClipWarp`` applies it.

Between two operations values are neither rounded nor cut off; at the end they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from .base import (
    ClipState,
    ColorOperation,
    ColorTransform,
    num_draws,
)

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter(ColorOperation):
    """Changes brightness, contrast, saturation and hue.

    Attributes:
        order: Of what is changed: 0 (brightness), 1 (contrast), 2 (saturation) and 3
            (hue).
        factors: Of brightness, contrast and saturation; the hue's share of a turn.
    """

    order: tuple[int, ...]
    factors: tuple[float, ...]

    def change(
        self, color: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Append the operation to a change of colours: (3, 4)."""
        return jitter(color, mean, self.order, self.factors)


@dataclass(frozen=True, slots=True)
class Grayscale(ColorOperation):
    """Takes the colours away."""

    def change(
        self, color: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Append the operation to a change of colours: (3, 4)."""
        del mean
        grey: NDArray[np.float64] = np.tile(LUMA, (3, 1)) @ color
        return grey


@TRANSFORMS.register_module()
class ClipColorJitter(ColorTransform):
    """Changes brightness, contrast, saturation and hue, in a random order.

    Args:
        brightness: A factor is drawn from 1 - b to 1 + b; likewise below.
        contrast: Of the difference to the frame's mean luma.
        saturation: Of the difference to the pixel's luma.
        consistent: One draw for all frames of a clip, or one for each.
        hue: Largest shift to either side, as a share of a turn. Colours are turned
            about the axis of the greys, which is linear and close to a shift of HSV's
            hue, but keeps the luma.
    """

    def __init__(
        self,
        *,
        brightness: float,
        contrast: float,
        saturation: float,
        consistent: bool,
        hue: float = 0.0,
    ) -> None:
        self.strengths = (brightness, contrast, saturation)
        self.hue = hue
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[ColorOperation | None]:
        """Draw orders and factors."""
        count = num_draws(state, consistent=self.consistent)
        return [self._draw(state.rng) for _ in range(count)]

    def _draw(self, rng: np.random.Generator) -> Jitter:
        order = rng.permutation(4 if self.hue else 3)
        factors = 1 + rng.uniform(-1.0, 1.0, 3) * self.strengths
        turn = rng.uniform(-self.hue, self.hue) if self.hue else 0.0
        return Jitter(order=tuple(order.tolist()), factors=(*factors.tolist(), turn))


@TRANSFORMS.register_module()
class ClipRandomGrayscale(ColorTransform):
    """Takes the colours from clips.

    Args:
        probability: Share of clips (or frames) that become grey.
        consistent: One draw for all frames of a clip, or one for each.
    """

    def __init__(self, *, probability: float, consistent: bool = True) -> None:
        self.probability = probability
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[ColorOperation | None]:
        """Make grey, or not.

        Returns:
            One operation for all frames, or one for each; None changes nothing.
        """
        draws = state.rng.random(num_draws(state, consistent=self.consistent))
        return [Grayscale() if draw < self.probability else None for draw in draws]


def jitter(
    color: NDArray[np.float64],
    mean: NDArray[np.float64],
    order: Sequence[int],
    factors: Sequence[float],
) -> NDArray[np.float64]:
    """Append brightness, contrast, saturation and hue to a change of colours.

    Args:
        color: (3, 4), the change so far.
        mean: (4,), mean of ``(r, g, b, 1)`` in the file.
        order: Of 0 (brightness), 1 (contrast), 2 (saturation) and 3 (hue).
        factors: Of brightness, contrast and saturation; the hue's share of a turn.

    Returns:
        (3, 4).
    """
    for operation in order:
        factor = factors[operation]
        if operation == 0:
            color = factor * color
        elif operation == 1:
            # The mean is that of the frame as changed so far: affine maps keep means.
            mean_luma = float(LUMA @ (color @ mean))
            color = factor * color
            color[:, 3] += (1 - factor) * mean_luma
        elif operation == 2:
            blend = factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))
            color = blend @ color
        else:
            color = hue_matrix(factor) @ color
    return color


def hue_matrix(share: float) -> NDArray[np.float64]:
    """Turn colours about the axis of the greys in YIQ, which keeps their luma.

    Returns:
        (3, 3), from ``(r, g, b)`` to ``(r, g, b)``.
    """
    angle = 2 * np.pi * share
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    matrix: NDArray[np.float64] = np.linalg.inv(TO_YIQ) @ turn @ TO_YIQ
    return matrix
