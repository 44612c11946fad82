"""Tiles a clip with itself, so that look-alikes of its objects are in sight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...structures import FrameMasks
from .base import (
    ClipState,
    DrawnTransform,
    PixelOperation,
)
from .geometry import (
    resize_matrix,
    warp_frame,
    warp_masks,
)

GRID = 2

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
Cell = tuple[slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic(PixelOperation):
    """Puts a small copy of a frame into each cell of 2 x 2, its masks into one cell.

    Attributes:
        row: Of the cell with the masks.
        column: Of the cell with the masks.
        mirrored: Whether each cell shows its copy mirrored, row by row.
    """

    row: int
    column: int
    mirrored: tuple[bool, ...] = (False,) * GRID**2

    @property
    def mirrors_masks(self) -> bool:
        """Whether the cell with the masks is mirrored."""
        return self.mirrored[self.row * GRID + self.column]

    def cell(self, size: Size) -> Cell:
        """Rows and columns of the cell with the masks."""
        return cut(size[0])[self.row], cut(size[1])[self.column]


@TRANSFORMS.register_module()
class ClipMosaic(DrawnTransform[PixelOperation]):
    """Tiles whole clips 2 x 2; objects are those of one cell, drawn at random.

    What a model sees then is four times the same: only motion and place tell the
    object from its copies. Comes after :class:`ClipWarp`.

    Args:
        probability: Share of clips that are tiled.
        mirror_probability: Share of the cells that show their copy mirrored.
    """

    def __init__(self, *, probability: float, mirror_probability: float = 0.0) -> None:
        self.probability = probability
        self.mirror_probability = mirror_probability

    def draw(self, state: ClipState) -> Sequence[PixelOperation | None]:
        """Draw a cell, or nothing.

        Returns:
            One operation for all frames; None changes nothing.
        """
        if state.rng.random() >= self.probability:
            return [None]
        row, column = state.rng.integers(GRID, size=2).tolist()
        mirrored = state.rng.random(GRID**2) < self.mirror_probability
        return [Mosaic(row=row, column=column, mirrored=tuple(mirrored.tolist()))]

    def __call__(self, state: ClipState) -> ClipState:
        """Tile the clip, or not.

        Raises:
            ValueError: If geometry waits for its application.
        """
        if not np.array_equal(state.matrix, np.eye(3)):
            msg = 'ClipMosaic tiles pixels: put it after ClipWarp'
            raise ValueError(msg)
        (mosaic,) = self.draw(state)
        if not isinstance(mosaic, Mosaic):
            return state
        return replace(
            state,
            frames=tuple(tile(frame, mosaic, shrink_frame) for frame in state.frames),
            masklets=tuple(m and place(m, mosaic) for m in state.masklets),
        )


def tile(
    frame: Pixels, mosaic: Mosaic, shrink: Callable[[Pixels, Size], Pixels]
) -> Pixels:
    """Put a small copy of a frame into each cell.

    Args:
        frame: (height, width, 3).
    """
    tiled = np.empty_like(frame)
    cells = product(cut(frame.shape[0]), cut(frame.shape[1]))
    for cell, is_mirrored in zip(cells, mosaic.mirrored, strict=True):
        small = shrink(frame, cell_size(cell))
        tiled[cell] = small[:, ::-1] if is_mirrored else small
    return tiled


def shrink_frame(frame: Pixels, size: Size) -> Pixels:
    """Shrink a frame as :class:`ClipWarp` does.

    Args:
        frame: (height, width, 3).

    Returns:
        (size[0], size[1], 3).
    """
    return warp_frame(
        frame, resize_matrix((frame.shape[0], frame.shape[1]), size), size
    )


def place(masks: FrameMasks, mosaic: Mosaic) -> FrameMasks:
    """Shrink the masks of a frame as :class:`ClipWarp` does, into their cell."""
    size = (masks.masks.shape[1], masks.masks.shape[2])
    cell = mosaic.cell(size)
    small = warp_masks(masks, resize_matrix(size, cell_size(cell)), cell_size(cell))
    columns = slice(None, None, -1 if mosaic.mirrors_masks else 1)
    placed = np.zeros_like(masks.masks)
    placed[(slice(None), *cell)] = small.masks[..., columns]
    void = None
    if masks.void is not None and small.void is not None:
        void = np.zeros_like(masks.void)
        void[cell] = small.void[:, columns]
    return FrameMasks(object_ids=masks.object_ids, masks=placed, void=void)


def cut(length: int) -> list[slice]:
    """Cut a side into cells, as even as whole pixels allow.

    Args:
        length: Of the side, in pixels.
    """
    edges = [index * length // GRID for index in range(GRID + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


def cell_size(cell: Cell) -> Size:
    """Height and width of a cell."""
    rows, columns = cell
    return rows.stop - rows.start, columns.stop - columns.start
