"""EdgeTAM: SAM 2 whose memories are few tokens in place of maps (Zhou et al., 2025).

::

    EdgeTAMTracker.encode_memory
      memory_encoder            mask and features become a map, as in SAM 2
      EdgeTAMPerceiver          the map becomes 512 tokens:
        256 global latents        attend to the whole map
        256 grid latents          attend each to its own window of the map
    EdgeTAMTracker.condition_on_memory
      MemoryAttention           with EdgeTAMCrossAttention: grid tokens have positions

The backbone is :class:`~.repvit.EdgeTAMRepViT`; all else is SAM 2's.
"""

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ..ops import match_weights
from .layers import Linear, RotaryAttention, attend, checkpoint, sine_encoding_2d
from .layers.position_encoding import Table, cached_constant, rotary_table
from .layers.windows import split_windows
from .tracking.frame import MemoryTokens, SAM2Tracker


@MODELS.register_module()
class EdgeTAMPerceiver(nn.Module):
    """Compresses the spatial memory of a frame to a fixed number of tokens.

    Two groups of learned latents go through the same layers. Global latents attend to
    the whole map. Each grid latent attends to its own window of the map, so that these
    tokens keep its layout.

    Args:
        memory_dims: Cm, channels of a memory.
        num_global: Number of global latents; 0 for none.
        grid_size: Side of the square of grid latents; 0 for none. It must divide the
            sides of the map: images have sides that are multiples of 16 times this.
        num_layers: Number of layers.
        num_heads: Heads of all attentions.
        feedforward_dims: Hidden channels of the feed-forward networks.

    Raises:
        ValueError: If the heads do not divide the channels, or there are no latents.
    """

    def __init__(
        self,
        *,
        memory_dims: int = 64,
        num_global: int = 256,
        grid_size: int = 16,
        num_layers: int = 2,
        num_heads: int = 1,
        feedforward_dims: int = 256,
    ) -> None:
        super().__init__()
        if num_global < 0 or grid_size < 0 or num_global + grid_size == 0:
            msg = (
                f'num_global is {num_global} and grid_size {grid_size}; give at least '
                f'one latent in all, and 0 for none of a kind'
            )
            raise ValueError(msg)
        self.with_cp = False  # recompute all layers in the backward pass
        self.memory_dims = memory_dims
        self.num_global = num_global
        self.grid_size = grid_size
        # 0 tokens: no parameter, as in released checkpoints.
        self.global_latents = _latents(num_global, memory_dims)
        self.grid_latents = _latents(grid_size**2, memory_dims)
        self.layers = nn.ModuleList(
            PerceiverLayer(
                embed_dims=memory_dims,
                num_heads=num_heads,
                feedforward_dims=feedforward_dims,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(memory_dims)

    @property
    def num_tokens(self) -> int:
        """N, number of tokens of a memory."""
        return self.num_global + self.grid_size**2

    def forward(self, maps: Tensor, position: Tensor | None = None) -> Tensor:
        """Compress memories.

        Args:
            maps: Memories of the memory encoder, (O, Cm, h, w).
            position: Position encoding of the map, (1, Cm, h, w), which the keys and
                values of global latents carry; None for none.

        Returns:
            Tokens of the global latents, then of the grid, row by row, (O, N, Cm).

        Raises:
            ValueError: If the grid does not divide the map.
        """
        height, width = maps.shape[-2:]
        if self.grid_size and (height % self.grid_size or width % self.grid_size):
            msg = (
                f'Expected a map that divides into {self.grid_size} x '
                f'{self.grid_size} windows, but got {height} x {width} cells; set an '
                f'image_size in multiples of {16 * self.grid_size} pixels, or another '
                f'grid_size'
            )
            raise ValueError(msg)
        return checkpoint(self._compress, maps, position, enabled=self.with_cp)

    def _compress(self, maps: Tensor, position: Tensor | None) -> Tensor:
        num_objects = maps.shape[0]
        maps = maps.permute(0, 2, 3, 1)  # (O, h, w, Cm)
        parts = []
        if self.global_latents is not None:
            if position is not None:
                position = position.flatten(2).transpose(1, 2)  # (1, h * w, Cm)
            latents = self.global_latents.expand(num_objects, -1, -1)
            parts.append(self._attend(latents, maps.flatten(1, 2), position))
        if self.grid_latents is not None:
            side = self.grid_size
            window = maps.shape[1] // side, maps.shape[2] // side
            # Windows are a batch axis: a latent sees its own window, and itself.
            cells = split_windows(maps, window).flatten(1, 2)  # (O * windows, n, Cm)
            latents = self.grid_latents[:, None].repeat(num_objects, 1, 1)
            tokens = self._attend(latents, cells, None)  # (O * windows, 1, Cm)
            parts.append(tokens.reshape(num_objects, side**2, self.memory_dims))
        return torch.cat(parts, dim=1)

    def _attend(
        self, latents: Tensor, cells: Tensor, position: Tensor | None
    ) -> Tensor:
        for layer in self.layers:
            latents = layer(latents, cells, position)
        normed: Tensor = self.norm(latents)
        return normed

    def position(self, device: torch.device) -> Tensor:
        """Position encoding of the tokens, zero for global ones: (1, N, Cm)."""
        if not self.grid_size:
            return torch.zeros(1, self.num_global, self.memory_dims, device=device)
        encoding = sine_encoding_2d(
            channels=self.memory_dims,
            size=(self.grid_size, self.grid_size),
            device=device,
        )
        grid = encoding.flatten(2).transpose(1, 2)  # (1, Cm, g, g) -> (1, g * g, Cm)
        return functional.pad(grid, (0, 0, self.num_global, 0))


def _latents(count: int, channels: int) -> nn.Parameter | None:
    return nn.Parameter(torch.randn(count, channels)) if count else None


class PerceiverLayer(nn.Module):
    """Latents attend to a map, then to each other; a feed-forward network after each.

    Args:
        embed_dims: C.
        num_heads: Heads of both attentions.
        feedforward_dims: Hidden channels of the feed-forward networks.
    """

    def __init__(
        self, *, embed_dims: int, num_heads: int, feedforward_dims: int
    ) -> None:
        super().__init__()
        self.latent_norm = nn.LayerNorm(embed_dims)
        self.cell_norm = nn.LayerNorm(embed_dims)
        self.cross_attention = PerceiverAttention(embed_dims, num_heads)
        self.cross_mlp = _feed_forward(embed_dims, feedforward_dims)
        self.self_norm = nn.LayerNorm(embed_dims)
        self.self_attention = PerceiverAttention(embed_dims, num_heads)
        self.self_mlp = _feed_forward(embed_dims, feedforward_dims)

    def forward(
        self, latents: Tensor, cells: Tensor, position: Tensor | None
    ) -> Tensor:
        """(O, N, C), (O, L, C), (1, L, C) -> (O, N, C)."""
        attended = self.cross_attention(
            self.latent_norm(latents), self.cell_norm(cells), position
        )
        latents = latents + attended
        latents = latents + self.cross_mlp(latents)
        normed = self.self_norm(latents)
        latents = latents + self.self_attention(normed, normed)
        forwarded: Tensor = self.self_mlp(latents)
        return latents + forwarded


def _feed_forward(embed_dims: int, hidden_dims: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(embed_dims),
        Linear(embed_dims, hidden_dims, bias=False),
        nn.GELU(),
        Linear(hidden_dims, embed_dims, bias=False),
    )


class PerceiverAttention(nn.Module):
    """Attention without biases, whose values carry the position as well as the keys.

    Args:
        embed_dims: C.
        num_heads: Number of heads.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            msg = f'num_heads {num_heads} must divide memory_dims {embed_dims}'
            raise ValueError(msg)
        self.num_heads = num_heads
        self.query = Linear(embed_dims, embed_dims, bias=False)
        self.key_value = Linear(embed_dims, 2 * embed_dims, bias=False)
        self.output = Linear(embed_dims, embed_dims, bias=False)

    def forward(
        self, query: Tensor, source: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(O, N, C), (O, L, C), (1, L, C) -> (O, N, C)."""
        key, value = self.key_value(source).chunk(2, dim=-1)
        if position is not None:
            key, value = key + position, value + position
        q, k, v = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.query(query), key, value)
        )  # (O, heads, N | L, C / heads)
        attended = attend(q, k, v).transpose(1, 2).flatten(2)
        output: Tensor = self.output(attended)
        return output


@MODELS.register_module()
class EdgeTAMCrossAttention(RotaryAttention):
    """Attention from a frame to the tokens of :class:`EdgeTAMPerceiver`.

    Queries are rotated by their cell of the frame, grid tokens by their cell of the
    grid, 0 to ``grid_size - 1``; global tokens and pointers are not rotated.

    Args:
        embed_dims: C, channels of the queries and of the output.
        num_heads: Number of heads; their channels must be a multiple of 4.
        kv_dims: Ckv, channels of keys and values; ``embed_dims`` by default.
        dropout: Probability to drop an attention weight in training.
        num_global: Of the perceiver.
        grid_size: Of the perceiver.

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
        num_global: int = 256,
        grid_size: int = 16,
    ) -> None:
        super().__init__(
            embed_dims=embed_dims, num_heads=num_heads, kv_dims=kv_dims, dropout=dropout
        )
        self.num_global = num_global
        self.grid_size = grid_size

    @property
    def memory_length(self) -> int:
        """Number of tokens of a memory."""
        return self.num_global + self.grid_size**2

    def key_table(
        self, feature_size: tuple[int, int], pooling: int, device: torch.device
    ) -> Table:
        """Rotations of the tokens of one memory.

        Raises:
            ValueError: If memories are pooled; they are no maps.
        """
        del feature_size  # the grid is the same for all sizes of a frame
        if pooling != 1:
            msg = f'memory_pooling is {pooling}; leave it at 1, tokens are not pooled'
            raise ValueError(msg)
        return token_table(self.num_global, self.grid_size, self.head_dims, device)


@cached_constant
def token_table(
    num_global: int, grid_size: int, channels: int, device: torch.device
) -> Table:
    """Rotations by 0 for global tokens, then those of a grid; see `rotary_table`."""
    cosines, sines = rotary_table(grid_size, grid_size, channels, device)
    return (
        functional.pad(cosines, (0, 0, num_global, 0), value=1.0),
        functional.pad(sines, (0, 0, num_global, 0)),
    )


@MODELS.register_module()
class EdgeTAMTracker(SAM2Tracker):
    """The memory path of EdgeTAM: that of SAM 2, with memories as tokens.

    The arguments besides ``perceiver`` are those of :class:`SAM2Tracker`.

    Args:
        perceiver: Config of :class:`EdgeTAMPerceiver`.
        memory_attention: Config of :class:`MemoryAttention`, whose ``cross_attention``
            is an :class:`EdgeTAMCrossAttention`.
        memory_encoder: Config of :class:`MemoryEncoder`.
        memory_bank: Config of :class:`MemoryBank`.
        object_pointer: Config of :class:`SAM2ObjectPointer`.
        no_object_embedding: Not in the released EdgeTAM.
        non_overlapping_memories: As in SAM 2.
        binary_clicked_memories: As in SAM 2.
        gate_training_masks: As in SAM 2.

    Raises:
        ValueError: If the perceiver does not fit the other parts.
    """

    memory_shape = ('N', 'Cm')

    def __init__(
        self,
        *,
        perceiver: dict[str, object],
        memory_attention: dict[str, object],
        memory_encoder: dict[str, object],
        memory_bank: dict[str, object],
        object_pointer: dict[str, object],
        no_object_embedding: bool = False,
        non_overlapping_memories: bool = False,
        binary_clicked_memories: bool = True,
        gate_training_masks: bool = True,
    ) -> None:
        super().__init__(
            memory_attention=memory_attention,
            memory_encoder=memory_encoder,
            memory_bank=memory_bank,
            object_pointer=object_pointer,
            no_object_embedding=no_object_embedding,
            non_overlapping_memories=non_overlapping_memories,
            binary_clicked_memories=binary_clicked_memories,
            gate_training_masks=gate_training_masks,
        )
        self.perceiver: EdgeTAMPerceiver = MODELS.build(perceiver)
        _check_fit(self)

    @property
    def memory_sizes(self) -> dict[str, int]:
        """N, number of tokens of a memory."""
        return {'N': self.perceiver.num_tokens}

    def encode_mask_memory(
        self, embedding: Tensor, mask_probs: Tensor, present: Tensor
    ) -> Tensor:
        """Encode mask probabilities as memories.

        Args:
            embedding: Features of the frame, (O | 1, C, H16, W16).
            mask_probs: (O, 1, H, W), in [0, 1].
            present: Whether the object is in the frame, (O, 1), bool.

        Returns:
            (O, N, Cm), tokens of the perceiver.
        """
        memory = super().encode_mask_memory(embedding, mask_probs, present)
        encoding = sine_encoding_2d(
            channels=memory.shape[1],
            size=(memory.shape[2], memory.shape[3]),
            device=memory.device,
        )
        position = match_weights(encoding, self.temporal_embedding)
        tokens: Tensor = self.perceiver(memory, position)
        return tokens

    def spatial_tokens(self, memory: Tensor, temporal: Tensor) -> MemoryTokens:
        """Join R memories of each object.

        Args:
            memory: (O, R, N, Cm).
            temporal: Temporal embedding of each memory, (R, 1, 1, Cm).

        Returns:
            Tokens (O, R * N, Cm) and their position encoding, (1, R * N, Cm).
        """
        grid = match_weights(self.perceiver.position(memory.device), temporal)
        position = grid + temporal.flatten(1, 2)  # (R, N, Cm)
        tokens = memory.to(temporal.dtype).flatten(1, 2)
        return tokens, position.flatten(0, 1)[None]


def _check_fit(tracker: EdgeTAMTracker) -> None:
    perceiver = tracker.perceiver
    expected = perceiver.num_global, perceiver.grid_size
    for layer in tracker.memory_attention.layers:
        attention = layer.cross_attention
        given = (
            getattr(attention, 'num_global', None),
            getattr(attention, 'grid_size', None),
        )
        if given != expected:
            msg = (
                f'memory_attention.cross_attention has num_global and grid_size '
                f'{given}, and the perceiver {expected}; give both the same, with '
                f"type='EdgeTAMCrossAttention'"
            )
            raise ValueError(msg)
    if perceiver.memory_dims != tracker.object_pointer.memory_dims:
        msg = (
            f'perceiver.memory_dims is {perceiver.memory_dims}, and that of '
            f'object_pointer {tracker.object_pointer.memory_dims}; give both the same'
        )
        raise ValueError(msg)
