"""Linear layers, on tokens and on the pixels of a map."""

import torch
from torch import Tensor, nn

from . import cpu


class Linear(nn.Linear):
    """A linear layer, by the kernel that suits the device.

    Attributes:
        in_bfloat16: Without gradients, multiply in bfloat16 where the CPU gains from
            it; the output is then bfloat16, as under autocast.
    """

    in_bfloat16 = False

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return _multiply(self, tokens)


class PixelLinear(nn.Conv2d):
    """A 1 x 1 convolution, computed as a product of matrices.

    For maps in channels-last layout, as the backbone's are: there a convolution on a
    CPU takes three times as long.

    Args:
        in_channels: Channels of the maps.
        out_channels: Channels of the results.
        bias: Add a learned bias.

    Attributes:
        in_bfloat16: As in :class:`Linear`.
    """

    in_bfloat16 = False

    def __init__(
        self, in_channels: int, out_channels: int, *, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, Cout, H, W), in channels-last layout."""
        pixels = maps.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        projected = _multiply(self, pixels)
        return projected.permute(0, 3, 1, 2)


def _multiply(layer: Linear | PixelLinear, rows: Tensor) -> Tensor:
    """(..., C) -> (..., Cout)."""
    weight, bias = layer.weight, layer.bias
    if layer.in_bfloat16 and cpu.prefers_bfloat16(rows):
        weight = cpu.cast_weight(weight)
        bias = None if bias is None else bias.to(torch.bfloat16)
        rows = rows.to(torch.bfloat16)
    return cpu.multiply(rows, weight.flatten(1), bias)
