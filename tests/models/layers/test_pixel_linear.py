"""A linear layer on pixels against a convolution."""

import pytest
import torch
from torch import nn

from projects.sam2.models.layers import PixelLinear


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_equal_those_of_a_convolution(
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    layer, convolution = PixelLinear(5, 3), nn.Conv2d(5, 3, kernel_size=1)
    convolution.load_state_dict(layer.state_dict())
    maps = torch.randn(2, 5, 4, 6).contiguous(memory_format=layout).requires_grad_()
    found, expected = layer(maps), convolution(maps)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, [maps, *layer.parameters()], upstream),
        torch.autograd.grad(expected, [maps, *convolution.parameters()], upstream),
    )


def test_channels_are_last_in_memory() -> None:
    found = PixelLinear(5, 3)(torch.randn(2, 5, 4, 6))
    assert found.is_contiguous(memory_format=torch.channels_last)
