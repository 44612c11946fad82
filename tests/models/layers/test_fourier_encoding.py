"""Fourier position encoding against its formula, one position at a time."""

import math

import pytest
import torch

from projects.sam2.models.layers.position_encoding import FourierPositionEncoding


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
