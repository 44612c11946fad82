"""Hiera backbone (Ryali et al., 2023) with windowed position embeddings."""

import math
import re
from collections.abc import Iterator, Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.backbones.hiera_blocks import HieraBlock, HieraPatchEmbedding
from projects.sam2.models.layers import recomputed
from projects.sam2.models.pretrained import PretrainedModule

__all__ = ['Hiera']

PATCH_STRIDE = 4
INIT_STD = 0.02


@MODELS.register_module()
class Hiera(PretrainedModule):
    """Hierarchical transformer that attends in windows, and globally in few blocks.

    Each stage but the first halves the map in its first block and doubles channels
    and heads.

    Args:
        embed_dims: Channels of the first stage.
        num_heads: Heads of the first stage.
        stages: Blocks of each stage.
        global_attention_blocks: Blocks, counted through all stages, that attend to
            the whole map.
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
        self.with_cp = False  # set to compute twice what is inside
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

        Args:
            parameter_name: Name within this module.

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
            maps = recomputed(block, maps) if self.with_cp else block(maps)
            if index in self.stage_ends:
                outputs.append(maps.permute(0, 3, 1, 2))  # (B, h, w, C) -> (B, C, h, w)
        return tuple(outputs)

    def _position(self, height: int, width: int) -> Tensor:
        """Embedding of the place in the map and in the window, (1, H4, W4, C)."""
        whole = functional.interpolate(
            self.position_embedding, size=(height, width), mode='bicubic'
        )
        window = self.window_position_embedding
        rows, columns = height // window.shape[2], width // window.shape[3]
        return (whole + window.tile(1, 1, rows, columns)).permute(0, 2, 3, 1)

    def _initialise(self) -> None:
        """Start for training from random weights."""
        nn.init.trunc_normal_(self.position_embedding, std=INIT_STD)
        nn.init.trunc_normal_(self.window_position_embedding, std=INIT_STD)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)


def _stages_around_blocks(stages: Sequence[int]) -> Iterator[tuple[int, int]]:
    """For each block, the stage whose map it reads and the stage it belongs to."""
    for stage, num_blocks in enumerate(stages):
        yield max(stage - 1, 0), stage
        yield from [(stage, stage)] * (num_blocks - 1)


def _check(
    stages: Sequence[int], window_sizes: Sequence[int], global_blocks: Sequence[int]
) -> None:
    """Raise where the arguments contradict each other."""
    if len(window_sizes) != len(stages) or min(stages, default=0) < 1:
        msg = (
            f'Expected blocks and a window size for each stage, but got stages '
            f'{tuple(stages)} and window_sizes {tuple(window_sizes)}'
        )
        raise ValueError(msg)
    outside = [block for block in global_blocks if not 0 <= block < sum(stages)]
    if outside:
        msg = (
            f'Expected global_attention_blocks below {sum(stages)}, the number of '
            f'blocks, but got {outside}'
        )
        raise ValueError(msg)
