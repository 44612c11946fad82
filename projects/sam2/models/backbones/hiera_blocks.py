"""Blocks of the Hiera backbone."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.layers import MLP, DropPath, apply_after, recomputed

__all__ = [
    'HieraBlock',
    'HieraPatchEmbedding',
    'join_windows',
    'split_windows',
    'window_grid',
]

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
        self,
        maps: Tensor,
        *,
        norm: Callable[[Tensor], Tensor] | None = None,
        window_size: int = 0,
    ) -> Tensor:
        """Attend within each window.

        Args:
            maps: (B, h, w, in_dims).
            norm: Applied to the maps first; what it gives is not kept.
            window_size: Side of a window; 0 attends to the whole map.

        Returns:
            (B, h, w, out_dims), h and w halved where the queries are pooled.
        """
        query, key, value = self._project(maps, norm, window_size).chunk(3, dim=-1)
        if self.pools:
            query = pool(query)
        size = (query.shape[1], query.shape[2])
        gathered = functional.scaled_dot_product_attention(
            self._heads(query), self._heads(key), self._heads(value)
        )
        # (B, heads, h * w, C / heads) -> (B, h, w, C)
        joined = gathered.transpose(1, 2).flatten(2).unflatten(1, size)
        if not window_size:
            return apply_after(None, self.output, joined)
        height, width = maps.shape[1:3]
        join = partial(
            join_windows,
            # Pooled windows are half as large: the grid is that of both.
            grid=window_grid((height, width), window_size),
            out_size=(height // 2, width // 2) if self.pools else (height, width),
        )
        # Joined first, for the padding is not asked for.
        return apply_after(join, self.output, joined)

    def _project(
        self,
        maps: Tensor,
        norm: Callable[[Tensor], Tensor] | None,
        window_size: int,
    ) -> Tensor:
        """Queries, keys and values of each window, (windows, h, w, 3 * out_dims)."""
        if not window_size:
            return apply_after(norm, self.qkv, maps)
        height, width = maps.shape[1:3]
        if height % window_size == 0 and width % window_size == 0:
            split = partial(_split_normed, norm=norm, side=window_size)
            return apply_after(split, self.qkv, maps)
        # Padded cells are zero before the projection: what that makes of a zero is
        # put there, in place of a product of zeros.
        padded = _pad(apply_after(norm, self.qkv, maps), window_size)
        of_zero: Tensor = self.qkv(maps.new_zeros(maps.shape[-1]))
        outside = 1 - _pad(of_zero.new_ones(1, height, width, 1), window_size)
        padded += outside * of_zero
        return split_windows(padded, window_size)

    def _heads(self, windows: Tensor) -> Tensor:
        """Split channels: (B, h, w, C) -> (B, heads, h * w, C / heads), a view."""
        tokens: Tensor = windows.flatten(1, 2).unflatten(-1, (self.num_heads, -1))
        return tokens.transpose(1, 2)


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


def pool(maps: Tensor) -> Tensor:
    """Largest of each 2 x 2 cells: (B, h, w, C) -> (B, h / 2, w / 2, C)."""
    # The permuted map is in channels-last layout, which the pooling keeps.
    channels_first = maps.permute(0, 3, 1, 2)
    return functional.max_pool2d(channels_first, kernel_size=2).permute(0, 2, 3, 1)


def _split_normed(
    maps: Tensor, *, norm: Callable[[Tensor], Tensor] | None, side: int
) -> Tensor:
    """Windows of what the norm, if any, makes of maps."""
    return split_windows(maps if norm is None else norm(maps), side)


def window_grid(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Count the windows that cover a map.

    Args:
        size: Height and width of the map.
        side: Of a window.

    Returns:
        Rows and columns of windows.
    """
    return -(-size[0] // side), -(-size[1] // side)


def split_windows(maps: Tensor, side: int) -> Tensor:
    """Cut maps into square windows, padded with zeros to whole ones.

    Args:
        maps: (B, h, w, C).
        side: Of a window.

    Returns:
        (B * rows * columns, side, side, C).
    """
    # (B, h, w, C) -> (B, rows, columns, side, side, C)
    cut = (
        _pad(maps, side)
        .unflatten(2, (-1, side))
        .unflatten(1, (-1, side))
        .transpose(2, 3)
    )
    windows: Tensor = cut.flatten(0, 2)
    return windows


def _pad(maps: Tensor, side: int) -> Tensor:
    """Continue maps (B, h, w, C) with zeros to whole windows."""
    height, width = maps.shape[1:3]
    below, beside = -height % side, -width % side
    if not (below or beside):
        return maps
    return functional.pad(maps, (0, 0, 0, beside, 0, below))


def join_windows(
    windows: Tensor, grid: tuple[int, int], out_size: tuple[int, int]
) -> Tensor:
    """Put windows together and cut the padding off.

    Args:
        windows: (B * rows * columns, size, size, C).
        grid: Rows and columns of windows.
        out_size: Height and width of the maps without padding.

    Returns:
        (B, *out_size, C).
    """
    height, width = out_size
    # (B * rows * columns, ...) -> (B, rows * size, columns * size, C)
    tiled: Tensor = windows.unflatten(0, (-1, *grid)).transpose(2, 3)
    return tiled.flatten(3, 4).flatten(1, 2)[:, :height, :width]
