"""Geometry and colour of a clip: composed first, applied once.

Geometry transforms (flip, affine, resize, fit) multiply ``ClipState.matrix``, colour
transforms (jitter, grayscale) ``ClipState.colors``. ``ClipWarp`` then resamples each
frame once, so nothing is blurred twice and colours are rounded only at the end.

A transform draws operations (``Flip``, ``Affine``, ``ColorJitter``, …) from the clip's
random numbers: one for all frames, or one for each.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...structures import FrameMasks
from ..clip_dataset import ClipState

MAX_AFFINE_DRAWS = 10
MASKS_PER_MAP = 8  # bits of a byte
DIRECT_SCALE = 2 / 3  # down to which bilinear sampling leaves no pixel out
FILL_COLOR = (124, 116, 104)  # mean colour of the normalization
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

Matrix = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Size = tuple[int, int]  # height and width


# ---------------------------------------------------------------- geometry


class GeometryOperation(ABC):
    """Moves the pixels of a frame."""

    __slots__ = ()

    @abstractmethod
    def matrix(self, size: Size) -> Matrix:
        """Return (3, 3), from old to new ``(x, y, 1)`` for frames of a size."""

    def new_size(self, size: Size) -> Size:
        """Return the size of the frame after the operation."""
        return size


class GeometryTransform(ABC):
    """Draws operations and composes them into ``matrix`` and ``size``."""

    # Whether the size is drawn from several; None for a transform that keeps the size.
    is_multi_scale: ClassVar[bool | None] = None

    @abstractmethod
    def draw(self, state: ClipState) -> Sequence[GeometryOperation | None]:
        """Draw one operation for all frames, or one for each; None changes nothing."""

    def __call__(self, state: ClipState) -> ClipState:
        """Compose the operations with those before."""
        if self.is_multi_scale is not None:
            state = replace(state, is_multi_scale=self.is_multi_scale)
        operations = self.draw(state)
        if not any(operations):
            return state
        old = state.size
        matrices = np.stack([o.matrix(old) if o else np.eye(3) for o in operations])
        if len(operations) == 1:
            matrices = matrices[0]
        (size,) = {o.new_size(old) if o else old for o in operations}
        return replace(state, matrix=matrices @ state.matrix, size=size)


@dataclass(frozen=True, slots=True)
class Flip(GeometryOperation):
    """Mirrors left and right."""

    def matrix(self, size: Size) -> Matrix:
        """See the base class."""
        return np.array([[-1.0, 0.0, size[1] - 1.0], [0, 1, 0], [0, 0, 1]])


@TRANSFORMS.register_module()
class ClipRandomFlip(GeometryTransform):
    """Mirrors clips left and right.

    Args:
        probability: Share of clips (or frames) that are mirrored.
        consistent: Draw once for all frames of a clip, not for each.
    """

    def __init__(self, *, probability: float = 0.5, consistent: bool = True) -> None:
        self.probability = probability
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Draw flips."""
        draws = state.rng.random(1 if self.consistent else len(state.frames))
        return [Flip() if draw < self.probability else None for draw in draws]


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(GeometryOperation):
    """Shears along x, rotates and scales about the centre, then shifts.

    Attributes:
        angle: Degrees, clockwise.
        shear: Degrees.
        scale: Factor.
        shift: ``(x, y)`` in pixels.
    """

    angle: float
    shear: float
    scale: float
    shift: tuple[float, float]

    def matrix(self, size: Size) -> Matrix:
        """See the base class."""
        center = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
        angle, shear = np.deg2rad(self.angle), np.tan(np.deg2rad(self.shear))
        rotation = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        linear = self.scale * rotation @ np.array([[1.0, -shear], [0.0, 1.0]])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = center + self.shift - linear @ center
        return matrix


@TRANSFORMS.register_module()
class ClipRandomAffine(GeometryTransform):
    """Rotates, shears, scales and shifts clips about the centre.

    A draw that moves an object completely out of the first frame is repeated; after 10
    such draws the clip stays as it is.

    Args:
        degrees: Largest rotation to either side.
        shear: Largest shear along x to either side, in degrees.
        scale: Smallest and largest factor.
        translate: Largest shift, as a share of width and height.
        consistent: Draw once for all frames of a clip, not for each.
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
        """Draw until every object stays visible on the first frame."""
        num_draws = 1 if self.consistent else len(state.frames)
        before = state.matrix.reshape(-1, 3, 3)[0]
        for _ in range(MAX_AFFINE_DRAWS):
            operations = [self._draw(state) for _ in range(num_draws)]
            matrix = operations[0].matrix(state.size) @ before
            if keeps_all_objects(state.masklets[0], matrix, state.size):
                return [*operations]
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


def keeps_all_objects(masks: FrameMasks | None, matrix: Matrix, size: Size) -> bool:
    """Whether a pixel of each object stays in the frame under a matrix (3, 3)."""
    if masks is None:
        return True
    return all(
        # A few pixels usually suffice; the rest is checked only if they do not.
        _any_pixel_inside(mask, matrix, size, stride=8)
        or _any_pixel_inside(mask, matrix, size, stride=1)
        or not mask.any()
        for mask in masks.masks
    )


def _any_pixel_inside(
    mask: NDArray[np.bool_], matrix: Matrix, size: Size, *, stride: int
) -> bool:
    y, x = np.nonzero(mask[::stride, ::stride])
    moved = matrix[:2, :2] @ np.stack([x, y]) * stride + matrix[:2, 2:]  # (2, pixels)
    inside = (moved >= -0.5) & (moved <= np.array([[size[1]], [size[0]]]) - 0.5)
    return bool(inside.all(axis=0).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(GeometryOperation):
    """Stretches a frame to a height and width."""

    size: Size

    def matrix(self, size: Size) -> Matrix:
        """See the base class."""
        return resize_matrix(size, self.size)

    def new_size(self, size: Size) -> Size:
        """See the base class."""
        del size
        return self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit(Resize):
    """Scales a frame to fit into a size and pads it below or to the right."""

    def inner_size(self, size: Size) -> Size:
        """Return the size of the scaled frame without padding."""
        factor = min(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    def matrix(self, size: Size) -> Matrix:
        """See the base class."""
        return resize_matrix(size, self.inner_size(size))


def resize_matrix(old: Size, new: Size) -> Matrix:
    """Return (3, 3), from pixel centres of one size to those of another."""
    scale_y, scale_x = new[0] / old[0], new[1] / old[1]
    return np.array(
        [
            [scale_x, 0.0, (scale_x - 1) / 2],
            [0.0, scale_y, (scale_y - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )


def _checked_size(size: Size) -> Size:
    if len(size) != 2 or min(size) < 1:
        msg = f'size is {tuple(size)}; give a positive height and width'
        raise ValueError(msg)
    return int(size[0]), int(size[1])


@TRANSFORMS.register_module()
class ClipResize(GeometryTransform):
    """Stretches frames to one size.

    Args:
        size: Height and width.

    Raises:
        ValueError: If a side is not positive.
    """

    is_multi_scale = False

    def __init__(self, *, size: Size) -> None:
        self.size = _checked_size(size)

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Return the same operation for every clip."""
        del state
        return [Resize(size=self.size)]


@TRANSFORMS.register_module()
class ClipFit(ClipResize):
    """Scales frames to fit into one size and pads them below or to the right.

    The padding has the mean colour and no object.

    Args:
        size: Height and width.

    Raises:
        ValueError: If a side is not positive.
    """

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Return the same operation for every clip."""
        del state
        return [Fit(size=self.size)]


@TRANSFORMS.register_module()
class ClipRandomResize(GeometryTransform):
    """Stretches the frames of a clip to one of several sizes.

    Clips of one batch need one size: use a batch size of 1, or follow it by
    :class:`ClipFit` or :class:`ClipResize`, so that the sizes only stretch differently.

    Args:
        sizes: Heights and widths, drawn with equal probability.

    Raises:
        ValueError: If there is no size, or a side is not positive.
    """

    is_multi_scale = True

    def __init__(self, *, sizes: Sequence[Size]) -> None:
        if not sizes:
            msg = 'sizes is empty; give at least one height and width'
            raise ValueError(msg)
        self.sizes = tuple(_checked_size(size) for size in sizes)

    def draw(self, state: ClipState) -> list[GeometryOperation | None]:
        """Draw a size."""
        return [Resize(size=self.sizes[state.rng.integers(len(self.sizes))])]


# ------------------------------------------------------------------ colour


class ColorOperation(ABC):
    """Changes the colours of a frame by an affine map."""

    __slots__ = ()

    @abstractmethod
    def compose(self, color: Matrix, mean: Matrix) -> Matrix:
        """Append the operation to the colour changes so far.

        Args:
            color: (3, 4), the changes so far, from ``(r, g, b, 1)`` of the file.
            mean: (4,), mean of ``(r, g, b, 1)`` in the file.

        Returns:
            (3, 4), the changes with this one.
        """


class ColorTransform(ABC):
    """Draws operations and composes them into ``colors``."""

    @abstractmethod
    def draw(self, state: ClipState) -> Sequence[ColorOperation | None]:
        """Draw one operation for all frames, or one for each; None changes nothing."""

    def __call__(self, state: ClipState) -> ClipState:
        """Compose the operations with those before."""
        operations = self.draw(state)
        if not any(operations):
            return state
        colors = state.colors
        if colors is None:
            colors = np.tile(np.eye(3, 4), (len(state.frames), 1, 1))
        composed = []
        for index, color in enumerate(colors):
            operation = operations[index % len(operations)]
            mean = np.append(cv2.mean(state.frames[index])[:3], 1.0)
            composed.append(operation.compose(color, mean) if operation else color)
        return replace(state, colors=np.stack(composed))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorJitter(ColorOperation):
    """Changes brightness (0), contrast (1), saturation (2) and hue (3).

    Attributes:
        order: Order of these changes.
        factors: Of brightness, contrast and saturation, and the hue's share of a turn.
    """

    order: tuple[int, ...]
    factors: tuple[float, ...]

    def compose(self, color: Matrix, mean: Matrix) -> Matrix:
        """See the base class."""
        for kind in self.order:
            factor = self.factors[kind]
            if kind == 0:
                color = factor * color
            elif kind == 1:
                # An affine map of the file's mean is the mean of the changed frame.
                mean_luma = float(LUMA @ (color @ mean))
                color = factor * color
                color[:, 3] += (1 - factor) * mean_luma
            elif kind == 2:
                blend = factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))
                color = blend @ color
            else:
                color = hue_matrix(factor) @ color
        return color


def hue_matrix(share: float) -> Matrix:
    """Return (3, 3) that rotates RGB about the grey axis of YIQ by a share of a turn.

    This is linear, keeps the luma and is close to a shift of HSV's hue.
    """
    angle = 2 * np.pi * share
    rotation = np.eye(3)
    rotation[1:, 1:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    matrix: Matrix = np.linalg.inv(TO_YIQ) @ rotation @ TO_YIQ
    return matrix


@TRANSFORMS.register_module()
class ClipColorJitter(ColorTransform):
    """Changes brightness, contrast, saturation and hue, in a random order.

    Args:
        brightness: The factor is drawn from 1 - b to 1 + b; likewise below.
        contrast: Factor of the difference to the frame's mean luma.
        saturation: Factor of the difference to the pixel's luma.
        consistent: Draw once for all frames of a clip, not for each.
        hue: Largest rotation to either side, as a share of a turn.
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
        num_draws = 1 if self.consistent else len(state.frames)
        return [self._draw(state.rng) for _ in range(num_draws)]

    def _draw(self, rng: np.random.Generator) -> ColorJitter:
        order = rng.permutation(4 if self.hue else 3)
        factors = 1 + rng.uniform(-1.0, 1.0, 3) * self.strengths
        turn = rng.uniform(-self.hue, self.hue) if self.hue else 0.0
        return ColorJitter(
            order=tuple(order.tolist()), factors=(*factors.tolist(), turn)
        )


@dataclass(frozen=True, slots=True)
class Grayscale(ColorOperation):
    """Replaces colours by their luma."""

    def compose(self, color: Matrix, mean: Matrix) -> Matrix:
        """See the base class."""
        del mean
        luma: Matrix = np.tile(LUMA, (3, 1)) @ color
        return luma


@TRANSFORMS.register_module()
class ClipRandomGrayscale(ColorTransform):
    """Makes clips grey.

    Args:
        probability: Share of clips (or frames) that become grey.
        consistent: Draw once for all frames of a clip, not for each.
    """

    def __init__(self, *, probability: float, consistent: bool = True) -> None:
        self.probability = probability
        self.consistent = consistent

    def draw(self, state: ClipState) -> list[ColorOperation | None]:
        """Draw which frames become grey."""
        draws = state.rng.random(1 if self.consistent else len(state.frames))
        return [Grayscale() if draw < self.probability else None for draw in draws]


# -------------------------------------------------------------------- warp


@TRANSFORMS.register_module()
class ClipWarp:
    """Applies the composed geometry and colours of the transforms before it.

    Frames are sampled bilinearly, after an area-averaged reduction if they shrink to
    less than two thirds (no aliasing); masks take the nearest pixel. Outside the frame
    are no objects and the mean colour, changed like the frame's colours.
    """

    def __call__(self, state: ClipState) -> ClipState:
        """Apply ``matrix`` and ``colors``, and reset them."""
        num_frames = len(state.frames)
        matrices = np.broadcast_to(state.matrix, (num_frames, 3, 3))
        frames = state.frames
        fills: list[Sequence[float] | Matrix] = [FILL_COLOR] * num_frames
        if state.colors is not None:
            frames = tuple(
                np.asarray(cv2.transform(frame, color), np.uint8)
                for frame, color in zip(frames, state.colors, strict=True)
            )
            fills = [color @ (*FILL_COLOR, 1) for color in state.colors]
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
            matrix=np.eye(3),
            colors=None,
        )


def warp_frame(
    frame: Pixels,
    matrix: Matrix,
    size: Size,
    fill: Sequence[float] | Matrix = FILL_COLOR,
) -> Pixels:
    """Resample a frame.

    Args:
        frame: (H, W, 3).
        matrix: (3, 3), from the frame to the result.
        size: Height and width of the result.
        fill: (3,), colour of pixels from outside the frame.

    Returns:
        (size[0], size[1], 3).
    """
    height, width = frame.shape[:2]
    scale_x, scale_y = np.linalg.norm(matrix[:2, :2], axis=0)
    reduced = (_reduced_side(height, scale_y), _reduced_side(width, scale_x))
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


def _reduced_side(length: int, scale: float) -> int:
    """Length to which a side is averaged before it is sampled."""
    return length if scale >= DIRECT_SCALE else max(1, round(length * scale))


def warp_masks(masks: FrameMasks, matrix: Matrix, size: Size) -> FrameMasks:
    """Resample the masks of a frame, which may overlap.

    Eight masks are warped at a time, as the bits of one map.

    Args:
        masks: Masks of a frame, as in the file.
        matrix: (3, 3), from the file to the result.
        size: Height and width of the result.
    """
    layers = [*masks.masks] if masks.void is None else [*masks.masks, masks.void]
    warped = np.empty((len(layers), *size), bool)
    for start in range(0, len(layers), MASKS_PER_MAP):
        first, *others = layers[start : start + MASKS_PER_MAP]
        bits = first.astype(np.uint8)
        for bit, layer in enumerate(others, 1):
            bits |= layer.view(np.uint8) << np.uint8(bit)
        bits = warp_labels(bits, matrix, size)
        for bit, layer in enumerate(warped[start : start + MASKS_PER_MAP]):
            np.not_equal(bits & np.uint8(1 << bit), 0, out=layer)
    num_objects = len(masks.object_ids)
    return FrameMasks(
        object_ids=masks.object_ids,
        masks=warped[:num_objects],
        void=None if masks.void is None else warped[num_objects],
    )


def warp_labels(labels: Pixels, matrix: Matrix, size: Size) -> Pixels:
    """Resample labels (H, W) from the nearest pixel; 0 outside the frame."""
    warped = cv2.warpAffine(labels, matrix[:2], size[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(warped, np.uint8)
