"""Windows of maps."""

from torch import Tensor
from torch.nn import functional

__all__ = ['bands', 'join_windows', 'pad_to_windows', 'split_windows', 'window_grid']


def window_grid(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Count the square windows that cover a map.

    Args:
        size: Height and width of the map.
        side: Of a window.

    Returns:
        Rows and columns of windows.
    """
    return -(-size[0] // side), -(-size[1] // side)


def bands(length: int, side: int) -> list[tuple[slice, int]]:
    """Part an axis of a map into whole windows and the rest, if any.

    Args:
        length: Of the axis.
        side: Of a window.

    Returns:
        Where each part lies, and the side that windows have there.
    """
    rest = length % side
    whole = length - rest
    parts = [(slice(0, whole), side), (slice(whole, length), rest)]
    return [(place, side) for place, side in parts if place.start < place.stop]


def pad_to_windows(maps: Tensor, side: int) -> Tensor:
    """Continue maps with zeros to whole windows.

    Args:
        maps: (B, h, w, C).
        side: Of a window.

    Returns:
        (B, rows * side, columns * side, C).
    """
    height, width = maps.shape[1:3]
    below, beside = -height % side, -width % side
    if not (below or beside):
        return maps
    return functional.pad(maps, (0, 0, 0, beside, 0, below))


def split_windows(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut maps into windows.

    Args:
        maps: (B, h, w, C), in whole windows.
        size: Height and width of a window.

    Returns:
        (B * rows * columns, *size, C).
    """
    height, width = size
    # (B, h, w, C) -> (B, rows, columns, height, width, C)
    cut = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3)
    windows: Tensor = cut.flatten(0, 2)
    return windows


def join_windows(
    windows: Tensor, grid: tuple[int, int], out_size: tuple[int, int]
) -> Tensor:
    """Put windows together and cut the padding off.

    Args:
        windows: (B * rows * columns, height, width, C).
        grid: Rows and columns of windows.
        out_size: Height and width of the maps without padding.

    Returns:
        (B, *out_size, C).
    """
    height, width = out_size
    # (B * rows * columns, ...) -> (B, rows * height, columns * width, C)
    tiled: Tensor = windows.unflatten(0, (-1, *grid)).transpose(2, 3)
    return tiled.flatten(3, 4).flatten(1, 2)[:, :height, :width]
