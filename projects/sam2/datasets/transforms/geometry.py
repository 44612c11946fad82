"""Geometry of a clip: each transform only edits a matrix, ``ClipWarp`` applies it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...structures import FrameMasks
from .base import (
    ClipState,
    GeometryOperation,
    GeometryTransform,
    identity_matrix,
    num_draws,
)

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
        matrix: (3, 3), from the file to the frame.

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
        stride: Asks every n-th pixel of every n-th row.
    """
    y, x = np.nonzero(mask[::stride, ::stride])
    moved = matrix[:2, :2] @ np.stack([x, y]) * stride + matrix[:2, 2:]
    inside = (moved >= -0.5) & (moved <= np.array([[size[1]], [size[0]]]) - 0.5)
    return bool(inside.all(axis=0).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(GeometryOperation):
    """Stretches a frame.

    Attributes:
        size: New height and width.
    """

    size: tuple[int, int]

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The operation as a matrix: (3, 3), from old to new coordinates."""
        return resize_matrix(size, self.size)

    def new_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width after the operation."""
        del size
        return self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit(GeometryOperation):
    """Scales a frame to fit and pads it below or to the right.

    Attributes:
        size: New height and width.
    """

    size: tuple[int, int]

    def inner_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size of the scaled frame without its padding.

        Returns:
            Height and width; one of them is that of ``self.size``.
        """
        factor = min(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The operation as a matrix: (3, 3), from old to new coordinates."""
        return resize_matrix(size, self.inner_size(size))

    def new_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width after the operation, padding included."""
        del size
        return self.size


class SizingTransform(GeometryTransform):
    """Gives clips their size.

    Attributes:
        is_multi_scale: Whether the size is drawn from several.
    """

    is_multi_scale: ClassVar[bool] = False

    def __call__(self, state: ClipState) -> ClipState:
        """Give a clip its size.

        Args:
            state: A clip with frames, masklets and ``size``.

        Returns:
            The clip with another ``matrix`` and ``size``, and ``is_multi_scale``.
        """
        return replace(super().__call__(state), is_multi_scale=self.is_multi_scale)


class OneSize(SizingTransform):
    """Brings all clips to one size; a subclass says by which operation.

    Args:
        size: Height and width.

    Raises:
        ValueError: If a side is not positive.
    """

    operation: ClassVar[type[Resize | Fit]]

    def __init__(self, *, size: tuple[int, int]) -> None:
        self.size = checked(size)

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """The same for every clip."""
        del state
        return [self.operation(size=self.size)]


@TRANSFORMS.register_module()
class ClipResize(OneSize):
    """Stretches frames to one size, given as height and width."""

    operation = Resize


@TRANSFORMS.register_module()
class ClipRandomResize(SizingTransform):
    """Stretches the frames of a clip to one of several sizes.

    Clips of one batch need one size: use it with a batch size of 1, or with sizes
    that only stretch differently before a :class:`ClipFit` or :class:`ClipResize`.

    Args:
        sizes: Heights and widths, drawn with equal probability.

    Raises:
        ValueError: If there is no size, or a side is not positive.
    """

    is_multi_scale = True

    def __init__(self, *, sizes: Sequence[tuple[int, int]]) -> None:
        if not sizes:
            msg = 'sizes is empty; give at least one height and width'
            raise ValueError(msg)
        self.sizes = tuple(checked(size) for size in sizes)

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Draw a size."""
        return [Resize(size=self.sizes[state.rng.integers(len(self.sizes))])]


@TRANSFORMS.register_module()
class ClipFit(OneSize):
    """Scales frames to fit into one size and pads them below or to the right.

    The padding has the mean colour and no object, as all that :class:`ClipWarp` takes
    from outside a frame. The size is height and width.
    """

    operation = Fit


def checked(size: tuple[int, int]) -> tuple[int, int]:
    """Check a size.

    Raises:
        ValueError: If a side is not positive.
    """
    if len(size) != 2 or min(size) < 1:
        msg = f'size is {tuple(size)}; give a positive height and width'
        raise ValueError(msg)
    return int(size[0]), int(size[1])


BITS = 8
DIRECT_SCALE = 2 / 3  # down to which bilinear sampling leaves no pixel out
FILL_COLOR = (124, 116, 104)  # the mean colour by which frames are normalised


@TRANSFORMS.register_module()
class ClipWarp:
    """Applies what the transforms before it composed.

    Frames are sampled bilinearly, after an area-averaged reduction where they shrink
    to less than two thirds (no aliasing); masks take the nearest pixel. What comes
    from outside the frame has the mean colour, changed as the frame's, and no object.
    """

    def __call__(self, state: ClipState) -> ClipState:
        """Apply ``matrix`` and ``colors``.

        Returns:
            The clip with frames and masklets of ``size``, the identity as ``matrix``
            and no ``colors``.
        """
        matrices = np.broadcast_to(state.matrix, (state.num_frames, 3, 3))
        frames = state.frames
        fills = [FILL_COLOR] * state.num_frames
        if state.colors is not None:
            pairs = list(zip(frames, state.colors, strict=True))
            frames = tuple(np.asarray(cv2.transform(*p), np.uint8) for p in pairs)
            fills = [color @ (*FILL_COLOR, 1) for _, color in pairs]
        return replace(
            state,
            frames=tuple(
                warp_frame(frame, matrix, state.size, fill)
                for frame, matrix, fill in zip(frames, matrices, fills, strict=True)
            ),
            masklets=tuple(
                masks and warp_masks(masks, matrix, state.size)
                for masks, matrix in zip(state.masklets, matrices, strict=True)
            ),
            matrix=identity_matrix(),
            colors=None,
        )


def warp_frame(
    frame: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    fill: Sequence[float] | NDArray[np.float64] = FILL_COLOR,
) -> NDArray[np.uint8]:
    """Resample a frame.

    Args:
        frame: (height, width, 3).
        matrix: (3, 3), from the frame to the result.
        fill: (3,), colour of what comes from outside.

    Returns:
        (size[0], size[1], 3).
    """
    height, width = frame.shape[:2]
    scale_x, scale_y = np.linalg.norm(matrix[:2, :2], axis=0)
    reduced = (shrunk_side(height, scale_y), shrunk_side(width, scale_x))
    if reduced != (height, width):
        frame = np.asarray(
            cv2.resize(frame, reduced[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix = matrix @ np.linalg.inv(resize_matrix((height, width), reduced))
    if reduced == size and np.allclose(matrix, np.eye(3), atol=1e-6):
        return frame
    # OpenCV warps four channels in little more than half the time of three.
    warped = cv2.warpAffine(
        cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA),
        matrix[:2],
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderValue=tuple(np.clip(fill, 0, 255).tolist()),
    )
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), np.uint8)


def shrunk_side(length: int, scale: float) -> int:
    """Side to which a frame is averaged before it is sampled.

    Args:
        length: Of the side, in pixels.

    Returns:
        The same side where it loses less than a third.
    """
    return length if scale >= DIRECT_SCALE else max(1, round(length * scale))


def warp_labels(
    labels: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resample a map of labels, each pixel from the nearest one.

    Args:
        labels: (height, width).
        matrix: (3, 3), from the map to the result.

    Returns:
        (size[0], size[1]), 0 where it comes from outside.
    """
    warped = cv2.warpAffine(labels, matrix[:2], size[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(warped, np.uint8)


def warp_masks(
    masks: FrameMasks, matrix: NDArray[np.float64], size: tuple[int, int]
) -> FrameMasks:
    """Resample masks, eight at a time as the bits of one map.

    Args:
        masks: Masks of a frame, as in the file; they may overlap.
        matrix: (3, 3), from the file to the result.

    Returns:
        Masks of the same objects at ``size``.
    """
    layers = [*masks.masks] if masks.void is None else [*masks.masks, masks.void]
    warped = np.empty((len(layers), *size), bool)
    for start in range(0, len(layers), BITS):
        labels = as_bits(layers[start : start + BITS])
        labels = warp_labels(labels, matrix, size)
        for bit, layer in enumerate(warped[start : start + BITS]):
            np.not_equal(labels & np.uint8(1 << bit), 0, out=layer)
    count = len(masks.object_ids)
    return FrameMasks(
        object_ids=masks.object_ids,
        masks=warped[:count],
        void=None if masks.void is None else warped[count],
    )


def as_bits(layers: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Put masks into the bits of one map.

    Args:
        layers: 1 to 8 masks (height, width).

    Returns:
        (height, width), the first mask in the lowest bit.
    """
    labels = layers[0].astype(np.uint8)
    for bit, layer in enumerate(layers[1:], 1):
        labels |= layer.view(np.uint8) << np.uint8(bit)
    return labels
