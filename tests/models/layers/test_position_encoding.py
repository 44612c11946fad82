"""Sine encodings against the released ones and the literal formula."""

import math

import pytest
import torch
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_close,
    discover,
    discover_arrays,
    numbers_in,
)
from projects.sam2.models.layers import sine_encoding_1d, sine_encoding_2d
from projects.sam2.models.layers.position_encoding import encode_grid

CPU = torch.device('cpu')
golden = pytest.mark.golden
cases = pytest.mark.parametrize('case', discover('posenc_*'))


def literal_encoding(channels: int, height: int, width: int) -> Tensor:
    """DETR's formula, cell by cell and channel by channel."""
    encoding = torch.zeros(1, channels, height, width)
    half = channels // 2
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                place, length = (y, height) if channel < half else (x, width)
                angle = 2 * math.pi * (place + 1) / length
                angle /= 10000 ** (2 * (channel % half // 2) / half)
                wave = math.cos if channel % 2 else math.sin
                encoding[0, channel, y, x] = wave(angle)
    return encoding


@golden
@pytest.mark.parametrize(('case', 'name'), discover_arrays('posenc_*', r'sine_\d+x\d+'))
def test_map_encoding_equals_released(case: GoldenCase, name: str) -> None:
    height, width = numbers_in(name)
    expected = case.arrays[name]
    encoding = sine_encoding_2d(
        channels=expected.shape[1], size=(height, width), device=CPU
    )
    assert_close(encoding, expected, 1e-4, name)


@golden
@pytest.mark.parametrize(
    ('case', 'name'), discover_arrays('posenc_*', r'sine_nonorm_\d+x\d+')
)
def test_encoding_of_plain_indices_equals_released(case: GoldenCase, name: str) -> None:
    rows, columns = (torch.arange(1.0, side + 1) for side in numbers_in(name))
    expected = case.arrays[name]
    encoding = encode_grid(rows, columns, expected.shape[1])
    assert_close(encoding, expected, 1e-4, name)


@golden
@cases
def test_encoding_of_moments_equals_released(case: GoldenCase) -> None:
    moments = torch.tensor([0.0, 1.0, 2.0, 5.0, -3.0, 15.0]) / 15
    encoding = sine_encoding_1d(moments, 32)
    assert_close(encoding, case.arrays['sine1d_32'], 1e-4, 'moments')


def test_map_encoding_equals_the_literal_formula() -> None:
    encoding = sine_encoding_2d(channels=8, size=(2, 5), device=CPU)
    torch.testing.assert_close(encoding, literal_encoding(8, 2, 5))


def test_map_encoding_is_shared_between_callers() -> None:
    first = sine_encoding_2d(channels=8, size=(4, 4), device=CPU)
    assert sine_encoding_2d(channels=8, size=(4, 4), device=CPU) is first
    assert sine_encoding_2d(channels=8, size=(4, 5), device=CPU) is not first


def test_moments_have_all_sines_before_all_cosines() -> None:
    encoding = sine_encoding_1d(torch.zeros(2), 8)
    assert encoding.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_channels_that_do_not_divide_by_four_are_refused() -> None:
    with pytest.raises(ValueError, match='10'):
        sine_encoding_1d(torch.zeros(1), 10)
    with pytest.raises(ValueError, match='6'):
        sine_encoding_2d(channels=6, size=(2, 2), device=CPU)
