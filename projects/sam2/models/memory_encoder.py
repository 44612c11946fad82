"""Memory encoder and object pointers (Ravi et al., 2024, section 4).

``MemoryEncoder`` turns the features of a frame and its mask into a spatial memory,
``SAM2ObjectPointer`` turns the decoder's mask token into an object pointer.
"""

from itertools import pairwise
from typing import Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import (
    MLP,
    LayerNorm2d,
    Linear,
    PixelLinear,
    checkpoint,
    map_in_chunks,
    sine_encoding_1d,
)
from .memory_bank import MemorySelection

TimeEncoding = Literal['none', 'signed', 'unsigned']
TIME_ENCODINGS: tuple[str, ...] = get_args(TimeEncoding)
MASK_CHANNELS = (1, 4, 16, 64, 256)  # four times as many at half the resolution
MASK_STRIDE = 2 ** (len(MASK_CHANNELS) - 1)  # 16, for each cell of the memory
NUM_FUSER_LAYERS = 2
EXPANSION = 4  # of the channels within a block
LAYER_SCALE = 1e-6


@MODELS.register_module()
class MemoryEncoder(nn.Module):
    """Adds the mask, downsampled to stride 16, to the features and fuses them.

    Args:
        embed_dims: C, channels of the frame's features.
        memory_dims: Cm, channels of a memory.
    """

    def __init__(self, *, embed_dims: int = 256, memory_dims: int = 64) -> None:
        super().__init__()
        self.with_cp = False  # recompute the whole encoder in the backward pass
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
        height, width = embedding.shape[-2:]
        if mask.shape[-2:] != (MASK_STRIDE * height, MASK_STRIDE * width):
            msg = (
                f'Expected a mask {MASK_STRIDE} times as large as the features of '
                f'{(height, width)}, but got {tuple(mask.shape[-2:])}; '
                f'resize the mask to the frame that the model sees'
            )
            raise ValueError(msg)
        return checkpoint(self._encode, embedding, mask, enabled=self.with_cp)

    def _encode(self, embedding: Tensor, mask: Tensor) -> Tensor:
        features = self.pixel_projection(embedding).expand(mask.shape[0], -1, -1, -1)
        return map_in_chunks(
            lambda features, mask: self.output(
                self.fuser(features + self.mask_downsampler(mask))
            ),
            features,
            mask,
            object_size=EXPANSION * features[0].numel(),  # hidden units of a block
        )


class MaskDownsampler(nn.Module):
    """Four convolutions of stride 2, then a projection.

    Args:
        embed_dims: C, channels of the output.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for in_channels, out_channels in pairwise(MASK_CHANNELS):
            stages += [
                nn.Conv2d(
                    in_channels, out_channels, kernel_size=3, stride=2, padding=1
                ),
                LayerNorm2d(out_channels),
                nn.GELU(),
            ]
        projection = nn.Conv2d(MASK_CHANNELS[-1], embed_dims, kernel_size=1)
        self.layers = nn.Sequential(*stages, projection)

    def forward(self, mask: Tensor) -> Tensor:
        """(O, 1, H, W) -> (O, C, H16, W16)."""
        features: Tensor = self.layers(mask)
        return features


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and MLP beside a shortcut (Liu et al., 2022).

    Args:
        embed_dims: C.
    """

    def __init__(self, *, embed_dims: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            embed_dims, embed_dims, kernel_size=7, padding=3, groups=embed_dims
        )
        self.norm = LayerNorm2d(embed_dims)
        self.expand = Linear(embed_dims, EXPANSION * embed_dims)
        self.activation = nn.GELU()
        self.reduce = Linear(EXPANSION * embed_dims, embed_dims)
        self.scale = nn.Parameter(torch.full((embed_dims,), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """(O, C, H16, W16) -> (O, C, H16, W16)."""
        pixels = self.norm(self.depthwise(features)).permute(0, 2, 3, 1)  # (O, h, w, C)
        branch: Tensor = self.reduce(self.activation(self.expand(pixels)))
        branch = self.scale * branch
        return features + branch.permute(0, 3, 1, 2)


@MODELS.register_module()
class SAM2ObjectPointer(nn.Module):
    """Turns mask tokens into object pointers, and pointers into memory tokens.

    Args:
        embed_dims: C, channels of the decoder's tokens.
        memory_dims: Cm, channels of a memory; divides C.
        time_encoding: How a pointer's distance in time is encoded: ``'none'`` (SAM 2),
            ``'signed'`` (SAM 2.1) or ``'unsigned'``.

    Raises:
        ValueError: If ``memory_dims`` does not divide ``embed_dims``, or the time
            encoding is unknown.
    """

    def __init__(
        self,
        *,
        embed_dims: int = 256,
        memory_dims: int = 64,
        time_encoding: TimeEncoding = 'signed',
    ) -> None:
        super().__init__()
        if embed_dims % memory_dims:
            msg = f'memory_dims {memory_dims} must divide embed_dims {embed_dims}'
            raise ValueError(msg)
        if time_encoding not in TIME_ENCODINGS:
            msg = f'time_encoding is {time_encoding!r}; give one of {TIME_ENCODINGS}'
            raise ValueError(msg)
        self.embed_dims = embed_dims
        self.memory_dims = memory_dims
        self.time_encoding = time_encoding
        self.projection = MLP(
            in_dims=embed_dims,
            hidden_dims=embed_dims,
            out_dims=embed_dims,
            num_layers=3,
        )
        self.no_object_pointer = nn.Parameter(torch.zeros(1, embed_dims))
        nn.init.trunc_normal_(self.no_object_pointer, std=0.02)
        self.time_projection = (
            None if time_encoding == 'none' else nn.Linear(embed_dims, memory_dims)
        )

    def forward(self, mask_token: Tensor, present: Tensor) -> Tensor:
        """Turn the decoder's mask tokens into object pointers.

        Args:
            mask_token: (O, C).
            present: Whether the object is in the frame, (O, 1), bool.

        Returns:
            (O, C); absent objects get the learned no-object pointer.
        """
        return self.blend(self.projection(mask_token), present)

    def blend(self, pointer: Tensor, present: Tensor) -> Tensor:
        """Replace the pointers of absent objects by the no-object pointer.

        Args:
            pointer: (O, C).
            present: (O, 1), bool.

        Returns:
            (O, C).
        """
        weight = present.to(pointer.dtype)
        return weight * pointer + (1 - weight) * self.no_object_pointer

    def tokens(self, selection: MemorySelection) -> tuple[Tensor, Tensor]:
        """Convert pointers to memory tokens; each pointer is split into C / Cm tokens.

        Returns:
            Tokens (O, N, Cm) and their position encoding, (1, N, Cm) where the
            pointers of all objects are equally old, else (O, N, Cm).
        """
        return self.tokens_at(*selection.stacked_pointers())

    def tokens_at(self, pointers: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Convert K pointers of each object to K * C / Cm memory tokens.

        Args:
            pointers: (O, K, C).
            times: Frames back along the pass, negative for later frames, over the
                largest distance, (1 | O, K).

        Returns:
            Tokens (O, N, Cm) and their position encoding, (1 | O, N, Cm).
        """
        num_objects, num_pointers, _ = pointers.shape
        num_parts = self.embed_dims // self.memory_dims
        # (O, K, C) -> (O, K * C / Cm, Cm)
        tokens = pointers.reshape(
            num_objects, num_pointers * num_parts, self.memory_dims
        )
        if self.time_projection is None:
            return tokens, tokens.new_zeros(1, tokens.shape[1], self.memory_dims)
        if self.time_encoding == 'unsigned':
            times = times.abs()
        encoding = sine_encoding_1d(times.flatten(), self.embed_dims)
        position = self.time_projection(encoding.to(tokens.dtype))
        position = position.unflatten(0, times.shape)  # (1 | O, K, Cm)
        return tokens, position.repeat_interleave(num_parts, dim=1)
