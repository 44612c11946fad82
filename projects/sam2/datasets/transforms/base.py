"""The record that passes through the transforms of a clip."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ...structures import FrameMasks, VideoSource


def identity_matrix() -> NDArray[np.float64]:
    """Geometry that changes nothing."""
    return np.eye(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipState:
    """A clip on its way from its files to a ``ClipSample``.

    Attributes:
        source: Reads the video.
        sample_index: Position in the dataset.
        seed: Of the clip's simulated clicks.
        epoch: The epoch that asks for the clip.
        rng: All random choices of the transforms come from it.
        frame_indices: Positions in the video of the T sampled frames.
        object_ids: The O sampled objects.
        hidden_ids: Those of them that the first frame does not show, on purpose.
        first_ids: All objects that the first sampled frame shows.
        first_masks: Masks of that frame, those of the sampled objects among them.
        frames: T frames (height, width, 3), RGB.
        masklets: Masks of each frame, O of them, or None where it is not annotated.
        original_size: Height and width of the files.
        size: Height and width after the geometry so far.
        is_multi_scale: The size was drawn from several: the clip may have another one
            than the model works at.
        matrix: (3, 3), or (T, 3, 3) where frames move differently, from
            ``(x, y, 1)`` of a file to the geometry so far; the centre of the first
            pixel is (0, 0).
        colors: (T, 3, 4), from ``(r, g, b, 1)`` of a file to the colours so far;
            None where they stay.
    """

    source: VideoSource
    sample_index: int
    seed: int
    rng: np.random.Generator
    epoch: int = 0
    frame_indices: tuple[int, ...] = ()
    object_ids: tuple[int, ...] = ()
    hidden_ids: tuple[int, ...] = ()
    first_ids: tuple[int, ...] = ()
    first_masks: FrameMasks | None = None
    frames: tuple[NDArray[np.uint8], ...] = ()
    masklets: tuple[FrameMasks | None, ...] = ()
    original_size: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    is_multi_scale: bool = False
    matrix: NDArray[np.float64] = field(default_factory=identity_matrix)
    colors: NDArray[np.float64] | None = None

    @property
    def num_frames(self) -> int:
        """Sampled frames."""
        return len(self.frame_indices)


class GeometryOperation(ABC):
    """Moves the pixels of a frame."""

    __slots__ = ()

    @abstractmethod
    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The operation as a matrix.

        Returns:
            (3, 3), from old to new coordinates.
        """

    def new_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size of the frame after the operation.

        Returns:
            Height and width; by default they stay.
        """
        return size


class ColorOperation(ABC):
    """Changes the colours of a frame."""

    __slots__ = ()

    @abstractmethod
    def change(
        self, color: NDArray[np.float64], mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Append the operation to a change of colours.

        Args:
            color: (3, 4), the change so far.
            mean: (4,), mean of ``(r, g, b, 1)`` in the frame's file.

        Returns:
            (3, 4).
        """


class PixelOperation:
    """Changes pixels at once and alone: neither a matrix nor a map of colours."""

    __slots__ = ()


Operation = TypeVar(
    'Operation', bound=GeometryOperation | ColorOperation | PixelOperation
)


class DrawnTransform(ABC, Generic[Operation]):
    """A transform that draws operations and composes them."""

    @abstractmethod
    def draw(self, state: ClipState) -> Sequence[Operation | None]:
        """Draw operations from the clip's random numbers.

        Args:
            state: A clip with frames, masklets and ``size``.

        Returns:
            One operation for all frames, or one for each; None changes nothing.
        """

    @abstractmethod
    def __call__(self, state: ClipState) -> ClipState:
        """Draw operations and compose them."""


class GeometryTransform(DrawnTransform[GeometryOperation]):
    """Draws geometry."""

    def __call__(self, state: ClipState) -> ClipState:
        """Draw operations and compose them.

        Args:
            state: A clip with frames, masklets and ``size``.

        Returns:
            The clip with another ``matrix`` and ``size``.
        """
        drawn = self.draw(state)
        if not any(drawn):
            return state
        moves = np.stack([o.matrix(state.size) if o else np.eye(3) for o in drawn])
        matrix = (moves[0] if len(drawn) == 1 else moves) @ state.matrix
        sizes = {o.new_size(state.size) if o else state.size for o in drawn}
        return replace(state, matrix=matrix, size=sizes.pop())


class ColorTransform(DrawnTransform[ColorOperation]):
    """Draws colours."""

    def __call__(self, state: ClipState) -> ClipState:
        """Draw operations and compose them.

        Args:
            state: A clip with ``frames`` as in their files.

        Returns:
            The clip with other ``colors``.
        """
        drawn = self.draw(state)
        if not any(drawn):
            return state
        changed = []
        for index, color in enumerate(colors_of(state)):
            operation = drawn[index % len(drawn)]
            mean = np.append(cv2.mean(state.frames[index])[:3], 1.0)
            changed.append(operation.change(color, mean) if operation else color)
        return replace(state, colors=np.stack(changed))


def colors_of(state: ClipState) -> NDArray[np.float64]:
    """Colours so far.

    Returns:
        (T, 3, 4); the identity where nothing was changed.
    """
    if state.colors is not None:
        return state.colors
    return np.tile(np.eye(3, 4), (state.num_frames, 1, 1))


def num_draws(state: ClipState, *, consistent: bool) -> int:
    """How often a transform draws.

    Returns:
        1, or the number of frames.
    """
    return 1 if consistent else state.num_frames
