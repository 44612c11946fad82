"""Keeps constant tensors from one call to the next."""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from ...ops import at_least_float32, match_weights

P = ParamSpec('P')
R = TypeVar('R')

CACHE_SIZE = 16  # sizes and devices in use at a time; the oldest one makes room


def cached_constant(build: Callable[P, R]) -> Callable[P, R]:
    """Remember what a function of hashable arguments builds.

    Kept outside the modules, the tensors are in no state dict, no copy of a module
    and no broadcast between ranks. Callers must not write into them.
    """
    remembered = cast('Callable[P, R]', lru_cache(maxsize=CACHE_SIZE)(build))

    @wraps(build)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            # A traced tensor must not outlive its trace.
            return build(*args, **kwargs)
        # A tensor made in inference mode could never be part of a later graph.
        with torch.inference_mode(mode=False), torch.no_grad():
            return remembered(*args, **kwargs)

    return look_up


TEMPERATURE = 10000.0


def wavelengths(count: int, device: torch.device | None) -> Tensor:
    """Geometric series of wavelengths that all encodings share.

    Returns:
        (count,), from 1 up to just below the temperature; in units of 2 pi.
    """
    exponents = torch.arange(count, dtype=torch.float32, device=device) / count
    return TEMPERATURE**exponents


def sine_encoding_1d(positions: Tensor, channels: int) -> Tensor:
    """Encode numbers: all sines first, then all cosines.

    Args:
        positions: (N,), of any unit.
        channels: Channels of an encoding; a multiple of 4.

    Returns:
        (N, channels).

    Raises:
        ValueError: If the number of channels is not a multiple of 4.
    """
    _check_channels(channels)
    # The released weights hold each wavelength twice in either half.
    series = wavelengths(channels // 4, positions.device).repeat_interleave(2)
    angles = positions[..., None] / series
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sine_encoding_2d(
    *, channels: int, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Encode the cells of a map, in shares of its height and width.

    The first half of the channels encodes the row, the second half the column;
    sines and cosines alternate (as in DETR, appendix A.4). The result is shared
    between callers and must not be written into.

    Args:
        channels: Channels of an encoding; a multiple of 4.

    Returns:
        (1, channels, height, width), float32.

    Raises:
        ValueError: If the number of channels is not a multiple of 4.
    """
    _check_channels(channels)
    height, width = size
    return _normalised_grid(channels, int(height), int(width), torch.device(device))


@cached_constant
def _normalised_grid(
    channels: int, height: int, width: int, device: torch.device
) -> Tensor:
    """Encoding of a map whose sides have the length 2 pi: (1, C, H, W)."""
    rows, columns = (
        torch.arange(1, length + 1, dtype=torch.float32, device=device)
        * (2 * math.pi / (length + 1e-6))
        for length in (height, width)
    )
    return encode_grid(rows, columns, channels)


def encode_grid(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """Encode the cells of a map by the angles of its rows and columns.

    Args:
        rows: (H,).
        columns: (W,).
        channels: Channels of an encoding; a multiple of 4.

    Returns:
        (1, channels, H, W).
    """
    height, width = len(rows), len(columns)
    series = wavelengths(channels // 4, rows.device)
    by_row, by_column = (
        # (L,) -> (L, C / 4, 2) -> (C / 2, L)
        torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).T
        for angles in (rows[:, None] / series, columns[:, None] / series)
    )
    return torch.cat(
        [
            by_row[:, :, None].expand(-1, -1, width),
            by_column[:, None, :].expand(-1, height, -1),
        ]
    )[None]


def _check_channels(channels: int) -> None:
    """Sine and cosine of row and column need four channels each."""
    if channels % 4:
        msg = f'Expected channels in a multiple of 4, but got {channels}'
        raise ValueError(msg)


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
