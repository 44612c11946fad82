"""A linear layer on each pixel of a map."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ['PixelLinear']


class PixelLinear(nn.Conv2d):
    """A convolution of 1 x 1, computed as one product of matrices.

    For maps that lie in memory with their channels last, as those of the backbone do:
    a convolution would bring them to another layout and back, and on a CPU takes three
    times as long.

    Args:
        in_channels: Channels of the maps.
        out_channels: Channels of the results.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            maps: (B, C, H, W).

        Returns:
            (B, Cout, H, W), with the channels last in memory.
        """
        pixels = maps.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        projected = functional.linear(pixels, self.weight.flatten(1), self.bias)
        return projected.permute(0, 3, 1, 2)
