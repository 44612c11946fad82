"""Attention within the windows of a map (Li et al., 2022, and Ryali et al., 2023)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .attention import attend
from .checkpointing import checkpoint, recomputable
from .cpu import is_plain_cpu

Size = tuple[int, int]


def attend_in_windows(
    qkv: Tensor, *, padding: Tensor, window: Size, num_heads: int, pools: bool
) -> Tensor:
    """Attend within each window of a map.

    Args:
        qkv: Queries, keys and values of the cells, (B, h, w, 3 * C).
        padding: Query, key and value of cells that pad the windows at the edges,
            (3 * C,).
        window: Height and width of a window.
        pools: Pool the queries 2 x 2 by their maximum.

    Returns:
        (B, h, w, C); h and w halved where the queries are pooled.
    """
    height, width = qkv.shape[1:3]
    pad = (0, 0, 0, -width % window[1], 0, -height % window[0])
    if not any(pad):
        return _attend(qkv, window, num_heads, pools=pools)
    # A cell without a neighbour is pooled with padded ones.
    needs_padding = pools and (height % 2 or width % 2)
    if is_plain_cpu(qkv) and not needs_padding:
        return _attend_without_padding(qkv, padding, window, num_heads, pools=pools)
    outside = 1 - functional.pad(qkv.new_ones(1, height, width, 1), pad)  # 1 on padding
    padded = functional.pad(qkv, pad) + outside * padding
    attended = _attend(padded, window, num_heads, pools=pools)
    stride = 2 if pools else 1
    return attended[:, : height // stride, : width // stride]


def _attend_without_padding(
    qkv: Tensor, padding: Tensor, window: Size, num_heads: int, *, pools: bool
) -> Tensor:
    """Attend in smaller windows at the edges: for a CPU, where products cost most.

    The padding cells of a window are all alike, so a single key stands for them, with
    its weight multiplied by their number.
    """
    rows = []
    for row_slice, height in _bands(qkv.shape[1], window[0]):
        bands = []
        for column_slice, width in _bands(qkv.shape[2], window[1]):
            attended = _attend(
                qkv[:, row_slice, column_slice],
                (height, width),
                num_heads,
                pools=pools,
                padding=padding,
                num_padding=window[0] * window[1] - height * width,
            )
            bands.append(attended)
        rows.append(torch.cat(bands, dim=2))
    return torch.cat(rows, dim=1)


def _bands(length: int, side: int) -> list[tuple[slice, int]]:
    """Divide an axis into whole windows and a smaller one, with the sides of both."""
    rest = length % side
    bands = [(slice(0, length - rest), side), (slice(length - rest, length), rest)]
    return [band for band in bands if band[0].start < band[0].stop]


def _attend(
    qkv: Tensor,
    window: Size,
    num_heads: int,
    *,
    pools: bool,
    padding: Tensor | None = None,
    num_padding: int = 0,
) -> Tensor:
    """Attend within whole windows, and to cells of padding if there are any."""
    num_rows, num_columns = qkv.shape[1] // window[0], qkv.shape[2] // window[1]
    cells = split_windows(qkv, window).flatten(1, 2)  # (B * windows, N, 3 * C)
    num_cells, mask = cells.shape[1], None
    if padding is not None and num_padding:
        cells = torch.cat([cells, padding.expand(len(cells), 1, -1)], dim=1)
        mask = cells.new_zeros(num_cells + 1)
        mask[-1] = math.log(num_padding)
    query, key, value = cells.chunk(3, dim=-1)
    query = query[:, :num_cells].unflatten(1, window)
    if pools:
        # Checkpointed, since autograd would keep the 64-bit indices of the maxima.
        query = checkpoint(pool, query)
    out_window = query.shape[1], query.shape[2]
    query = query.flatten(1, 2)  # (B * windows, N, C)
    attended = attend(
        _split_heads(query, num_heads),
        _split_heads(key, num_heads),
        _split_heads(value, num_heads),
        mask=None if mask is None else mask.expand(query.shape[1], -1),
    )  # (B * windows, heads, N, C / heads)
    windows = attended.transpose(1, 2).flatten(2).unflatten(1, out_window)
    return join_windows(windows, num_rows, num_columns)


def _split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    split: Tensor = tokens.unflatten(-1, (num_heads, -1))
    return split.transpose(1, 2)


def split_windows(maps: Tensor, window: Size) -> Tensor:
    """(B, h, w, C) -> (B * windows, *window, C), row by row."""
    height, width = window
    cut: Tensor = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    # (B, rows, height, columns, width, C) -> (B, rows, columns, height, width, C)
    return cut.transpose(2, 3).flatten(0, 2)


@recomputable
def join_windows(windows: Tensor, num_rows: int, num_columns: int) -> Tensor:
    """(B * windows, height, width, C) -> (B, h, w, C)."""
    tiled: Tensor = windows.unflatten(0, (-1, num_rows, num_columns))
    # (B, rows, columns, height, width, C) -> (B, rows, height, columns, width, C)
    return tiled.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def pool(maps: Tensor) -> Tensor:
    """Maximum of each 2 x 2 cells: (B, h, w, C) -> (B, h / 2, w / 2, C)."""
    # The permuted map is in channels-last layout, which the pooling keeps.
    channels_first = maps.permute(0, 3, 1, 2)
    return functional.max_pool2d(channels_first, kernel_size=2).permute(0, 2, 3, 1)
