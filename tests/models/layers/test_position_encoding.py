"""Position encodings against the released ones and literal formulas."""

import math
from unittest.mock import patch

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
from projects.sam2.models.layers import (
    FourierPositionEncoding,
    sine_encoding_1d,
    sine_encoding_2d,
)
from projects.sam2.models.layers.position_encoding import (
    CACHE_SIZE,
    cached_constant,
    encode_grid,
    rotary_table,
    rotate,
)

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
def test_encoding_of_times_equals_released(case: GoldenCase) -> None:
    times = torch.tensor([0.0, 1.0, 2.0, 5.0, -3.0, 15.0]) / 15
    encoding = sine_encoding_1d(times, 32)
    assert_close(encoding, case.arrays['sine1d_32'], 1e-4, 'times')


def test_map_encoding_equals_the_literal_formula() -> None:
    encoding = sine_encoding_2d(channels=8, size=(2, 5), device=CPU)
    torch.testing.assert_close(encoding, literal_encoding(8, 2, 5))


def test_map_encoding_is_shared_between_callers() -> None:
    first = sine_encoding_2d(channels=8, size=(4, 4), device=CPU)
    assert sine_encoding_2d(channels=8, size=(4, 4), device=CPU) is first
    assert sine_encoding_2d(channels=8, size=(4, 5), device=CPU) is not first


def test_times_have_all_sines_before_all_cosines() -> None:
    encoding = sine_encoding_1d(torch.zeros(2), 8)
    assert encoding.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_channels_that_do_not_divide_by_four_are_refused() -> None:
    with pytest.raises(ValueError, match='10'):
        sine_encoding_1d(torch.zeros(1), 10)
    with pytest.raises(ValueError, match='6'):
        sine_encoding_2d(channels=6, size=(2, 2), device=CPU)


@pytest.fixture
def encoding() -> FourierPositionEncoding:
    torch.manual_seed(0)
    return FourierPositionEncoding(8)


def test_encoding_is_sine_then_cosine_of_projected_position(
    encoding: FourierPositionEncoding,
) -> None:
    x, y = 0.2, 0.9
    frequencies = encoding.gaussian_matrix.tolist()
    angles = [
        2 * math.pi * ((2 * x - 1) * fx + (2 * y - 1) * fy)
        for fx, fy in zip(*frequencies, strict=True)
    ]
    expected = torch.tensor(
        [*(math.sin(a) for a in angles), *(math.cos(a) for a in angles)]
    )
    found = encoding(torch.tensor([[[x, y]]]))[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_grid_encodes_the_centre_of_each_cell(
    encoding: FourierPositionEncoding,
) -> None:
    grid = encoding.grid((2, 4))
    assert grid.shape == (8, 2, 4)
    centre = torch.tensor([(3 + 0.5) / 4, (1 + 0.5) / 2])  # column 3, row 1
    torch.testing.assert_close(grid[:, 1, 3], encoding(centre))


def test_autocast_does_not_blur_positions(encoding: FourierPositionEncoding) -> None:
    pixels = torch.tensor([[700.5, 300.5], [701.5, 300.5]]) / 1024
    with torch.autocast('cpu', dtype=torch.bfloat16):
        first, second = encoding(pixels)
    torch.testing.assert_close(torch.stack([first, second]), encoding(pixels))
    assert not torch.equal(first, second)


def test_frequencies_are_saved_and_not_trained(
    encoding: FourierPositionEncoding,
) -> None:
    assert list(encoding.state_dict()) == ['gaussian_matrix']
    assert not list(encoding.parameters())


def literal_rotation(tokens: Tensor, height: int, width: int) -> Tensor:
    """Pairs of channels as complex numbers, turned token by token."""
    quarter = tokens.shape[-1] // 4
    turned = torch.view_as_complex(tokens.unflatten(-1, (-1, 2))).clone()
    for index in range(tokens.shape[-2]):
        y, x = divmod(index % (height * width), width)
        for pair in range(2 * quarter):
            angle = (x if pair < quarter else y) / 10000 ** (pair % quarter / quarter)
            turn = torch.polar(torch.ones(()), torch.tensor(angle))
            turned[..., index, pair] *= turn
    return torch.view_as_real(turned).flatten(-2)


@golden
@pytest.mark.parametrize(
    ('case', 'name'), discover_arrays('posenc_*', r'axial_cis_\d+x\d+_d\d+')
)
def test_table_equals_released(case: GoldenCase, name: str) -> None:
    width, height, channels = numbers_in(name)
    cosines, sines = rotary_table(height, width, channels, CPU)
    for first_of_pair, sign in ((0, -1), (1, 1)):
        pair = slice(first_of_pair, None, 2)
        table = torch.stack([cosines[:, pair], sign * sines[:, pair]], dim=-1)
        assert_close(table, case.arrays[name], 1e-4, name)


@golden
@cases
@pytest.mark.parametrize(('tag', 'name'), [('rq', 'rot_q'), ('rk', 'rot_k')])
def test_rotation_equals_released(case: GoldenCase, tag: str, name: str) -> None:
    tokens = case.input(tag, case.arrays[name].shape)
    rotated = rotate(tokens, rotary_table(4, 6, 32, CPU))
    assert_close(rotated, case.arrays[name], 1e-4, name)


@pytest.mark.parametrize('num_maps', [1, 3])
def test_rotation_equals_complex_numbers_in_every_map(num_maps: int) -> None:
    tokens = torch.randn(2, num_maps * 6, 8)
    rotated = rotate(tokens, rotary_table(2, 3, 8, CPU))
    torch.testing.assert_close(rotated, literal_rotation(tokens, 2, 3))


def test_rotation_keeps_the_type() -> None:
    tokens = torch.randn(1, 4, 8, dtype=torch.bfloat16)
    assert rotate(tokens, rotary_table(2, 2, 8, CPU)).dtype == torch.bfloat16


def test_scores_depend_on_the_displacement_alone() -> None:
    query, key = torch.randn(2, 8)
    table = rotary_table(5, 7, 8, CPU)
    queries, keys = (rotate(t.expand(35, 8), table) for t in (query, key))
    scores = (queries @ keys.T).view(5, 7, 5, 7)
    torch.testing.assert_close(scores[0, 0, 2, 3], scores[2, 1, 4, 4])
    assert (scores[0, 0, 2, 3] - scores[0, 0, 3, 2]).abs() > 1e-4


def test_tokens_without_a_position_are_not_rotated() -> None:
    tokens, table = torch.randn(2, 8, 8), rotary_table(2, 3, 8, CPU)
    rotated = rotate(tokens, table, num_unrotated=2)
    assert torch.equal(rotated[:, :6], rotate(tokens[:, :6], table))
    assert torch.equal(rotated[:, 6:], tokens[:, 6:])


BUILT: list[int] = []


@pytest.fixture(autouse=True)
def clear_built() -> None:
    BUILT.clear()


def build(length: int) -> Tensor:
    BUILT.append(length)
    return torch.arange(length, dtype=torch.float32)


def test_equal_arguments_are_built_once() -> None:
    cached = cached_constant(build)
    assert cached(3) is cached(3)
    assert cached(4).shape == (4,)
    assert BUILT == [3, 4]


def test_the_oldest_constant_is_evicted() -> None:
    cached = cached_constant(build)
    for length in [*range(CACHE_SIZE + 1), 0]:
        cached(length)
    assert BUILT[-1] == 0
    assert len(BUILT) == CACHE_SIZE + 2


def test_constant_made_in_inference_mode_can_join_a_later_graph() -> None:
    cached = cached_constant(build)
    with torch.inference_mode():
        cached(3)
    weight = torch.ones(3, requires_grad=True)
    (weight * cached(3)).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(3.0))
    assert BUILT == [3]


def test_nothing_is_cached_while_a_graph_is_traced() -> None:
    cached = cached_constant(build)
    with patch('torch.compiler.is_compiling', return_value=True):
        cached(3)
    cached(3)
    assert BUILT == [3, 3]
