"""Sine position encodings of maps and of moments."""

import math

import torch
from torch import Tensor

from projects.sam2.models.layers.constant_cache import cached_constant

__all__ = ['sine_encoding_1d', 'sine_encoding_2d', 'wavelengths']

TEMPERATURE = 10000.0


def wavelengths(count: int, device: torch.device | None) -> Tensor:
    """Geometric series of wavelengths that all encodings share.

    Args:
        count: Number of wavelengths.
        device: Where they shall be.

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
        size: Height and width of the map.
        device: Where the encoding shall be.

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
