"""The size of a clip: transforms that stretch or fit its frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from projects.sam2.datasets.transforms.geometry import resize_matrix
from projects.sam2.datasets.transforms.operations import (
    GeometryOperation,
    GeometryTransform,
)
from projects.sam2.datasets.transforms.state import ClipState


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

        Args:
            size: Height and width of the frame.

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
        """The same for every clip.

        Args:
            state: A clip.

        Returns:
            One operation for all frames.
        """
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
        """Draw a size.

        Args:
            state: A clip.

        Returns:
            One operation for all frames.
        """
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

    Args:
        size: Height and width.

    Returns:
        The same as plain numbers.

    Raises:
        ValueError: If a side is not positive.
    """
    if len(size) != 2 or min(size) < 1:
        msg = f'size is {tuple(size)}; give a positive height and width'
        raise ValueError(msg)
    return int(size[0]), int(size[1])
