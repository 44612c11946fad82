"""Attention of Hiera, within the windows of a map."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.backbones.windows import (
    bands,
    join_windows,
    pad_to_windows,
    split_windows,
    window_grid,
)
from projects.sam2.models.layers import apply_after, is_plain_cpu, recomputed

__all__ = ['HieraAttention', 'pool']

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Padding:
    """Cells that a window lacks, which are all alike.

    Attributes:
        projected: Query, key and value of one of them, (3 * C,).
        count: How many there are.
    """

    projected: Tensor
    count: int


class HieraAttention(nn.Module):
    """Attention within a window, whose queries may be pooled.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the result.
        num_heads: Heads; must divide ``out_dims``.
        pools: Whether the queries are pooled 2 x 2.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(
        self, *, in_dims: int, out_dims: int, num_heads: int, pools: bool
    ) -> None:
        super().__init__()
        if out_dims % num_heads:
            msg = (
                f'Expected channels in a multiple of the heads, but got {out_dims} '
                f'channels in {num_heads} heads; change embed_dims or num_heads'
            )
            raise ValueError(msg)
        self.num_heads = num_heads
        self.pools = pools
        self.qkv = nn.Linear(in_dims, 3 * out_dims)
        self.output = nn.Linear(out_dims, out_dims)

    def forward(
        self, maps: Tensor, *, norm: Norm | None = None, window_size: int = 0
    ) -> Tensor:
        """Attend within each window.

        A map that is not a multiple of the windows is continued with zeros.

        Args:
            maps: (B, h, w, in_dims).
            norm: Applied to the maps first; what it gives is not kept.
            window_size: Side of a window; 0 attends to the whole map.

        Returns:
            (B, h, w, out_dims), h and w halved where the queries are pooled.
        """
        if not window_size:
            projected = apply_after(norm, self.qkv, maps)
            return apply_after(None, self.output, self._attend(projected))
        size = (maps.shape[1], maps.shape[2])
        if size[0] % window_size == 0 and size[1] % window_size == 0:
            attended = self._attend_in_windows(maps, norm, (window_size, window_size))
            return apply_after(None, self.output, attended)
        of_zero: Tensor = self.qkv(maps.new_zeros(maps.shape[-1]))
        # A cell that has no neighbour is pooled with padded ones.
        is_whole = not self.pools or not (size[0] % 2 or size[1] % 2)
        if is_plain_cpu(of_zero) and is_whole:
            attended = self._attend_without_padding(maps, norm, window_size, of_zero)
            return apply_after(None, self.output, attended)
        attended = self._attend(self._padded_windows(maps, norm, window_size, of_zero))
        join = partial(
            join_windows,
            # Pooled windows are half as large: the grid is that of both.
            grid=window_grid(size, window_size),
            out_size=(size[0] // 2, size[1] // 2) if self.pools else size,
        )
        # Joined first, for the padding is not asked for.
        return apply_after(join, self.output, attended)

    def _padded_windows(
        self, maps: Tensor, norm: Norm | None, side: int, of_zero: Tensor
    ) -> Tensor:
        """Queries, keys and values of padded windows, (windows, h, w, 3 * out_dims)."""
        # Padded cells are zero before the projection: what that makes of a zero is
        # put there, in place of a product of zeros.
        padded = pad_to_windows(apply_after(norm, self.qkv, maps), side)
        outside = 1 - pad_to_windows(of_zero.new_ones(1, *maps.shape[1:3], 1), side)
        padded += outside * of_zero
        return split_windows(padded, (side, side))

    def _attend_without_padding(
        self, maps: Tensor, norm: Norm | None, side: int, of_zero: Tensor
    ) -> Tensor:
        """Attention in windows of which those at the edges are smaller, (B, h, w, C).

        Padded cells all have the same key, so one that counts as often as there are
        cells stands for them, and they ask for nothing.
        """
        rows = []
        for across, height in bands(maps.shape[1], side):
            parts = []
            for along, width in bands(maps.shape[2], side):
                missing = side * side - height * width
                padding = _Padding(projected=of_zero, count=missing)
                parts.append(
                    self._attend_in_windows(
                        maps[:, across, along],
                        norm,
                        (height, width),
                        padding if missing else None,
                    )
                )
            rows.append(torch.cat(parts, dim=2))
        return torch.cat(rows, dim=1)

    def _attend_in_windows(
        self,
        maps: Tensor,
        norm: Norm | None,
        size: tuple[int, int],
        padding: _Padding | None = None,
    ) -> Tensor:
        """Attention in the windows of a map that has no others, (B, h, w, C)."""
        split = partial(_split_normed, norm=norm, size=size)
        attended = self._attend(apply_after(split, self.qkv, maps), padding)
        grid = maps.shape[1] // size[0], maps.shape[2] // size[1]
        out_size = grid[0] * attended.shape[1], grid[1] * attended.shape[2]
        return join_windows(attended, grid, out_size)

    def _attend(self, windows: Tensor, padding: _Padding | None = None) -> Tensor:
        """Attend within each window, and to its padding.

        Args:
            windows: Queries, keys and values, (B, h, w, 3 * C).
            padding: What else is attended to.

        Returns:
            (B, h, w, C), h and w halved where the queries are pooled.
        """
        tokens, bias = windows.flatten(1, 2), None
        num_cells = tokens.shape[1]
        if padding is not None:
            of_all = padding.projected.expand(len(tokens), 1, -1)
            tokens = torch.cat([tokens, of_all], dim=1)
            bias = tokens.new_zeros(num_cells + 1)
            bias[-1] = math.log(padding.count)
        query, key, value = tokens.chunk(3, dim=-1)
        query = query[:, :num_cells].unflatten(1, windows.shape[1:3])
        if self.pools:
            query = recomputed(pool, query)  # not its 64-bit indices are kept
        size = query.shape[1:3]
        query = self._heads(query.flatten(1, 2))
        gathered = functional.scaled_dot_product_attention(
            query,
            self._heads(key),
            self._heads(value),
            attn_mask=None if bias is None else bias.expand(query.shape[2], -1),
        )
        # (B, heads, h * w, C / heads) -> (B, h, w, C)
        joined: Tensor = gathered.transpose(1, 2).flatten(2).unflatten(1, size)
        return joined

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split channels: (B, N, C) -> (B, heads, N, C / heads), a view."""
        split: Tensor = tokens.unflatten(-1, (self.num_heads, -1))
        return split.transpose(1, 2)


def pool(maps: Tensor) -> Tensor:
    """Largest of each 2 x 2 cells: (B, h, w, C) -> (B, h / 2, w / 2, C)."""
    # The permuted map is in channels-last layout, which the pooling keeps.
    channels_first = maps.permute(0, 3, 1, 2)
    return functional.max_pool2d(channels_first, kernel_size=2).permute(0, 2, 3, 1)


def _split_normed(maps: Tensor, *, norm: Norm | None, size: tuple[int, int]) -> Tensor:
    """Windows of what the norm, if any, makes of maps."""
    return split_windows(maps if norm is None else norm(maps), size)
