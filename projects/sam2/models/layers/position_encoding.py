"""Position encodings: sines, random Fourier features, rotations (RoPE)."""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...ops import at_least_float32, match_weights

P = ParamSpec('P')
R = TypeVar('R')

CACHE_SIZE = 16  # sizes and devices in use at a time


def cached_constant(build: Callable[P, R]) -> Callable[P, R]:
    """Cache the tensors that a function builds from hashable arguments.

    Unlike buffers of a module, they are not in state dicts, in copies of the module or
    in broadcasts between ranks. Callers must not write into them.
    """
    cached = cast('Callable[P, R]', lru_cache(maxsize=CACHE_SIZE)(build))

    @wraps(build)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return build(*args, **kwargs)  # a traced tensor must not outlive its trace
        # A tensor created in inference mode could never join a graph.
        with torch.inference_mode(mode=False), torch.no_grad():
            return cached(*args, **kwargs)

    return call


TEMPERATURE = 10000.0


def wavelengths(count: int, device: torch.device | None) -> Tensor:
    """Geometric series, (count,), from 1 to just below the temperature, times 2 pi."""
    exponents = torch.arange(count, dtype=torch.float32, device=device) / count
    return TEMPERATURE**exponents


def sine_encoding_1d(positions: Tensor, channels: int) -> Tensor:
    """Encode numbers: all sines first, then all cosines.

    Args:
        positions: (N,), of any unit.
        channels: C, a multiple of 4.

    Returns:
        (N, C).

    Raises:
        ValueError: If the number of channels is not a multiple of 4.
    """
    _check_channels(channels)
    # The released weights expect each wavelength twice in either half.
    series = wavelengths(channels // 4, positions.device).repeat_interleave(2)
    angles = positions[..., None] / series
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def sine_encoding_2d(
    *, channels: int, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Encode the cells of a map, relative to its height and width.

    The first half of the channels encodes the row, the second half the column;
    sines and cosines alternate (as in DETR, appendix A.4). The result is cached and
    must not be written into.

    Args:
        channels: C, a multiple of 4.

    Returns:
        (1, C, height, width), float32.

    Raises:
        ValueError: If the number of channels is not a multiple of 4.
    """
    _check_channels(channels)
    height, width = size
    return _sine_encoding_2d(channels, int(height), int(width), torch.device(device))


@cached_constant
def _sine_encoding_2d(
    channels: int, height: int, width: int, device: torch.device
) -> Tensor:
    rows, columns = (
        torch.arange(1, length + 1, dtype=torch.float32, device=device)
        * (2 * math.pi / (length + 1e-6))
        for length in (height, width)
    )
    return encode_grid(rows, columns, channels)


def encode_grid(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """Encode the cells of a map by the angles of its rows (H,) and columns (W,).

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
    if channels % 4:  # sine and cosine of row and column
        msg = f'Expected channels in a multiple of 4, but got {channels}'
        raise ValueError(msg)


class FourierPositionEncoding(nn.Module):
    """Sines and cosines of random projections of a position (Tancik et al., 2020).

    The projections are drawn once, and saved with the weights.

    Args:
        embed_dims: C, even.
    """

    gaussian_matrix: Tensor

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.register_buffer('gaussian_matrix', torch.randn(2, embed_dims // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode (x, y), relative to the frame in [0, 1]: (..., 2) -> (..., C)."""
        x, y = (2 * positions - 1).unsqueeze(-1).unbind(-2)
        x_frequency, y_frequency = at_least_float32(self.gaussian_matrix)
        # Not a matrix product: autocast would round positions to bfloat16, which does
        # not distinguish the pixels of a large frame.
        angles = 2 * math.pi * (x * x_frequency + y * y_frequency)
        encoded = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return match_weights(encoded, self.gaussian_matrix)

    def grid(self, size: tuple[int, int]) -> Tensor:
        """Encode the centres of the cells of a map, (C, height, width)."""
        height, width = size
        device = self.gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing='ij')
        encoded: Tensor = self(torch.stack([columns, rows], dim=-1))
        return encoded.permute(2, 0, 1)


Table = tuple[Tensor, Tensor]


@cached_constant
def rotary_table(
    height: int,
    width: int,
    channels: int,
    device: torch.device,
    pooling: int = 1,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> Table:
    """Angles of the rotary position encoding (RoPE) of a map (Heo et al., 2024).

    Two neighbouring channels form a pair with one angle. Angles of the first half of
    the channels grow with x, those of the second half with y. The tensors are cached
    and must not be written into.

    Args:
        channels: C, channels of a head; a multiple of 4.
        pooling: Side of the squares of cells that were pooled to one, which stands at
            their centre; the squares at the ends may be smaller.
        spacing: Distances between the rows and between the columns of the map.

    Returns:
        Cosines, and sines that are negative for the first of each pair; both
        (N, C), float32, for the N cells of the pooled map.
    """
    series = wavelengths(channels // 4, device)
    rows, columns = (
        _pooled_positions(length, pooling, device) * distance
        for length, distance in zip((height, width), spacing, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    x, y = x.flatten(), y.flatten()
    angles = torch.cat([x[:, None] / series, y[:, None] / series], dim=1)
    sines = angles.sin()
    return (
        angles.cos().repeat_interleave(2, dim=1),
        torch.stack([-sines, sines], dim=-1).flatten(1),
    )


def _pooled_positions(length: int, pooling: int, device: torch.device) -> Tensor:
    """Centres of the intervals that the cells of an axis are pooled to."""
    positions = torch.arange(length, dtype=torch.float32, device=device)
    return functional.avg_pool1d(positions[None], pooling, ceil_mode=True)[0]


def rotate(tokens: Tensor, table: Table, num_unrotated: int = 0) -> Tensor:
    """Rotate each pair of neighbouring channels by the angle of its cell.

    Args:
        tokens: (..., R * N + num_unrotated, C): the cells of R maps of the same size,
            one map after another, and tokens without a position.
        table: Of :func:`rotary_table`, for one map of N cells.

    Returns:
        As ``tokens``, of the same type.
    """
    if num_unrotated:
        num_rotated = tokens.shape[-2] - num_unrotated
        rotated, others = tokens.split([num_rotated, num_unrotated], dim=-2)
        return torch.cat([rotate(rotated, table), others], dim=-2)
    cosines, sines = table
    num_cells = len(cosines)
    # A view, (..., R * N, C) -> (..., R, N, C), so the table is not repeated.
    maps = tokens.unflatten(-2, (tokens.shape[-2] // num_cells, num_cells))
    first, second = maps.unflatten(-1, (-1, 2)).unbind(-1)
    swapped = torch.stack([second, first], dim=-1).flatten(-2)
    # Multiplying whole rows takes half the time of working on every second channel.
    rotated = torch.addcmul(maps * cosines, swapped, sines)
    return rotated.flatten(-3, -2).type_as(tokens)
