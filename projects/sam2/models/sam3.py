"""Image encoder of SAM 3 (Carion et al., 2025), which its tracker reads.

The tracker of SAM 3 is that of SAM 2.1 behind another image encoder: ``SAM3ViT``, a
plain vision transformer, and ``SAM3Neck``, which makes three maps of its single one.
Its cells have 14 pixels, so the model has ``prompt_encoder.stride = 14``.
"""

import re
from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .hiera import INIT_STD, NORM_EPS, check_global_blocks, initialise_blocks
from .layers import (
    MLP,
    Attention,
    DropPath,
    checkpoint,
    join_windows,
    rotary_table,
    rotate,
    split_windows,
)
from .pretrained import PretrainedModule


@MODELS.register_module()
class SAM3ViT(PretrainedModule):
    """Plain vision transformer that attends within windows, and globally in few blocks.

    Queries and keys are rotated by their position (RoPE). In blocks with global
    attention, positions are scaled to the range of a window.

    Args:
        embed_dims: C, channels of the tokens.
        num_heads: Number of heads; their channels must be a multiple of 4.
        num_layers: Number of blocks.
        mlp_dims: Hidden channels of the MLPs.
        global_attention_blocks: Indices of the blocks that attend to the whole map.
        window_size: Side of the windows of the others, in tokens.
        patch_size: Side of a token in pixels.
        position_embedding_size: Height and width of the learned position embedding,
            which is repeated over the map.
        drop_path_rate: Stochastic depth of the last block; it grows linearly.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    checkpoint_part = 'image_encoder.backbone.'

    def __init__(
        self,
        *,
        embed_dims: int = 1024,
        num_heads: int = 16,
        num_layers: int = 32,
        mlp_dims: int = 4736,
        global_attention_blocks: Sequence[int] = (7, 15, 23, 31),
        window_size: int = 24,
        patch_size: int = 14,
        position_embedding_size: tuple[int, int] = (24, 24),
        drop_path_rate: float = 0.0,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_global_blocks(global_attention_blocks, num_layers)
        self.with_cp = False  # recompute each block in the backward pass
        self.image_multiple = patch_size * window_size
        self.position_embedding_size = position_embedding_size
        self.patch_embedding = nn.Conv2d(
            3, embed_dims, kernel_size=patch_size, stride=patch_size, bias=False
        )
        rows, columns = position_embedding_size
        self.tiled_position_embedding = nn.Parameter(
            torch.zeros(1, rows * columns, embed_dims)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        drop_path_step = drop_path_rate / max(num_layers - 1, 1)
        self.layers = nn.ModuleList(
            SAM3ViTBlock(
                embed_dims=embed_dims,
                num_heads=num_heads,
                mlp_dims=mlp_dims,
                window_size=window_size,
                is_global=index in global_attention_blocks,
                drop_path_rate=drop_path_step * index,
            )
            for index in range(num_layers)
        )
        # For training from random weights.
        nn.init.trunc_normal_(self.tiled_position_embedding, std=INIT_STD)
        initialise_blocks(self.layers)

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.layers)

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter, for learning rates that decay with depth.

        Returns:
            0 for the embeddings and the norm before the blocks, ``i + 1`` for block
            ``i``.
        """
        block = re.match(r'layers\.(\d+)\.', parameter_name)
        return int(block.group(1)) + 1 if block else 0

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Compute the feature map.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            The map of the last block, (B, C, H14, W14).

        Raises:
            ValueError: If the images do not divide into whole windows.
        """
        height, width = images.shape[-2:]
        if height % self.image_multiple or width % self.image_multiple:
            msg = (
                f'Expected images in a multiple of {self.image_multiple} pixels, but '
                f'got {height} x {width}; resize or pad them'
            )
            raise ValueError(msg)
        # (B, C, H14, W14) -> (B, H14, W14, C), contiguous for the layers that follow.
        maps = self.patch_embedding(images).permute(0, 2, 3, 1).contiguous()
        maps = self.norm(maps + self._position(maps.shape[1], maps.shape[2]))
        for layer in self.layers:
            maps = checkpoint(layer, maps, enabled=self.with_cp)
        return (maps.permute(0, 3, 1, 2),)

    def _position(self, height: int, width: int) -> Tensor:
        """Position embedding, repeated over the map, (1, H14, W14, C)."""
        rows, columns = self.position_embedding_size
        tile = self.tiled_position_embedding.unflatten(1, (rows, columns))
        tiled: Tensor = tile.repeat(1, -(-height // rows), -(-width // columns), 1)
        return tiled[:, :height, :width]


class SAM3ViTBlock(nn.Module):
    """Attention and MLP, each after a norm and beside a shortcut.

    Args:
        embed_dims: C.
        num_heads: Number of heads.
        mlp_dims: Hidden channels of the MLP.
        window_size: Side of a window in tokens.
        is_global: Attend to the whole map, not within windows.
        drop_path_rate: Probability that a sample loses a branch in training.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        num_heads: int,
        mlp_dims: int,
        window_size: int,
        is_global: bool,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.is_global = is_global
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.attention = SAM3ViTAttention(
            embed_dims=embed_dims, num_heads=num_heads, position_range=window_size
        )
        self.norm2 = nn.LayerNorm(embed_dims, eps=NORM_EPS)
        self.mlp = MLP(
            in_dims=embed_dims,
            hidden_dims=mlp_dims,
            out_dims=embed_dims,
            num_layers=2,
            activation='gelu',
        )
        self.drop_path = DropPath(rate=drop_path_rate)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        maps = maps + self.drop_path(self._attend(self.norm1(maps)))
        output: Tensor = maps + self.drop_path(self.mlp(self.norm2(maps)))
        return output

    def _attend(self, maps: Tensor) -> Tensor:
        attended: Tensor
        if self.is_global:
            attended = self.attention(maps)
            return attended
        side = self.window_size
        attended = self.attention(split_windows(maps, (side, side)))
        return join_windows(attended, maps.shape[1] // side, maps.shape[2] // side)


class SAM3ViTAttention(Attention):
    """Self-attention among the cells of a map, rotated by their position.

    Args:
        embed_dims: C.
        num_heads: Number of heads; their channels must be a multiple of 4.
        position_range: Positions along a side are scaled to ``[0, position_range)``.

    Raises:
        ValueError: If the heads do not divide the channels as required.
    """

    def __init__(self, *, embed_dims: int, num_heads: int, position_range: int) -> None:
        super().__init__(embed_dims=embed_dims, num_heads=num_heads)
        if embed_dims // num_heads % 4:
            msg = (
                f'Expected channels per head in a multiple of 4, but got {embed_dims} '
                f'channels in {num_heads} heads'
            )
            raise ValueError(msg)
        self.position_range = position_range

    def forward(self, maps: Tensor) -> Tensor:  # type: ignore[override]  # one input
        """(B, h, w, C) -> (B, h, w, C)."""
        height, width = maps.shape[1:3]
        tokens = maps.flatten(1, 2)  # (B, N, C)
        table = rotary_table(
            height,
            width,
            self.internal_dims // self.num_heads,
            maps.device,
            spacing=(self.position_range / height, self.position_range / width),
        )
        q = rotate(self._split_heads(self.query(tokens)), table)
        k = rotate(self._split_heads(self.key(tokens)), table)
        attended: Tensor = self._attend(q, k, tokens).unflatten(1, (height, width))
        return attended


@MODELS.register_module()
class SAM3Neck(PretrainedModule):
    """Makes maps of several sizes of a single one (Li et al., 2022).

    The released weights have a level of half the size as well. The tracker does not
    read it, so it is not computed; its weights are kept for files of transformers.

    Args:
        in_channels: Channels of the map.
        out_channels: C, channels of the outputs.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.
    """

    checkpoint_part = 'image_encoder.neck.'

    def __init__(
        self,
        *,
        in_channels: int = 1024,
        out_channels: int = 256,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.levels = nn.ModuleList(
            SAM3NeckLevel(in_channels, out_channels, num_upsampled)
            for num_upsampled in (2, 1, 0)
        )
        self.unused_level = SAM3NeckLevel(in_channels, out_channels, num_upsampled=0)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute maps of 4, 2 and 1 times the size.

        Args:
            maps: A single one, (B, Cin, H14, W14).

        Returns:
            (B, C, 4 * H14, 4 * W14), (B, C, 2 * H14, 2 * W14), (B, C, H14, W14).
        """
        (features,) = maps
        return tuple(level(features) for level in self.levels)


class SAM3NeckLevel(nn.Module):
    """Transposed convolutions that enlarge a map, then two convolutions.

    Args:
        in_channels: Channels of the map.
        out_channels: C.
        num_upsampled: How often the map is doubled in size.
    """

    def __init__(self, in_channels: int, out_channels: int, num_upsampled: int) -> None:
        super().__init__()
        upscaling: list[nn.Module] = []
        channels = in_channels
        for _ in range(num_upsampled):
            upscaling += [nn.GELU()] if upscaling else []
            upscaling.append(
                nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)
            )
            channels //= 2
        self.upscaling = nn.Sequential(*upscaling)
        self.projection = nn.Conv2d(channels, out_channels, kernel_size=1)
        self.output = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, Cin, h, w) -> (B, C, h * 2 ** num_upsampled, w * 2 ** num_upsampled)."""
        output: Tensor = self.output(self.projection(self.upscaling(features)))
        return output
