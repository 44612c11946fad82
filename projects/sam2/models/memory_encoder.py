"""Memory encoder: features of a frame and its mask become a memory."""

from itertools import pairwise

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import (
    LayerNorm2d,
    PixelLinear,
    apply_after,
    chunks,
    objects_at_once,
    recomputed,
)

__all__ = ['MemoryEncoder']

LAYER_SCALE = 1e-6
MASK_CHANNELS = (1, 4, 16, 64, 256)  # four times as many at half the resolution
STRIDE = 16
EXPANSION = 4  # of the channels within a block


NUM_FUSER_LAYERS = 2


@MODELS.register_module()
class MemoryEncoder(nn.Module):
    """Adds the mask, brought to stride 16, to the features and fuses them.

    Args:
        embed_dims: Channels of the frame's features.
        memory_dims: Channels of a memory.
    """

    def __init__(
        self,
        *,
        embed_dims: int = 256,
        memory_dims: int = 64,
    ) -> None:
        super().__init__()
        self.with_cp = False  # set to compute twice what is inside
        self.mask_downsampler = MaskDownsampler(embed_dims=embed_dims)
        self.pixel_projection = PixelLinear(embed_dims, embed_dims)
        self.fuser = nn.Sequential(
            *(ConvNeXtBlock(embed_dims=embed_dims) for _ in range(NUM_FUSER_LAYERS))
        )
        self.output = nn.Conv2d(embed_dims, memory_dims, kernel_size=1)

    def forward(self, embedding: Tensor, mask: Tensor) -> Tensor:
        """Encode a frame and the masks of its objects.

        Args:
            embedding: Features of the frame, (O | 1, C, H16, W16).
            mask: Scaled probabilities of the objects, (O, 1, H, W).

        Returns:
            (O, Cm, H16, W16).

        Raises:
            ValueError: If the mask is not 16 times as large as the features.
        """
        if self.with_cp:
            return recomputed(self._encode, embedding, mask)
        return self._encode(embedding, mask)

    def _encode(self, embedding: Tensor, mask: Tensor) -> Tensor:
        """Bring the masks to the features, add and fuse."""
        features = self.pixel_projection(embedding)
        height, width = features.shape[-2:]
        if mask.shape[-2:] != (STRIDE * height, STRIDE * width):
            msg = (
                f'Expected a mask 16 times as large as the features of '
                f'{tuple(embedding.shape[-2:])}, but got {tuple(mask.shape[-2:])}; '
                f'resize the mask to the frame that the model sees'
            )
            raise ValueError(msg)
        features = features.expand(len(mask), -1, -1, -1)
        # Between the layers of a block's MLP is the largest.
        limit = objects_at_once(mask, EXPANSION * features[0].numel())
        memories = [
            self.output(self.fuser(own + self.mask_downsampler(part)))
            for own, part in zip(
                chunks(features, limit), chunks(mask, limit), strict=True
            )
        ]
        return memories[0] if len(memories) == 1 else torch.cat(memories)


class MaskDownsampler(nn.Module):
    """Four convolutions of stride 2, then a projection.

    Args:
        embed_dims: Channels of the result.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for coming, going in pairwise(MASK_CHANNELS):
            stages += [
                nn.Conv2d(coming, going, kernel_size=3, stride=2, padding=1),
                LayerNorm2d(going),
                nn.GELU(),
            ]
        projection = nn.Conv2d(MASK_CHANNELS[-1], embed_dims, kernel_size=1)
        self.layers = nn.Sequential(*stages, projection)

    def forward(self, mask: Tensor) -> Tensor:
        """Bring masks to stride 16.

        Args:
            mask: (O, 1, H, W).

        Returns:
            (O, C, H16, W16).
        """
        convolution, *others = self.layers
        features: Tensor = convolution(mask)
        while others:
            norm, activation, convolution, *others = others
            features = apply_after(
                nn.Sequential(norm, activation), convolution, features
            )
        return features


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and MLP beside a shortcut (Liu et al., 2022).

    Args:
        embed_dims: Channels.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            embed_dims, embed_dims, kernel_size=7, padding=3, groups=embed_dims
        )
        self.norm = LayerNorm2d(embed_dims)
        self.expand = nn.Linear(embed_dims, EXPANSION * embed_dims)
        self.activation = nn.GELU()
        self.reduce = nn.Linear(EXPANSION * embed_dims, embed_dims)
        self.scale = nn.Parameter(torch.full((embed_dims,), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block.

        Args:
            features: (O, C, H16, W16).

        Returns:
            (O, C, H16, W16).
        """
        hidden = apply_after(self._channels_last, self.expand, self.depthwise(features))
        branch = self.scale * apply_after(self.activation, self.reduce, hidden)
        return features + branch.permute(0, 3, 1, 2)

    def _channels_last(self, features: Tensor) -> Tensor:
        """Normed, (O, C, h, w) -> (O, h, w, C)."""
        normed: Tensor = self.norm(features)
        return normed.permute(0, 2, 3, 1)
