"""Attention between two sets of tokens, with several heads."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .checkpointing import apply_after
from .cpu import (
    Keys,
    is_plain_cpu,
    row_attention,
    tile_attention,
)
from .position_encoding import cached_constant, wavelengths

# On a CPU, fewer weights of a head than this are faster by torch's own kernel.
FEW_WEIGHTS = 2**18


class Attention(nn.Module):
    """Multi-head attention that may work in fewer channels than its input has.

    Args:
        embed_dims: Channels of the queries and of the result.
        num_heads: Heads; must divide ``internal_dims``.
        internal_dims: Channels of all heads together; ``embed_dims`` by default.
        kv_dims: Channels of keys and values; ``embed_dims`` by default.
        dropout: Share of attention weights dropped in training.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        num_heads: int,
        internal_dims: int | None = None,
        kv_dims: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        internal_dims = embed_dims if internal_dims is None else internal_dims
        kv_dims = embed_dims if kv_dims is None else kv_dims
        if internal_dims % num_heads:
            msg = (
                f'internal_dims {internal_dims} is not a multiple of num_heads '
                f'{num_heads}; change one of them'
            )
            raise ValueError(msg)
        self.num_heads = num_heads
        self.internal_dims = internal_dims
        self.kv_dims = kv_dims
        self.dropout = dropout
        self.query = nn.Linear(embed_dims, internal_dims)
        self.key = nn.Linear(kv_dims, internal_dims)
        self.value = nn.Linear(kv_dims, internal_dims)
        self.output = nn.Linear(internal_dims, embed_dims)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Let each query gather from the values.

        Args:
            query: (O, N, C).
            key: (O, L, Ckv).
            value: (O, L, Ckv).

        Returns:
            (O, N, C).
        """
        return self._attend(
            self._heads(self.query(query)), self._keys(self._heads, key), value
        )

    def _keys(self, place: Callable[[Tensor], Tensor], tokens: Tensor) -> Keys:
        """Project tokens to keys.

        Returns:
            (O, heads, L, C / heads), made again later if a linear layer makes them of
            fewer channels, which is cheap; another layer, such as one with an adapter,
            may draw random numbers.
        """
        layer = self.key
        is_narrow = type(layer) is nn.Linear and self.kv_dims < self.internal_dims
        # A layer that is sharded by itself gathers its weights when it is called.
        if is_narrow:
            # The weights are handed on: those of now, whatever the layer has later.
            return Keys(
                (tokens, layer.weight, layer.bias),
                lambda *given: place(functional.linear(*given)),
            )
        return Keys((place(layer(tokens)),), lambda made: made)

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split channels into heads: (O, N, C) -> (O, heads, N, C / heads)."""
        split: Tensor = tokens.unflatten(-1, (self.num_heads, -1))
        return split.transpose(1, 2)

    def _attend(self, query: Tensor, keys: Keys, tokens: Tensor) -> Tensor:
        """Attend within each head and join the heads.

        Returns:
            (O, N, C).
        """
        rate = self.dropout if self.training else 0.0
        is_plain = is_plain_cpu(query)
        is_large = query.shape[-2] * keys.sources[0].shape[-2] >= FEW_WEIGHTS
        if is_plain and self._has_narrow_values and (rate or is_large):
            return self._attend_before_projection(query, keys, tokens, rate)
        value = self._heads(self.value(tokens))
        if is_plain and rate:
            gathered, _ = row_attention(query, keys, value, rate)
        else:
            gathered = functional.scaled_dot_product_attention(
                query, keys.made(), value, dropout_p=rate
            )
        # (O, heads, N, C / heads) -> (O, N, C)
        joined: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return joined

    @property
    def _has_narrow_values(self) -> bool:
        """Whether values are made of fewer channels than they have."""
        return self.num_heads == 1 and self.kv_dims < self.internal_dims

    def _attend_before_projection(
        self, query: Tensor, keys: Keys, tokens: Tensor, rate: float
    ) -> Tensor:
        """Gather from narrow tokens and project what is gathered, (O, N, C).

        The projection is linear, so the result is the same, but a quarter of the
        products suffices for memories of 64 channels and keys of 256.
        """
        value = tokens.unsqueeze(1)
        if rate:
            gathered, left = row_attention(query, keys, value, rate)
            # The bias is gathered as often as the weights that are left say.
            bias = (left.squeeze(1) - 1) * self.value.bias
        elif torch.is_grad_enabled():
            gathered, _ = row_attention(query, keys, value)
            bias = None
        else:
            gathered, bias = tile_attention(query, keys.made(), value), None
        projected = self.value(gathered.squeeze(1))
        joined: Tensor = self.output(projected if bias is None else projected + bias)
        return joined


@cached_constant
def rotary_table(
    height: int, width: int, channels: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines by which the tokens of a map are rotated.

    Two neighbouring channels form a pair and have one angle. Angles of the first half
    of the channels grow with x, those of the second half with y. The tensors are
    shared between callers and must not be written into.

    Args:
        channels: Channels of a head; a multiple of 4.

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
            feature_size: Height and width of the map; by default it is square.

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
