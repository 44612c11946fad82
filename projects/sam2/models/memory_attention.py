"""Memory attention: features of a frame gather from memories of other frames."""

from functools import partial

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import (
    MLP,
    ReLUDropout,
    ResidualDropout,
    RotaryAttention,
    chunks,
    objects_at_once,
    recomputed,
)

__all__ = ['MemoryAttention']

INPUT_POSITION_WEIGHT = 0.1
# Frames that attend to more memories are what fills the memory of a step: their hidden
# rows are computed twice.
FEW_MEMORIES = 3


@MODELS.register_module()
class MemoryAttention(nn.Module):
    """Stack of layers with self-attention and cross-attention to the memory.

    Args:
        embed_dims: Channels of the frame's features.
        memory_dims: Channels of the memory.
        num_layers: Layers.
        feedforward_dims: Hidden channels of the feed-forward networks.
        num_heads: Heads of both attentions.
        dropout: Share dropped in training, of attention weights and of branches.
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
    ) -> None:
        super().__init__()
        self.with_cp = False  # set to compute twice what is inside
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(
                embed_dims=embed_dims,
                memory_dims=memory_dims,
                feedforward_dims=feedforward_dims,
                num_heads=num_heads,
                dropout=dropout,
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
    ) -> Tensor:
        """Condition the features of a frame on the memory.

        Args:
            tokens: Features of the frame, (O | 1, N, C); with 1, all objects share
                what does not depend on the memory.
            position: Position encoding of the frame, (O | 1, N, C).
            memory: Maps of the size of the frame's, one after another, then object
                pointers, (O, L, Cm).
            memory_position: Position encoding of the memory, (O | 1, L, Cm).
            feature_size: Height and width of the frame's features.

        Returns:
            (O, N, C).
        """
        # Values are read without a position, so the keys are made once for all.
        keys = memory + memory_position
        tokens = tokens + INPUT_POSITION_WEIGHT * position
        for layer in self.layers:
            apply = partial(recomputed, layer) if self.with_cp else layer
            tokens = apply(
                tokens,
                keys=keys,
                memory=memory,
                num_pointer_tokens=num_pointer_tokens,
                feature_size=feature_size,
            )
        normed: Tensor = self.norm(tokens)
        return normed


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each after its norm.

    Args:
        embed_dims: Channels of the frame's features.
        memory_dims: Channels of the memory.
        feedforward_dims: Hidden channels of the feed-forward network.
        num_heads: Heads of both attentions.
        dropout: Share dropped in training, of attention weights and of branches.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        memory_dims: int,
        feedforward_dims: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attention = RotaryAttention(
            embed_dims=embed_dims, num_heads=num_heads, dropout=dropout
        )
        self.cross_attention = RotaryAttention(
            embed_dims=embed_dims,
            num_heads=num_heads,
            kv_dims=memory_dims,
            dropout=dropout,
        )
        self.mlp = MLP(
            in_dims=embed_dims,
            hidden_dims=feedforward_dims,
            out_dims=embed_dims,
            num_layers=2,
        )
        # Hidden units are dropped too, as a part of the activation between the layers.
        self.mlp.activation = ReLUDropout(dropout)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.norm3 = nn.LayerNorm(embed_dims)
        self.dropout = ResidualDropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        *,
        keys: Tensor,
        memory: Tensor,
        num_pointer_tokens: int,
        feature_size: tuple[int, int],
    ) -> Tensor:
        """Apply the layer.

        Args:
            tokens: (O | 1, N, C).
            keys: Memory with its position added, (O, L, Cm).
            memory: (O, L, Cm).
            feature_size: Height and width of the frame's features.

        Returns:
            (O, N, C).
        """
        shared = len(tokens) < len(memory)
        if shared:
            tokens = self._attend_within(tokens, feature_size)
        tokens = tokens.expand(len(memory), -1, -1)
        # The projected memories are the largest.
        limit = objects_at_once(tokens, memory.shape[1] * tokens.shape[2])
        parts = []
        for own, own_keys, own_memory in zip(
            *(chunks(tensor, limit) for tensor in (tokens, keys, memory)), strict=True
        ):
            within = own if shared else self._attend_within(own, feature_size)
            parts.append(
                self._attend_to_memory(
                    within, own_keys, own_memory, num_pointer_tokens, feature_size
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_within(self, tokens: Tensor, feature_size: tuple[int, int]) -> Tensor:
        """Self-attention, (O | 1, N, C)."""
        normed = self.norm1(tokens)
        attended: Tensor = self.dropout(
            tokens,
            self.self_attention(normed, normed, normed, feature_size=feature_size),
        )
        return attended

    def _attend_to_memory(
        self,
        tokens: Tensor,
        keys: Tensor,
        memory: Tensor,
        num_pointer_tokens: int,
        feature_size: tuple[int, int],
    ) -> Tensor:
        """Cross-attention and feed-forward of some objects, (O, N, C)."""
        tokens = self.dropout(
            tokens,
            self.cross_attention(
                tokens,
                keys,
                memory,
                norm=self.norm2,
                feature_size=feature_size,
                num_unrotated=num_pointer_tokens,
            ),
        )
        num_places = memory.shape[1] - num_pointer_tokens
        few = num_places <= FEW_MEMORIES * tokens.shape[1]
        hidden = self.mlp(tokens, norm=self.norm3, keeps_hidden=few)
        mixed: Tensor = self.dropout(tokens, hidden)
        return mixed
