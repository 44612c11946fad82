"""Windows of maps."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from .layers import (
    MLP,
    DropPath,
    apply_after,
    is_plain_cpu,
    recomputed,
)
from .pretrained import PretrainedModule


def window_grid(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Count the square windows that cover a map."""
    return -(-size[0] // side), -(-size[1] // side)


def bands(length: int, side: int) -> list[tuple[slice, int]]:
    """Part an axis of a map into whole windows and the rest, if any."""
    rest = length % side
    whole = length - rest
    parts = [(slice(0, whole), side), (slice(whole, length), rest)]
    return [(place, side) for place, side in parts if place.start < place.stop]


def pad_to_windows(maps: Tensor, side: int) -> Tensor:
    """Continue maps with zeros to whole windows.

    Args:
        maps: (B, h, w, C).

    Returns:
        (B, rows * side, columns * side, C).
    """
    height, width = maps.shape[1:3]
    below, beside = -height % side, -width % side
    if not (below or beside):
        return maps
    return functional.pad(maps, (0, 0, 0, beside, 0, below))


def split_windows(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut maps into windows.

    Args:
        maps: (B, h, w, C), in whole windows.

    Returns:
        (B * rows * columns, *size, C).
    """
    height, width = size
    # (B, h, w, C) -> (B, rows, columns, height, width, C)
    cut = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height)).transpose(2, 3)
    windows: Tensor = cut.flatten(0, 2)
    return windows


def join_windows(
    windows: Tensor, grid: tuple[int, int], out_size: tuple[int, int]
) -> Tensor:
    """Put windows together and cut the padding off.

    Args:
        windows: (B * rows * columns, height, width, C).

    Returns:
        (B, *out_size, C).
    """
    height, width = out_size
    # (B * rows * columns, ...) -> (B, rows * height, columns * width, C)
    tiled: Tensor = windows.unflatten(0, (-1, *grid)).transpose(2, 3)
    return tiled.flatten(3, 4).flatten(1, 2)[:, :height, :width]


Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Padding:
    """Cells that a window lacks, which are all alike.

    Attributes:
        projected: Query, key and value of one of them, (3 * C,).
        count: How many there are.
    """

    projected: Tensor
    count: int


class HieraAttention(nn.Module):
    """Attention within a window, whose queries may be pooled.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the result.
        num_heads: Heads; must divide ``out_dims``.
        pools: Whether the queries are pooled 2 x 2.

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
        self.qkv = nn.Linear(in_dims, 3 * out_dims)
        self.output = nn.Linear(out_dims, out_dims)

    def forward(
        self, maps: Tensor, *, norm: Norm | None = None, window_size: int = 0
    ) -> Tensor:
        """Attend within each window.

        A map that is not a multiple of the windows is continued with zeros.

        Args:
            maps: (B, h, w, in_dims).
            window_size: Side of a window; 0 attends to the whole map.

        Returns:
            (B, h, w, out_dims), h and w halved where the queries are pooled.
        """
        if not window_size:
            projected = apply_after(norm, self.qkv, maps)
            return apply_after(None, self.output, self._attend(projected))
        size = (maps.shape[1], maps.shape[2])
        if size[0] % window_size == 0 and size[1] % window_size == 0:
            attended = self._attend_in_windows(maps, norm, (window_size, window_size))
            return apply_after(None, self.output, attended)
        of_zero: Tensor = self.qkv(maps.new_zeros(maps.shape[-1]))
        # A cell that has no neighbour is pooled with padded ones.
        is_whole = not self.pools or not (size[0] % 2 or size[1] % 2)
        if is_plain_cpu(of_zero) and is_whole:
            attended = self._attend_without_padding(maps, norm, window_size, of_zero)
            return apply_after(None, self.output, attended)
        attended = self._attend(self._padded_windows(maps, norm, window_size, of_zero))
        join = partial(
            join_windows,
            # Pooled windows are half as large: the grid is that of both.
            grid=window_grid(size, window_size),
            out_size=(size[0] // 2, size[1] // 2) if self.pools else size,
        )
        # Joined first, for the padding is not asked for.
        return apply_after(join, self.output, attended)

    def _padded_windows(
        self, maps: Tensor, norm: Norm | None, side: int, of_zero: Tensor
    ) -> Tensor:
        """Queries, keys and values of padded windows, (windows, h, w, 3 * out_dims)."""
        # Padded cells are zero before the projection: what that makes of a zero is
        # put there, in place of a product of zeros.
        padded = pad_to_windows(apply_after(norm, self.qkv, maps), side)
        outside = 1 - pad_to_windows(of_zero.new_ones(1, *maps.shape[1:3], 1), side)
        padded += outside * of_zero
        return split_windows(padded, (side, side))

    def _attend_without_padding(
        self, maps: Tensor, norm: Norm | None, side: int, of_zero: Tensor
    ) -> Tensor:
        """Attention in windows of which those at the edges are smaller, (B, h, w, C).

        Padded cells all have the same key, so one that counts as often as there are
        cells stands for them, and they ask for nothing.
        """
        rows = []
        for across, height in bands(maps.shape[1], side):
            parts = []
            for along, width in bands(maps.shape[2], side):
                missing = side * side - height * width
                padding = _Padding(projected=of_zero, count=missing)
                parts.append(
                    self._attend_in_windows(
                        maps[:, across, along],
                        norm,
                        (height, width),
                        padding if missing else None,
                    )
                )
            rows.append(torch.cat(parts, dim=2))
        return torch.cat(rows, dim=1)

    def _attend_in_windows(
        self,
        maps: Tensor,
        norm: Norm | None,
        size: tuple[int, int],
        padding: _Padding | None = None,
    ) -> Tensor:
        """Attention in the windows of a map that has no others, (B, h, w, C)."""
        split = partial(_split_normed, norm=norm, size=size)
        attended = self._attend(apply_after(split, self.qkv, maps), padding)
        grid = maps.shape[1] // size[0], maps.shape[2] // size[1]
        out_size = grid[0] * attended.shape[1], grid[1] * attended.shape[2]
        return join_windows(attended, grid, out_size)

    def _attend(self, windows: Tensor, padding: _Padding | None = None) -> Tensor:
        """Attend within each window, and to its padding.

        Returns:
            (B, h, w, C), h and w halved where the queries are pooled.
        """
        tokens, bias = windows.flatten(1, 2), None
        num_cells = tokens.shape[1]
        if padding is not None:
            of_all = padding.projected.expand(len(tokens), 1, -1)
            tokens = torch.cat([tokens, of_all], dim=1)
            bias = tokens.new_zeros(num_cells + 1)
            bias[-1] = math.log(padding.count)
        query, key, value = tokens.chunk(3, dim=-1)
        query = query[:, :num_cells].unflatten(1, windows.shape[1:3])
        if self.pools:
            query = recomputed(pool, query)  # not its 64-bit indices are kept
        size = query.shape[1:3]
        query = self._heads(query.flatten(1, 2))
        gathered = functional.scaled_dot_product_attention(
            query,
            self._heads(key),
            self._heads(value),
            attn_mask=None if bias is None else bias.expand(query.shape[2], -1),
        )
        # (B, heads, h * w, C / heads) -> (B, h, w, C)
        joined: Tensor = gathered.transpose(1, 2).flatten(2).unflatten(1, size)
        return joined

    def _heads(self, tokens: Tensor) -> Tensor:
        """Split channels: (B, N, C) -> (B, heads, N, C / heads), a view."""
        split: Tensor = tokens.unflatten(-1, (self.num_heads, -1))
        return split.transpose(1, 2)


def pool(maps: Tensor) -> Tensor:
    """Largest of each 2 x 2 cells: (B, h, w, C) -> (B, h / 2, w / 2, C)."""
    # The permuted map is in channels-last layout, which the pooling keeps.
    channels_first = maps.permute(0, 3, 1, 2)
    return functional.max_pool2d(channels_first, kernel_size=2).permute(0, 2, 3, 1)


def _split_normed(maps: Tensor, *, norm: Norm | None, size: tuple[int, int]) -> Tensor:
    """Windows of what the norm, if any, makes of maps."""
    return split_windows(maps if norm is None else norm(maps), size)


NORM_EPS = 1e-6
MLP_RATIO = 4


class HieraPatchEmbedding(nn.Module):
    """Overlapping patches of an image as tokens at stride 4.

    Args:
        embed_dims: Channels of a token.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, kernel_size=7, stride=4, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        """Cut and embed.

        Args:
            images: (B, 3, H, W).

        Returns:
            (B, H4, W4, C).
        """
        embedded: Tensor = self.projection(images)
        # (B, C, H4, W4) -> (B, H4, W4, C), in memory as well: all that follows works
        # on channels.
        return embedded.permute(0, 2, 3, 1).contiguous()


class HieraBlock(nn.Module):
    """Window attention and MLP, each after a norm and beside a shortcut.

    A block that changes the number of channels also halves the map.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the result.
        num_heads: Heads.
        window_size: Side of a window in tokens of the input; 0 attends to the
            whole map.
        drop_path_rate: Share of samples that lose a branch in training.

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
        self.shortcut = nn.Linear(in_dims, out_dims) if pools else None
        self.drop_path = DropPath(rate=drop_path_rate)

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the block.

        Args:
            maps: (B, h, w, in_dims).

        Returns:
            (B, h, w, out_dims), h and w halved where the channels change.
        """
        kept = maps
        if self.shortcut is not None:
            kept = recomputed(self._pooled, self.shortcut, maps)
        attended = self.attention(maps, norm=self.norm1, window_size=self.window_size)
        maps = kept + self.drop_path(attended)
        mixed: Tensor = maps + self.drop_path(self.mlp(maps, norm=self.norm2))
        return mixed

    def _pooled(self, shortcut: nn.Linear, maps: Tensor) -> Tensor:
        """The shortcut of a block that halves the map."""
        return pool(shortcut(self.norm1(maps)))


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
