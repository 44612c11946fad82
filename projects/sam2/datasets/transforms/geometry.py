"""Geometry of a clip: each transform only edits a matrix, ``ClipWarp`` applies it."""

from dataclasses import replace

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import FrameMasks

NUM_TRIES = 10


@TRANSFORMS.register_module()
class ClipRandomFlip:
    """Mirrors whole clips from left to right.

    Args:
        probability: Share of clips that are mirrored.
    """

    def __init__(self, *, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, state: ClipState) -> ClipState:
        """Mirror the clip, or not.

        Args:
            state: A clip with its ``size``.

        Returns:
            The clip with another ``matrix``.
        """
        if state.rng.random() >= self.probability:
            return state
        mirror = np.array([[-1.0, 0.0, state.size[1] - 1.0], [0, 1, 0], [0, 0, 1]])
        return replace(state, matrix=mirror @ state.matrix)


@TRANSFORMS.register_module()
class ClipResize:
    """Stretches frames to one size.

    Args:
        size: Height and width.
    """

    def __init__(self, *, size: tuple[int, int]) -> None:
        self.size = (int(size[0]), int(size[1]))

    def __call__(self, state: ClipState) -> ClipState:
        """Stretch the clip.

        Args:
            state: A clip with its ``size``.

        Returns:
            The clip with another ``matrix`` and ``size``.
        """
        matrix = resize_matrix(state.size, self.size) @ state.matrix
        return replace(state, matrix=matrix, size=self.size)


@TRANSFORMS.register_module()
class ClipRandomAffine:
    """Turns, shears, scales and shifts whole clips about the centre.

    A draw that moves an object wholly out of the first frame is refused and drawn
    again; after 10 refusals the clip stays as it is.

    Args:
        degrees: Largest angle of the rotation to either side.
        shear: Largest angle of the shear along x to either side, in degrees.
        scale: Smallest and largest factor.
        translate: Largest shift, as a share of width and height.
    """

    def __init__(
        self,
        *,
        degrees: float,
        shear: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        translate: float = 0.0,
    ) -> None:
        self.degrees = degrees
        self.shear = shear
        self.scale = scale
        self.translate = translate

    def __call__(self, state: ClipState) -> ClipState:
        """Draw a transform.

        Args:
            state: A clip with ``masklets`` and ``size``.

        Returns:
            The clip with another ``matrix``.
        """
        for _ in range(NUM_TRIES):
            matrix = self._draw(state) @ state.matrix
            if keeps_all_objects(state.masklets[0], matrix, state.size):
                return replace(state, matrix=matrix)
        return state

    def _draw(self, state: ClipState) -> NDArray[np.float64]:
        rng, (height, width) = state.rng, state.size
        angle = rng.uniform(-self.degrees, self.degrees)
        shear = rng.uniform(-self.shear, self.shear)
        scale = rng.uniform(*self.scale)
        shift = rng.uniform(-self.translate, self.translate, 2) * (width, height)
        return affine_matrix(
            angle=angle,
            shear=shear,
            scale=scale,
            center=((width - 1) / 2, (height - 1) / 2),
            shift=(float(shift[0]), float(shift[1])),
        )


def affine_matrix(
    *,
    angle: float,
    shear: float,
    scale: float,
    center: tuple[float, float],
    shift: tuple[float, float],
) -> NDArray[np.float64]:
    """Shear along x, then turn and scale, all about a centre, then shift.

    Args:
        angle: Degrees, clockwise as seen.
        shear: Degrees.
        scale: Factor.
        center: ``(x, y)`` that only the shift moves.
        shift: ``(x, y)``, pixels.

    Returns:
        (3, 3), from old to new coordinates.
    """
    turn, tangent = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = scale * rotation @ np.array([[1.0, -tangent], [0.0, 1.0]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = np.array(center) + shift - linear @ np.array(center)
    return matrix


def resize_matrix(old: tuple[int, int], new: tuple[int, int]) -> NDArray[np.float64]:
    """Map pixel centres of one size to those of another.

    Args:
        old: Height and width.
        new: Height and width.

    Returns:
        (3, 3), from old to new coordinates.
    """
    scale_y, scale_x = new[0] / old[0], new[1] / old[1]
    return np.array(
        [
            [scale_x, 0.0, (scale_x - 1) / 2],
            [0.0, scale_y, (scale_y - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )


def keeps_all_objects(
    masks: FrameMasks | None, matrix: NDArray[np.float64], size: tuple[int, int]
) -> bool:
    """Is some pixel of each object still in the frame?

    Args:
        masks: Masks of the frame, none of them empty.
        matrix: (3, 3), from the file to the frame.
        size: Height and width of the frame.

    Returns:
        False if an object is wholly outside.
    """
    if masks is None:
        return True
    height, width = size
    for mask in masks.masks:
        y, x = np.nonzero(mask)
        moved = matrix[:2, :2] @ np.stack([x, y]) + matrix[:2, 2:]
        inside_x = (moved[0] >= -0.5) & (moved[0] <= width - 0.5)
        inside_y = (moved[1] >= -0.5) & (moved[1] <= height - 0.5)
        if not np.any(inside_x & inside_y):
            return False
    return True
