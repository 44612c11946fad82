"""Colours of a clip: each transform only edits a matrix, ``ClipWarp`` applies it.

Between two operations values are neither rounded nor cut off; at the end they are.
"""

from dataclasses import replace

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.state import ClipState

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@TRANSFORMS.register_module()
class ClipColorJitter:
    """Changes brightness, contrast and saturation, in a random order.

    Args:
        brightness: A factor is drawn from 1 - b to 1 + b; likewise below.
        contrast: Of the difference to the frame's mean luma.
        saturation: Of the difference to the pixel's luma.
        consistent: One draw for all frames of a clip, or one for each.
    """

    def __init__(
        self,
        *,
        brightness: float,
        contrast: float,
        saturation: float,
        consistent: bool,
    ) -> None:
        self.strengths = (brightness, contrast, saturation)
        self.consistent = consistent

    def __call__(self, state: ClipState) -> ClipState:
        """Draw a change of colours.

        Args:
            state: A clip with ``frames`` as in their files.

        Returns:
            The clip with other ``colors``.
        """
        colors = colors_of(state)
        changed = []
        order, factors = self._draw(state.rng)
        for index, color in enumerate(colors):
            if index and not self.consistent:
                order, factors = self._draw(state.rng)
            mean = np.append(cv2.mean(state.frames[index])[:3], 1.0)
            changed.append(jitter(color, mean, order, factors))
        return replace(state, colors=np.stack(changed))

    def _draw(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        order = rng.permutation(3)
        return order, 1 + rng.uniform(-1.0, 1.0, 3) * self.strengths


@TRANSFORMS.register_module()
class ClipRandomGrayscale:
    """Takes the colours from whole clips.

    Args:
        probability: Share of clips that become grey.
    """

    def __init__(self, *, probability: float) -> None:
        self.probability = probability

    def __call__(self, state: ClipState) -> ClipState:
        """Make the clip grey, or not.

        Args:
            state: A clip with ``frames``.

        Returns:
            The clip with other ``colors``.
        """
        if state.rng.random() >= self.probability:
            return state
        to_luma = np.tile(LUMA, (3, 1))
        return replace(state, colors=to_luma @ colors_of(state))


def colors_of(state: ClipState) -> NDArray[np.float64]:
    """Colours so far.

    Args:
        state: A clip.

    Returns:
        (T, 3, 4); the identity where nothing was changed.
    """
    if state.colors is not None:
        return state.colors
    return np.tile(np.eye(3, 4), (state.num_frames, 1, 1))


def jitter(
    color: NDArray[np.float64],
    mean: NDArray[np.float64],
    order: NDArray[np.int64],
    factors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Append brightness, contrast and saturation to a change of colours.

    Args:
        color: (3, 4), the change so far.
        mean: (4,), mean of ``(r, g, b, 1)`` in the file.
        order: Permutation of 0 (brightness), 1 (contrast), 2 (saturation).
        factors: Of brightness, contrast and saturation.

    Returns:
        (3, 4).
    """
    for operation in order.tolist():
        factor = float(factors[operation])
        color = color.copy() if operation == 1 else color
        if operation == 0:
            color = factor * color
        elif operation == 1:
            # The mean is that of the frame as changed so far: affine maps keep means.
            mean_luma = float(LUMA @ (color @ mean))
            color = factor * color
            color[:, 3] += (1 - factor) * mean_luma
        else:
            blend = factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))
            color = blend @ color
    return color
