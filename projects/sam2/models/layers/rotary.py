"""Rotary position encoding along two axes, in real numbers (Heo et al., 2024)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from projects.sam2.models.layers.attention import Attention
from projects.sam2.models.layers.constant_cache import cached_constant
from projects.sam2.models.layers.position_encoding import wavelengths
from projects.sam2.models.layers.recompute import apply_after

__all__ = ['RotaryAttention', 'rotary_table', 'rotate']


@cached_constant
def rotary_table(
    height: int, width: int, channels: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines by which the tokens of a map are rotated.

    Two neighbouring channels form a pair and have one angle. Angles of the first half
    of the channels grow with x, those of the second half with y. The tensors are
    shared between callers and must not be written into.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels of a head; a multiple of 4.
        device: Where the table shall be.

    Returns:
        Cosines, and sines that are negative for the first of each pair; each
        (height * width, channels), float32.
    """
    series = wavelengths(channels // 4, device)
    index = torch.arange(height * width, device=device)
    y = index.div(width, rounding_mode='floor')
    x = index.remainder(width)
    angles = torch.cat([x[:, None] / series, y[:, None] / series], dim=1)
    sines = angles.sin()
    return (
        angles.cos().repeat_interleave(2, dim=1),
        torch.stack([-sines, sines], dim=-1).flatten(1),
    )


def rotate(tokens: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair of neighbouring channels by the angle of its token.

    Args:
        tokens: (..., R * N, C): the tokens of R maps of N cells, one after another.
        table: Cosines and signed sines of one map, each (N, C).

    Returns:
        As ``tokens``, of the same type.
    """
    cosines, sines = table
    num_cells = len(cosines)
    # A view, (..., R * N, C) -> (..., R, N, C), so the table is not repeated.
    maps = tokens.unflatten(-2, (tokens.shape[-2] // num_cells, num_cells))
    first, second = maps.unflatten(-1, (-1, 2)).unbind(-1)
    swapped = torch.stack([second, first], dim=-1).flatten(-2)
    # Whole rows against the table: half the time of working on every second channel.
    rotated = torch.addcmul(maps * cosines, swapped, sines)
    return rotated.flatten(-3, -2).type_as(tokens)


class RotaryAttention(Attention):
    """Attention whose queries and keys are rotated by their place in the map.

    Args:
        embed_dims: Channels of the queries and of the result.
        num_heads: Heads; the channels of a head must be a multiple of 4.
        kv_dims: Channels of keys and values; ``embed_dims`` by default.
        dropout: Share of attention weights dropped in training.

    Raises:
        ValueError: If the heads do not divide the channels as required.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        num_heads: int,
        kv_dims: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            embed_dims=embed_dims,
            num_heads=num_heads,
            kv_dims=kv_dims,
            dropout=dropout,
        )
        if embed_dims // num_heads % 4:
            msg = (
                f'Expected channels per head in a multiple of 4, but got {embed_dims} '
                f'channels in {num_heads} heads'
            )
            raise ValueError(msg)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        norm: Callable[[Tensor], Tensor] | None = None,
        feature_size: tuple[int, int] | None = None,
        num_unrotated: int = 0,
    ) -> Tensor:
        """Let each cell of a map gather from the cells of one or several maps.

        Args:
            query: The cells of a map, (O, N, C).
            key: The cells of R maps of the same size, followed by tokens without a
                place, (O, R * N + num_unrotated, Ckv).
            value: As ``key``.
            norm: Applied to the query first; what it gives is not kept.
            feature_size: Height and width of the map; by default it is square.
            num_unrotated: Tokens without a place.

        Returns:
            (O, N, C).

        Raises:
            ValueError: If the numbers of tokens do not fit the map.
        """
        num_cells = query.shape[1]
        num_placed = key.shape[1] - num_unrotated
        height, width = feature_size or (math.isqrt(num_cells),) * 2
        if height * width != num_cells or num_placed < 0 or num_placed % num_cells:
            msg = (
                f'Expected {height} x {width} queries and a multiple of it as keys, '
                f'but got {num_cells} and {num_placed} (+ {num_unrotated} without a '
                f'place); give the feature_size of the map'
            )
            raise ValueError(msg)
        channels = self.internal_dims // self.num_heads
        table = rotary_table(height, width, channels, key.device)
        return self._attend(
            rotate(self._heads(apply_after(norm, self.query, query)), table),
            self._keys(partial(self._place, table, num_placed), key),
            value,
        )

    def _place(
        self, table: tuple[Tensor, Tensor], num_placed: int, tokens: Tensor
    ) -> Tensor:
        """Split heads and rotate the tokens that have a place."""
        heads = self._heads(tokens)
        placed = rotate(heads[:, :, :num_placed], table)
        if num_placed == heads.shape[2]:
            return placed
        return torch.cat([placed, heads[:, :, num_placed:]], dim=2)
