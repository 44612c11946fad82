"""Multi-head attention, with and without rotary position encoding (RoPE)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import cpu
from .checkpointing import recomputable, recompute_output
from .linear import Linear
from .position_encoding import Table, rotary_table, rotate


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention, by the kernel that suits the device.

    Args:
        query: For each object or one for all, (O | 1, heads, N, C).
        key: (O | 1, heads, L, C).
        value: (O | 1, heads, L, Cv).
        dropout: Probability to drop an attention weight.
        mask: Added to the logits, (N, L).

    Returns:
        (O, heads, N, Cv).
    """
    if cpu.suits(query, mask):
        return cpu.attention(query, key, value, dropout)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout
    )


class Attention(nn.Module):
    """Multi-head attention that may work in fewer channels than its input has.

    Args:
        embed_dims: C, channels of the queries and of the output.
        num_heads: Number of heads; must divide ``internal_dims``.
        internal_dims: Channels of all heads together; ``embed_dims`` by default.
        kv_dims: Ckv, channels of keys and values; ``embed_dims`` by default.
        dropout: Probability to drop an attention weight in training.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    # Whether values are gathered before they are projected, if they may be; an exporter
    # that knows its kernels sets it on the instance.
    prefers_narrow_values = staticmethod(cpu.prefers_narrow_values)

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
        self.dropout = dropout
        self.query = Linear(embed_dims, internal_dims)
        self.key = Linear(kv_dims, internal_dims)
        self.value = Linear(kv_dims, internal_dims)
        self.output = Linear(internal_dims, embed_dims)
        self.has_narrow_values = num_heads == 1 and kv_dims < internal_dims
        if kv_dims < internal_dims:
            recompute_output(self.key)  # the tokens take less memory than the keys

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(O, N, C), (O, L, Ckv), (O, L, Ckv) -> (O, N, C)."""
        q = self._split_heads(self.query(query))  # (O, heads, N, C / heads)
        k = self._split_heads(self.key(key))  # (O, heads, L, C / heads)
        return self._attend(q, k, value)

    def _attend(self, q: Tensor, k: Tensor, value: Tensor) -> Tensor:
        """Attend within each head and project the output."""
        dropout = self.dropout if self.training else 0.0
        if self.has_narrow_values and self.prefers_narrow_values(q, k, dropout):
            gathered = self._attend_before_projection(q, k, value, dropout)
        else:
            v = self._split_heads(self.value(value))  # (O, heads, L, C / heads)
            gathered = attend(q, k, v, dropout).transpose(1, 2).flatten(2)  # (O, N, C)
        output: Tensor = self.output(gathered)
        return output

    def _attend_before_projection(
        self, q: Tensor, k: Tensor, value: Tensor, dropout: float
    ) -> Tensor:
        """Attend to the values before they are projected, (O, N, C).

        The projection is linear, so the result is the same; with memories of 64
        channels and keys of 256 this saves a third of the products.
        """
        projected: Tensor
        if not dropout:
            projected = self.value(attend(q, k, value[:, None])[:, 0])
            return projected
        # The bias is scaled by the sum of the remaining weights, which attention over
        # a channel of ones computes.
        with_ones = functional.pad(value, (0, 1), value=1.0)  # (O, L, Ckv + 1)
        gathered = attend(q, k, with_ones[:, None], dropout)[:, 0]  # (O, N, Ckv + 1)
        gathered, weight_sums = gathered.split([value.shape[-1], 1], dim=-1)
        projected = self.value(gathered) + (weight_sums - 1) * self.value.bias
        return projected

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """(O, N, C) -> (O, heads, N, C / heads)."""
        split: Tensor = tokens.unflatten(-1, (self.num_heads, -1))
        return split.transpose(1, 2)


class RotaryAttention(Attention):
    """Attention between maps whose queries and keys are rotated by their position.

    Args:
        embed_dims: C, channels of the queries and of the output.
        num_heads: Number of heads; their channels must be a multiple of 4.
        kv_dims: Ckv, channels of keys and values; ``embed_dims`` by default.
        dropout: Probability to drop an attention weight in training.

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
        feature_size: tuple[int, int] | None = None,
        num_unrotated: int = 0,
        key_pooling: int = 1,
    ) -> Tensor:
        """Attend from the cells of a map to the cells of one or several maps.

        Args:
            query: The cells of a map, (O, N, C).
            key: The Nk cells of each of R maps of the same size, followed by tokens
                without a position, (O, R * Nk + num_unrotated, Ckv).
            value: As ``key``.
            feature_size: Height and width of the map; by default it is square.
            key_pooling: Side of the squares of cells that were pooled to one in the
                maps of the keys; 1 for maps that were not pooled.

        Returns:
            (O, N, C).

        Raises:
            ValueError: If the numbers of tokens do not fit the map.
        """
        q, k = self._rotated(query, key, feature_size, num_unrotated, key_pooling)
        return self._attend(q, k, value)

    def _rotated(
        self,
        query: Tensor,
        key: Tensor,
        feature_size: tuple[int, int] | None,
        num_unrotated: int,
        key_pooling: int,
    ) -> tuple[Tensor, Tensor]:
        """Project and rotate queries and keys: (O, heads, N | L, C / heads)."""
        num_cells = query.shape[1]
        num_rotated = key.shape[1] - num_unrotated
        height, width = feature_size or (math.isqrt(num_cells),) * 2
        table = rotary_table(height, width, self.head_dims, key.device)
        key_table = self.key_table((height, width), key_pooling, key.device)
        num_keys = len(key_table[0])
        if height * width != num_cells or num_rotated < 0 or num_rotated % num_keys:
            msg = (
                f'Expected {height} x {width} queries and a multiple of {num_keys} as '
                f'keys, but got {num_cells} and {num_rotated} (+ {num_unrotated} '
                f'without a position); give the feature_size of the map'
            )
            raise ValueError(msg)
        q = rotate(self._split_heads(self.query(query)), table)
        k = rotate_keys(self._split_heads(self.key(key)), key_table, num_unrotated)
        return q, k

    @property
    def head_dims(self) -> int:
        """Channels of a head."""
        return self.internal_dims // self.num_heads

    def key_table(
        self, feature_size: tuple[int, int], pooling: int, device: torch.device
    ) -> Table:
        """Rotations of the keys of one memory, which repeat for each memory.

        Args:
            feature_size: Height and width of the map of the queries.
            pooling: As ``key_pooling`` of :meth:`forward`.

        Returns:
            As :func:`rotary_table`, for the Nk keys of a memory.
        """
        return rotary_table(*feature_size, self.head_dims, device, pooling)


rotate_keys = recomputable(rotate)
