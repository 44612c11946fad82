"""Blocks of the Hiera backbone."""

from torch import Tensor, nn

from projects.sam2.models.backbones.window_attention import HieraAttention, pool
from projects.sam2.models.layers import MLP, DropPath, recomputed

__all__ = ['HieraBlock', 'HieraPatchEmbedding']

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
