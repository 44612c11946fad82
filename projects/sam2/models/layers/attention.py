"""Attention between two sets of tokens, with several heads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.layers.dropout import is_plain_cpu
from projects.sam2.models.layers.row_attention import Keys, row_attention
from projects.sam2.models.layers.tile_attention import tile_attention

__all__ = ['Attention']

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

        Args:
            place: What is done with the projected ones; splits the heads.
            tokens: (O, L, Ckv).

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

        Args:
            query: (O, heads, N, C / heads).
            keys: (O, heads, L, C / heads).
            tokens: What values are made of, (O, L, Ckv).

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
