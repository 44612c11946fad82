"""Geometry of a clip: each transform only edits a matrix, ``ClipWarp`` applies it."""

from dataclasses import dataclass

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.operations import (
    GeometryOperation,
    GeometryTransform,
    num_draws,
)
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import FrameMasks

NUM_TRIES = 10


@dataclass(frozen=True, slots=True)
class Mirror(GeometryOperation):
    """Exchanges left and right."""

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The operation as a matrix: (3, 3), from old to new coordinates."""
        return np.array([[-1.0, 0.0, size[1] - 1.0], [0, 1, 0], [0, 0, 1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(GeometryOperation):
    """Shears along x, then turns and scales, all about the centre, then shifts.

    Attributes:
        angle: Degrees, clockwise as seen.
        shear: Degrees.
        scale: Factor.
        shift: ``(x, y)``, pixels.
    """

    angle: float
    shear: float
    scale: float
    shift: tuple[float, float]

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The operation as a matrix: (3, 3), from old to new coordinates."""
        return affine_matrix(
            angle=self.angle,
            shear=self.shear,
            scale=self.scale,
            center=((size[1] - 1) / 2, (size[0] - 1) / 2),
            shift=self.shift,
        )


@TRANSFORMS.register_module()
class ClipRandomFlip(GeometryTransform):
    """Mirrors clips from left to right.

    Args:
        probability: Share of clips (or frames) that are mirrored.
        consistent: One draw for all frames of a clip, or one for each.
    """

    def __init__(self, *, probability: float = 0.5, consistent: bool = True) -> None:
        self.probability = probability
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Mirror, or not.

        Args:
            state: A clip.

        Returns:
            One operation for all frames, or one for each; None changes nothing.
        """
        draws = state.rng.random(num_draws(state, consistent=self.consistent))
        return [Mirror() if draw < self.probability else None for draw in draws]


@TRANSFORMS.register_module()
class ClipRandomAffine(GeometryTransform):
    """Turns, shears, scales and shifts clips about the centre.

    A draw that moves an object wholly out of the first frame is refused and drawn
    again; after 10 refusals the clip stays as it is.

    Args:
        degrees: Largest angle of the rotation to either side.
        shear: Largest angle of the shear along x to either side, in degrees.
        scale: Smallest and largest factor.
        translate: Largest shift, as a share of width and height.
        consistent: One draw for all frames of a clip, or one for each.
    """

    def __init__(
        self,
        *,
        degrees: float,
        shear: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        translate: float = 0.0,
        consistent: bool = True,
    ) -> None:
        self.degrees = degrees
        self.shear = shear
        self.scale = scale
        self.translate = translate
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Draw until every object stays in sight.

        Args:
            state: A clip with ``masklets``, ``matrix`` and ``size``.

        Returns:
            One operation for all frames, or one for each; None where all draws were
            refused.
        """
        count = num_draws(state, consistent=self.consistent)
        before = np.broadcast_to(state.matrix, (state.num_frames, 3, 3))[0]
        for _ in range(NUM_TRIES):
            drawn = [self._draw(state) for _ in range(count)]
            matrix = drawn[0].matrix(state.size) @ before
            if keeps_all_objects(state.masklets[0], matrix, state.size):
                return [*drawn]
        return [None]

    def _draw(self, state: ClipState) -> Affine:
        rng, (height, width) = state.rng, state.size
        angle = rng.uniform(-self.degrees, self.degrees)
        shear = rng.uniform(-self.shear, self.shear)
        scale = rng.uniform(*self.scale)
        shift = rng.uniform(-self.translate, self.translate, 2) * (width, height)
        return Affine(
            angle=angle,
            shear=shear,
            scale=scale,
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
        masks: Masks of the frame; empty ones have nothing to lose.
        matrix: (3, 3), from the file to the frame.
        size: Height and width of the frame.

    Returns:
        False if an object is wholly outside.
    """
    if masks is None:
        return True
    return all(
        # Few pixels usually tell; all of them are asked where those do not.
        any_pixel_inside(mask, matrix, size, stride=8)
        or any_pixel_inside(mask, matrix, size, stride=1)
        or not mask.any()
        for mask in masks.masks
    )


def any_pixel_inside(
    mask: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    stride: int,
) -> bool:
    """Is some pixel of a mask in the frame?

    Args:
        mask: (height, width).
        matrix: (3, 3), from the mask to the frame.
        size: Height and width of the frame.
        stride: Asks every n-th pixel of every n-th row.

    Returns:
        Whether one of those asked is.
    """
    y, x = np.nonzero(mask[::stride, ::stride])
    moved = matrix[:2, :2] @ np.stack([x, y]) * stride + matrix[:2, 2:]
    inside = (moved >= -0.5) & (moved <= np.array([[size[1]], [size[0]]]) - 0.5)
    return bool(inside.all(axis=0).any())
