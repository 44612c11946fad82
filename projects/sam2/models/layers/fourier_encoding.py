"""Position encoding by random Fourier features."""

import math

import torch
from torch import Tensor, nn

from projects.sam2.ops import at_least_float32, match_weights

__all__ = ['FourierPositionEncoding']


class FourierPositionEncoding(nn.Module):
    """Sines and cosines of fixed random projections of a position.

    The frequencies are drawn once and belong to the weights (Tancik et al., 2020).

    Args:
        embed_dims: Channels of an encoding; even.
    """

    gaussian_matrix: Tensor

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.register_buffer('gaussian_matrix', torch.randn(2, embed_dims // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode positions.

        Args:
            positions: (..., 2), ``(x, y)`` as a share of the frame's width and
                height, in [0, 1].

        Returns:
            (..., C).
        """
        x, y = (2 * positions - 1).unsqueeze(-1).unbind(-2)
        x_frequency, y_frequency = at_least_float32(self.gaussian_matrix)
        # Not a matrix product: autocast would round positions to bfloat16, which
        # tells no two pixels of a large frame apart.
        angles = 2 * math.pi * (x * x_frequency + y * y_frequency)
        encoded = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return match_weights(encoded, self.gaussian_matrix)

    def grid(self, size: tuple[int, int]) -> Tensor:
        """Encode the centres of the cells of a map.

        Args:
            size: Height and width of the map.

        Returns:
            (C, height, width).
        """
        height, width = size
        device = self.gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing='ij')
        encoded: Tensor = self(torch.stack([columns, rows], dim=-1))
        return encoded.permute(2, 0, 1)
