"""EfficientTAM: a plain vision transformer, and attention to pooled memories.

The parts in which EfficientTAM (Xiong et al., 2024) differs from SAM 2::

    SAM2ImageEncoder
    ├─ EfficientTAMViT             a single map of stride 16, no hierarchy
    └─ EfficientTAMNeck            two convolutions; the mask decoder gets no finer map
    MemoryAttention
    └─ EfficientTAMCrossAttention  pools the keys of several memories 2 x 2

All else is SAM 2.0's: ``configs/_base_/models/efficienttam_ti.py`` puts it together.
"""

import math
import re
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from .hiera import INIT_STD, HieraBlock, check_global_blocks, initialise_blocks
from .layers import LayerNorm2d, PixelLinear, RotaryAttention, checkpoint
from .pretrained import PretrainedModule

PATCH_SIZE = 16
KEY_POOLING = 2  # side of the squares of cells that become one key
BIAS_CHANNELS = 8  # kernels for a GPU take channels in multiples of 8
PoolingBias = Literal['logits', 'keys']


@MODELS.register_module()
class EfficientTAMViT(PretrainedModule):
    """Plain vision transformer with windows (Li et al., 2022), without a final norm.

    Its blocks are those of :class:`Hiera`, none of which pools.

    Args:
        embed_dims: C, channels of all blocks.
        num_heads: Heads of all blocks.
        num_blocks: Number of blocks.
        global_attention_blocks: Indices of the blocks that attend to the whole map.
        window_size: Side of the windows of the other blocks, in tokens.
        position_embedding_size: Height and width of the learned position embedding,
            which is resized to the map.
        drop_path_rate: Stochastic depth of the last block; it grows linearly.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.

    Raises:
        ValueError: If there is no such block for global attention.
    """

    checkpoint_part = 'image_encoder.backbone.'

    def __init__(
        self,
        *,
        embed_dims: int = 192,
        num_heads: int = 3,
        num_blocks: int = 12,
        global_attention_blocks: Sequence[int] = (2, 5, 8, 11),
        window_size: int = 14,
        position_embedding_size: tuple[int, int] = (14, 14),
        drop_path_rate: float = 0.0,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_global_blocks(global_attention_blocks, num_blocks)
        self.with_cp = False  # recompute each block in the backward pass
        self.position_embedding_size = height, width = position_embedding_size
        self.patch_embedding = EfficientTAMPatchEmbedding(embed_dims=embed_dims)
        # The first row is of the class token that the pretraining had; it is not used.
        self.position_embedding = nn.Parameter(
            torch.zeros(1, 1 + height * width, embed_dims)
        )
        drop_path_step = drop_path_rate / max(num_blocks - 1, 1)
        self.blocks = nn.ModuleList(
            HieraBlock(
                in_dims=embed_dims,
                out_dims=embed_dims,
                num_heads=num_heads,
                window_size=0 if index in global_attention_blocks else window_size,
                drop_path_rate=drop_path_step * index,
            )
            for index in range(num_blocks)
        )
        # For training from random weights.
        nn.init.trunc_normal_(self.position_embedding, std=INIT_STD)
        initialise_blocks(self.blocks)

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter, for learning rates that decay with depth.

        Returns:
            0 for patch and position embedding, as is usual for a plain transformer;
            ``i + 1`` for block ``i``.
        """
        block = re.match(r'blocks\.(\d+)\.', parameter_name)
        return int(block.group(1)) + 1 if block else 0

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Compute the feature map.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            A single map, (B, C, H16, W16).

        Raises:
            ValueError: If the images do not divide into patches.
        """
        height, width = images.shape[-2:]
        if height % PATCH_SIZE or width % PATCH_SIZE:
            msg = (
                f'Expected images in a multiple of {PATCH_SIZE} pixels, but got '
                f'{height} x {width}; resize or pad them'
            )
            raise ValueError(msg)
        maps = self.patch_embedding(images)
        maps = maps + self._position(maps.shape[1], maps.shape[2])
        for block in self.blocks:
            maps = checkpoint(block, maps, enabled=self.with_cp)
        return (maps.permute(0, 3, 1, 2),)  # (B, h, w, C) -> (B, C, h, w)

    def _position(self, height: int, width: int) -> Tensor:
        """Position embedding of the map, (1, H16, W16, C)."""
        cells = self.position_embedding[:, 1:].mT  # (1, C, cells)
        whole = functional.interpolate(
            cells.unflatten(2, self.position_embedding_size),
            size=(height, width),
            mode='bicubic',
        )
        return whole.permute(0, 2, 3, 1)


class EfficientTAMPatchEmbedding(nn.Module):
    """Patches of an image, which do not overlap, as tokens at stride 16.

    Args:
        embed_dims: C.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            3, embed_dims, kernel_size=PATCH_SIZE, stride=PATCH_SIZE
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H16, W16, C)."""
        embedded: Tensor = self.projection(images)
        # (B, C, h, w) -> (B, h, w, C), contiguous for the layers that follow.
        return embedded.permute(0, 2, 3, 1).contiguous()


@MODELS.register_module()
class EfficientTAMNeck(PretrainedModule):
    """Two convolutions without a bias, each before a norm, on the map of stride 16.

    Args:
        in_channels: Channels of the map.
        out_channels: C, channels of the output.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.
    """

    checkpoint_part = 'image_encoder.neck.'

    def __init__(
        self,
        *,
        in_channels: int = 192,
        out_channels: int = 256,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.projection = PixelLinear(in_channels, out_channels, bias=False)
        self.projection_norm = LayerNorm2d(out_channels)
        self.conv = nn.Conv2d(
            out_channels, out_channels, kernel_size=3, padding=1, bias=False
        )
        self.conv_norm = LayerNorm2d(out_channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Project the map.

        Args:
            maps: A single one, (B, Cin, H16, W16).

        Returns:
            A single map, (B, C, H16, W16).
        """
        (features,) = maps
        projected = self.projection_norm(self.projection(features))
        return (self.conv_norm(self.conv(projected)),)


@MODELS.register_module()
class EfficientTAMCrossAttention(RotaryAttention):
    """Cross-attention that pools the keys and values of several memories 2 x 2.

    Neighbouring cells of a memory have similar keys, so that one stands for four. The
    weight of the pooled keys is raised for that, by ``ln 4``. A frame with a single
    memory, the first that is tracked, attends to all of its cells. Object pointers are
    never pooled.

    Args:
        embed_dims: C, channels of the queries and of the output.
        num_heads: Number of heads; their channels must be a multiple of 4.
        kv_dims: Ckv, channels of keys and values; ``embed_dims`` by default.
        dropout: Probability to drop an attention weight in training.
        bias_on: What ``ln 4`` is added to: the ``'logits'`` of the pooled keys (the
            released configs ``…_1``), which makes a pooled key equal to four; or each
            component of the pooled ``'keys'`` (the configs ``…_2``), which has no
            such reason, but is what these weights were released with.

    Raises:
        ValueError: If the heads do not divide the channels as required, or
            ``bias_on`` is unknown.
    """

    def __init__(
        self,
        *,
        embed_dims: int,
        num_heads: int = 1,
        kv_dims: int | None = None,
        dropout: float = 0.0,
        bias_on: PoolingBias = 'logits',
    ) -> None:
        super().__init__(
            embed_dims=embed_dims,
            num_heads=num_heads,
            kv_dims=kv_dims,
            dropout=dropout,
        )
        if bias_on not in get_args(PoolingBias):
            msg = f'bias_on is {bias_on!r}; give one of {get_args(PoolingBias)}'
            raise ValueError(msg)
        self.bias_on = bias_on

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
        """Attend from the cells of a map to those of one or several memories.

        Arguments and result are those of :meth:`RotaryAttention.forward`.

        Raises:
            ValueError: If the numbers of tokens do not fit the map, a side of the map
                is odd, or the memories were pooled before.
        """
        num_cells = query.shape[1]
        height, width = feature_size or (math.isqrt(num_cells),) * 2
        if key_pooling != 1 or height % KEY_POOLING or width % KEY_POOLING:
            msg = (
                f'EfficientTAM pools the keys of a map 2 x 2, but got a map of '
                f'{height} x {width} cells whose memories are pooled by {key_pooling} '
                f'already; set tracker.memory_pooling=1, and an image size in '
                f'multiples of 32'
            )
            raise ValueError(msg)
        q, k = self._rotated(query, key, feature_size, num_unrotated, key_pooling)
        num_rotated = key.shape[1] - num_unrotated

        def attend_to_pooled(q: Tensor, k: Tensor, value: Tensor) -> Tensor:
            return self._attend_to_pooled(q, k, value, (height, width), num_unrotated)

        if torch.compiler.is_exporting():  # the number of memories is free there
            is_pooled = num_rotated > num_cells
            output: Tensor = torch.cond(
                is_pooled, attend_to_pooled, self._attend, (q, k, value)
            )
            return output
        if num_rotated > num_cells:
            return attend_to_pooled(q, k, value)
        return self._attend(q, k, value)

    def _attend_to_pooled(
        self,
        q: Tensor,
        k: Tensor,
        value: Tensor,
        size: tuple[int, int],
        num_unrotated: int,
    ) -> Tensor:
        """Attend to the pooled cells of several memories, and to the other tokens."""
        num_rotated = k.shape[2] - num_unrotated
        cells, others = k.split([num_rotated, num_unrotated], dim=2)
        cells = _pool_cells(cells, size)  # (O, heads, R * Nk / 4, C / heads)
        # Pooling and projection commute; the values are narrower before it.
        cell_values, other_values = value.split([num_rotated, num_unrotated], dim=1)
        values = torch.cat([_pool_cells(cell_values, size), other_values], dim=1)
        bias = 2 * math.log(KEY_POOLING)
        if self.bias_on == 'keys':
            cells = cells + bias
        else:
            q, cells, others = _with_bias(q, cells, others, bias)
        return self._attend(q, torch.cat([cells, others], dim=2), values)


def _with_bias(
    q: Tensor, biased: Tensor, others: Tensor, bias: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Append a channel to queries and keys that adds a bias to the logits of some keys.

    The fast kernels for attention take no bias, or keep all logits if they do.
    """
    channels = q.shape[-1]
    width = channels + BIAS_CHANNELS
    scale = math.sqrt(width / channels)  # kernels divide by the root of the width
    rest = BIAS_CHANNELS - 1
    return (
        functional.pad(functional.pad(scale * q, (0, 1), value=1.0), (0, rest)),
        functional.pad(
            functional.pad(biased, (0, 1), value=bias * math.sqrt(width)), (0, rest)
        ),
        functional.pad(others, (0, BIAS_CHANNELS)),
    )


def _pool_cells(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Average squares of cells of R maps: (..., R * N, C) -> (..., R * N / 4, C)."""
    height, width = size
    num_maps = tokens.shape[-2] // (height * width)
    rows, columns = height // KEY_POOLING, width // KEY_POOLING
    squares = tokens.unflatten(-2, (num_maps, rows, KEY_POOLING, columns, KEY_POOLING))
    pooled: Tensor = squares.mean(dim=(-4, -2))  # (..., R, rows, columns, C)
    return pooled.flatten(-4, -2)
