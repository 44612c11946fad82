"""Memory attention: the features of a frame attend to memories of other frames."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import MLP, Dropout, RotaryAttention, checkpoint, map_in_chunks

INPUT_POSITION_WEIGHT = 0.1
# The hidden layer of the feed-forward network is recomputed on frames that attend to
# more maps than this: these frames dominate the memory of a training step.
MAX_MAPS_KEPT = 3


@MODELS.register_module()
class MemoryAttention(nn.Module):
    """Conditions the features of a frame on memories (Ravi et al., 2024, section 4).

    A stack of layers with self-attention, cross-attention to the memories and a
    feed-forward network.

    Args:
        embed_dims: C, channels of the frame's features.
        memory_dims: Cm, channels of the memory.
        num_layers: Number of layers.
        feedforward_dims: Hidden channels of the feed-forward networks.
        num_heads: Heads of both attentions.
        dropout: Dropout rate in training, of attention weights and of branches.
        cross_attention: Config of the cross-attention of each layer, in ``MODELS``,
            which is given ``embed_dims``, ``num_heads``, ``kv_dims`` and ``dropout``
            as well and is called as :class:`RotaryAttention` is. By default it is a
            ``RotaryAttention``, for memories that are maps.

    Example:
        >>> MemoryAttention(cross_attention=dict(type='EdgeTAMCrossAttention'))
    """

    def __init__(
        self,
        *,
        embed_dims: int = 256,
        memory_dims: int = 64,
        num_layers: int = 4,
        feedforward_dims: int = 2048,
        num_heads: int = 1,
        dropout: float = 0.1,
        cross_attention: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.with_cp = False  # recompute each layer in the backward pass
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(
                embed_dims=embed_dims,
                memory_dims=memory_dims,
                feedforward_dims=feedforward_dims,
                num_heads=num_heads,
                dropout=dropout,
                cross_attention=cross_attention,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dims)

    def forward(
        self,
        *,
        tokens: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        num_pointer_tokens: int,
        feature_size: tuple[int, int],
        memory_pooling: int = 1,
        key_scales: Tensor | None = None,
    ) -> Tensor:
        """Condition the features of a frame on the memory.

        Args:
            tokens: Features of the frame, (O | 1, N, C); with 1, the objects share
                all computation that does not depend on the memory.
            position: Position encoding of the frame, (O | 1, N, C).
            memory: Spatial memories of the size of the frame's features, or pooled,
                one after another, then object pointers, (O, L, Cm).
            memory_position: Position encoding of the memory, (O | 1, L, Cm).
            num_pointer_tokens: Number of tokens of object pointers in ``memory``.
            feature_size: Height and width of the frame's features.
            memory_pooling: Side of the squares of cells that were pooled to one in
                the memories.
            key_scales: Factor of the key of each memory token, (O, L, 1); None
                scales nothing.

        Returns:
            (O, N, C).
        """
        tokens = tokens + INPUT_POSITION_WEIGHT * position
        memory_keys = memory + memory_position  # the values carry no position
        if key_scales is not None:
            memory_keys = memory_keys * key_scales.to(memory_keys.dtype)
        for layer in self.layers:
            tokens = checkpoint(
                layer,
                tokens,
                memory_keys=memory_keys,
                memory=memory,
                num_pointer_tokens=num_pointer_tokens,
                feature_size=feature_size,
                memory_pooling=memory_pooling,
                enabled=self.with_cp,
            )
        normed: Tensor = self.norm(tokens)
        return normed


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward network, each after a norm.

    Args:
        embed_dims: C, channels of the frame's features.
        memory_dims: Cm, channels of the memory.
        feedforward_dims: Hidden channels of the feed-forward network.
        num_heads: Heads of both attentions.
        dropout: Dropout rate in training, of attention weights and of branches.
        cross_attention: As in :class:`MemoryAttention`.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        memory_dims: int,
        feedforward_dims: int,
        num_heads: int,
        dropout: float,
        cross_attention: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = RotaryAttention(
            embed_dims=embed_dims, num_heads=num_heads, dropout=dropout
        )
        self.cross_attention = MODELS.build(
            {
                **(cross_attention or {'type': RotaryAttention}),
                'embed_dims': embed_dims,
                'num_heads': num_heads,
                'kv_dims': memory_dims,
                'dropout': dropout,
            }
        )
        self.mlp = MLP(
            in_dims=embed_dims,
            hidden_dims=feedforward_dims,
            out_dims=embed_dims,
            num_layers=2,
            dropout=dropout,
        )
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.norm3 = nn.LayerNorm(embed_dims)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        *,
        memory_keys: Tensor,
        memory: Tensor,
        num_pointer_tokens: int,
        feature_size: tuple[int, int],
        memory_pooling: int = 1,
    ) -> Tensor:
        """Apply the layer.

        Args:
            tokens: (O | 1, N, C).
            memory_keys: The memory with its position encoding, (O, L, Cm).
            memory: (O, L, Cm).
            feature_size: Height and width of the frame's features.
            memory_pooling: Side of the squares of cells that were pooled to one in
                the memories.

        Returns:
            (O, N, C).
        """
        num_objects, num_memory_tokens, _ = memory.shape
        # Objects share the self-attention until they attend to different memories.
        is_shared = tokens.shape[0] < num_objects
        if is_shared:
            tokens = self._attend_to_frame(tokens, feature_size)
            tokens = tokens.expand(num_objects, -1, -1)  # (1, N, C) -> (O, N, C)
        num_maps = (num_memory_tokens - num_pointer_tokens) // tokens.shape[1]

        def apply(tokens: Tensor, memory_keys: Tensor, memory: Tensor) -> Tensor:
            if not is_shared:
                tokens = self._attend_to_frame(tokens, feature_size)
            attended = self.cross_attention(
                self.norm2(tokens),
                memory_keys,
                memory,
                feature_size=feature_size,
                num_unrotated=num_pointer_tokens,
                key_pooling=memory_pooling,
            )
            tokens = tokens + self.dropout(attended)
            forwarded: Tensor
            # A compiler, which decides itself, would compile either case on its own.
            if not torch.compiler.is_compiling() and num_maps > MAX_MAPS_KEPT:
                forwarded = checkpoint(self._feed_forward, tokens)
            else:
                forwarded = self._feed_forward(tokens)
            forwarded = self.dropout(forwarded)
            return tokens + forwarded

        return map_in_chunks(
            apply,
            tokens,
            memory_keys,
            memory,
            object_size=num_memory_tokens * tokens.shape[2],  # of the projected keys
        )

    def _attend_to_frame(self, tokens: Tensor, feature_size: tuple[int, int]) -> Tensor:
        """Self-attention, (O | 1, N, C)."""
        normed = self.norm1(tokens)
        attended: Tensor = self.dropout(
            self.self_attention(normed, normed, normed, feature_size=feature_size)
        )
        return tokens + attended

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.mlp(self.norm3(tokens))
        return output
