"""Hiera: the hierarchical vision transformer of the image encoder (Ryali et al., 2023).

``Hiera`` is a patch embedding and a stack of ``HieraBlock``, each of which attends
within windows or to the whole map (``HieraAttention``) before an MLP.
"""

import math
import re
from collections.abc import Iterator, Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from .layers import MLP, DropPath, Linear, attend_in_windows, checkpoint, pool
from .pretrained import PretrainedModule

PATCH_STRIDE = 4
INIT_STD = 0.02
NORM_EPS = 1e-6
MLP_RATIO = 4


@MODELS.register_module()
class Hiera(PretrainedModule):
    """Hierarchical transformer that attends within windows, and globally in few blocks.

    Each stage but the first halves the map in its first block and doubles channels
    and heads.

    Args:
        embed_dims: Channels of the first stage.
        num_heads: Heads of the first stage.
        stages: Number of blocks of each stage.
        global_attention_blocks: Indices of the blocks, counted through all stages,
            that attend to the whole map.
        window_sizes: Side of the windows of each stage, in tokens. The first block
            of a stage still uses the window of the stage before.
        position_embedding_size: Height and width of the learned position embedding,
            which is resized to the map.
        drop_path_rate: Stochastic depth of the last block; it grows linearly.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    checkpoint_part = 'image_encoder.backbone.'

    def __init__(
        self,
        *,
        embed_dims: int = 96,
        num_heads: int = 1,
        stages: Sequence[int] = (2, 3, 16, 3),
        global_attention_blocks: Sequence[int] = (12, 16, 20),
        window_sizes: Sequence[int] = (8, 4, 14, 7),
        position_embedding_size: tuple[int, int] = (7, 7),
        drop_path_rate: float = 0.0,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.with_cp = False  # recompute each block in the backward pass
        _check(stages, window_sizes, global_attention_blocks)
        self.stage_ends = [sum(stages[: stage + 1]) - 1 for stage in range(len(stages))]
        self.image_multiple = math.lcm(
            PATCH_STRIDE * 2 ** (len(stages) - 1), PATCH_STRIDE * window_sizes[0]
        )
        self.patch_embedding = HieraPatchEmbedding(embed_dims=embed_dims)
        self.position_embedding = nn.Parameter(
            torch.zeros(1, embed_dims, *position_embedding_size)
        )
        self.window_position_embedding = nn.Parameter(
            torch.zeros(1, embed_dims, window_sizes[0], window_sizes[0])
        )
        drop_path_step = drop_path_rate / max(sum(stages) - 1, 1)
        self.blocks = nn.ModuleList(
            HieraBlock(
                in_dims=embed_dims * 2**before,
                out_dims=embed_dims * 2**stage,
                num_heads=num_heads * 2**stage,
                window_size=(
                    0 if index in global_attention_blocks else window_sizes[before]
                ),
                drop_path_rate=drop_path_step * index,
            )
            for index, (before, stage) in enumerate(_stages_around_blocks(stages))
        )
        self._initialise()

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter, for learning rates that decay with depth.

        The published recipe scales a learning rate by
        ``decay ** (num_layers + 1 - layer)``.

        Returns:
            0 for the patch embedding, ``i + 1`` for block ``i``, and
            ``num_layers + 1`` for the position embeddings, which keep the full rate.
        """
        block = re.match(r'blocks\.(\d+)\.', parameter_name)
        if block:
            return int(block.group(1)) + 1
        in_patch_embedding = parameter_name.startswith('patch_embedding.')
        return 0 if in_patch_embedding else self.num_layers + 1

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of all stages.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            The last map of each stage, finest first: (B, C, H4, W4),
            (B, 2C, H8, W8), (B, 4C, H16, W16), (B, 8C, H32, W32).

        Raises:
            ValueError: If the images do not divide into whole cells and windows.
        """
        height, width = images.shape[-2:]
        if height % self.image_multiple or width % self.image_multiple:
            msg = (
                f'Expected images in a multiple of {self.image_multiple} pixels, but '
                f'got {height} x {width}; resize or pad them'
            )
            raise ValueError(msg)
        maps = self.patch_embedding(images)
        maps = maps + self._position(maps.shape[1], maps.shape[2])
        outputs = []
        for index, block in enumerate(self.blocks):
            maps = checkpoint(block, maps, enabled=self.with_cp)
            if index in self.stage_ends:
                outputs.append(maps.permute(0, 3, 1, 2))  # (B, h, w, C) -> (B, C, h, w)
        return tuple(outputs)

    def _position(self, height: int, width: int) -> Tensor:
        """Position embedding of the map and of its windows, (1, H4, W4, C)."""
        whole = functional.interpolate(
            self.position_embedding, size=(height, width), mode='bicubic'
        )
        window = self.window_position_embedding
        rows, columns = height // window.shape[2], width // window.shape[3]
        position = whole + window.tile(1, 1, rows, columns)  # (1, C, H4, W4)
        return position.permute(0, 2, 3, 1)

    def _initialise(self) -> None:
        """Initialise for training from random weights."""
        nn.init.trunc_normal_(self.position_embedding, std=INIT_STD)
        nn.init.trunc_normal_(self.window_position_embedding, std=INIT_STD)
        initialise_blocks(self.blocks)


class HieraBlock(nn.Module):
    """Attention and MLP, each after a norm and beside a shortcut.

    A block that changes the number of channels also halves the map.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the output.
        num_heads: Number of heads.
        window_size: Side of a window in tokens of the input; 0 attends to the
            whole map.
        drop_path_rate: Probability that a sample loses a branch in training.

    Raises:
        ValueError: If a window that is halved has an odd side.
    """

    def __init__(
        self,
        *,
        in_dims: int,
        out_dims: int,
        num_heads: int,
        window_size: int,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        pools = in_dims != out_dims
        if pools and window_size % 2:
            msg = (
                f'Expected an even window size before a pooled stage, but got '
                f'{window_size}; only the last of window_sizes may be odd'
            )
            raise ValueError(msg)
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(in_dims, eps=NORM_EPS)
        self.attention = HieraAttention(
            in_dims=in_dims, out_dims=out_dims, num_heads=num_heads, pools=pools
        )
        self.norm2 = nn.LayerNorm(out_dims, eps=NORM_EPS)
        self.mlp = MLP(
            in_dims=out_dims,
            hidden_dims=MLP_RATIO * out_dims,
            out_dims=out_dims,
            num_layers=2,
            activation='gelu',
        )
        self.shortcut = Linear(in_dims, out_dims) if pools else None
        self.drop_path = DropPath(rate=drop_path_rate)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, h, w, in_dims) -> (B, h, w, out_dims), halved if the channels change."""
        normed = self.norm1(maps)
        attended = self.attention(normed, window_size=self.window_size)
        if self.shortcut is not None:
            maps = checkpoint(_project_and_pool, normed, self.shortcut)
        maps = maps + self.drop_path(attended)
        output: Tensor = maps + self.drop_path(self.mlp(self.norm2(maps)))
        return output


def _project_and_pool(maps: Tensor, projection: nn.Linear) -> Tensor:
    return pool(projection(maps))


class HieraAttention(nn.Module):
    """Multi-head attention within the windows of a map.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the output.
        num_heads: Number of heads; must divide ``out_dims``.
        pools: Pool the queries, and with them the map, 2 x 2.

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
        self.qkv = Linear(in_dims, 3 * out_dims)
        self.output = Linear(out_dims, out_dims)

    def forward(self, maps: Tensor, *, window_size: int = 0) -> Tensor:
        """Attend within each window.

        Windows at the edges are padded with zeros, which the queries attend to as well.

        Args:
            maps: (B, h, w, in_dims).
            window_size: Side of a window; 0 attends to the whole map.

        Returns:
            (B, h, w, out_dims), h and w halved where the queries are pooled.
        """
        height, width, channels = maps.shape[1:]
        attended = attend_in_windows(
            self.qkv(maps),
            padding=self.qkv(maps.new_zeros(channels)),
            window=(window_size or height, window_size or width),
            num_heads=self.num_heads,
            pools=self.pools,
        )
        output: Tensor = self.output(attended)
        return output


class HieraPatchEmbedding(nn.Module):
    """Overlapping patches of an image as tokens at stride 4.

    Args:
        embed_dims: C.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, kernel_size=7, stride=4, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H4, W4, C)."""
        embedded: Tensor = self.projection(images)
        # (B, C, H4, W4) -> (B, H4, W4, C), contiguous for the layers that follow.
        return embedded.permute(0, 2, 3, 1).contiguous()


def _stages_around_blocks(stages: Sequence[int]) -> Iterator[tuple[int, int]]:
    """For each block, the stage of its input and the stage of its output."""
    for stage, num_blocks in enumerate(stages):
        yield max(stage - 1, 0), stage
        yield from [(stage, stage)] * (num_blocks - 1)


def _check(
    stages: Sequence[int], window_sizes: Sequence[int], global_blocks: Sequence[int]
) -> None:
    if len(window_sizes) != len(stages) or min(stages, default=0) < 1:
        msg = (
            f'Expected blocks and a window size for each stage, but got stages '
            f'{tuple(stages)} and window_sizes {tuple(window_sizes)}'
        )
        raise ValueError(msg)
    check_global_blocks(global_blocks, sum(stages))


def check_global_blocks(global_blocks: Sequence[int], num_blocks: int) -> None:
    """Check the indices of blocks that attend to the whole map.

    Raises:
        ValueError: If there is no such block.
    """
    outside = [block for block in global_blocks if not 0 <= block < num_blocks]
    if outside:
        msg = (
            f'Expected global_attention_blocks below {num_blocks}, the number of '
            f'blocks, but got {outside}'
        )
        raise ValueError(msg)


def initialise_blocks(blocks: nn.Module) -> None:
    """Initialise transformer blocks for training from random weights."""
    for module in blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
