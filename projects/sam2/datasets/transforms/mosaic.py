"""Tiles a clip with itself, so that it shows look-alikes of its objects."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...structures import FrameMasks
from ..clip_dataset import ClipState
from .augmentation import resize_matrix, warp_frame, warp_masks

GRID = 2

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
Cell = tuple[slice, slice]  # rows and columns


@TRANSFORMS.register_module()
class ClipMosaic:
    """Tiles clips 2 x 2; the objects are those of one cell, chosen at random.

    Only motion and position tell an object from its three copies. Comes after
    :class:`ClipWarp`.

    Args:
        probability: Share of clips that are tiled.
        mirror_probability: Share of the cells that are mirrored.
    """

    def __init__(self, *, probability: float, mirror_probability: float = 0.0) -> None:
        self.probability = probability
        self.mirror_probability = mirror_probability

    def draw(self, state: ClipState) -> list['Mosaic | None']:
        """Draw one mosaic for all frames; None leaves the clip as it is."""
        if state.rng.random() >= self.probability:
            return [None]
        row, column = state.rng.integers(GRID, size=2).tolist()
        mirrored = state.rng.random(GRID**2) < self.mirror_probability
        return [Mosaic(row=row, column=column, mirrored=tuple(mirrored.tolist()))]

    def __call__(self, state: ClipState) -> ClipState:
        """Tile the clip, or not.

        Raises:
            ValueError: If geometry was composed but not applied.
        """
        if not np.array_equal(state.matrix, np.eye(3)):
            msg = 'ClipMosaic tiles pixels: put it after ClipWarp'
            raise ValueError(msg)
        (mosaic,) = self.draw(state)
        if mosaic is None:
            return state
        return replace(
            state,
            frames=tuple(tile(frame, mosaic, shrink_frame) for frame in state.frames),
            masklets=tuple(m and place_masks(m, mosaic) for m in state.masklets),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """A small copy of the frame in each cell, the masks in one cell.

    Attributes:
        row: Row of the cell with the masks.
        column: Column of that cell.
        mirrored: Whether each cell is mirrored, row by row.
    """

    row: int
    column: int
    mirrored: tuple[bool, ...] = (False,) * GRID**2

    @property
    def mirrors_masks(self) -> bool:
        """Whether the cell with the masks is mirrored."""
        return self.mirrored[self.row * GRID + self.column]

    def cell(self, size: Size) -> Cell:
        """Return the cell with the masks in a frame of a size."""
        return cut(size[0])[self.row], cut(size[1])[self.column]


def tile(
    frame: Pixels, mosaic: Mosaic, shrink: Callable[[Pixels, Size], Pixels]
) -> Pixels:
    """Put a small copy of a frame (H, W, 3) into each cell."""
    tiled = np.empty_like(frame)
    cells = product(cut(frame.shape[0]), cut(frame.shape[1]))
    for cell, is_mirrored in zip(cells, mosaic.mirrored, strict=True):
        small = shrink(frame, cell_size(cell))
        tiled[cell] = small[:, ::-1] if is_mirrored else small
    return tiled


def shrink_frame(frame: Pixels, size: Size) -> Pixels:
    """Shrink a frame (H, W, 3) as :class:`ClipWarp` does."""
    old = (frame.shape[0], frame.shape[1])
    return warp_frame(frame, resize_matrix(old, size), size)


def place_masks(masks: FrameMasks, mosaic: Mosaic) -> FrameMasks:
    """Shrink the masks of a frame into their cell."""
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
    """Cut a side into cells, as evenly as whole pixels allow."""
    edges = [index * length // GRID for index in range(GRID + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


def cell_size(cell: Cell) -> Size:
    """Return height and width of a cell."""
    rows, columns = cell
    return rows.stop - rows.start, columns.stop - columns.start
