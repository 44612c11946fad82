"""The layer norm of maps against torch's, applied to channels last."""

import pytest
import torch
from torch import nn

from projects.sam2.models.layers.mlp import LayerNorm2d


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_each_pixel_is_normalised_over_its_channels(
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    ours, reference = LayerNorm2d(6), nn.LayerNorm(6, eps=1e-6)
    for norm in (ours, reference):
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, 6))
            norm.bias.copy_(torch.linspace(-1, 1, 6))
    features = 3 + 10 * torch.randn(2, 6, 4, 5).contiguous(memory_format=layout)
    expected = reference(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(features), expected)


def test_eps_is_added_to_the_variance() -> None:
    norm = LayerNorm2d(2, eps=3.0)
    features = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)  # variance 1
    torch.testing.assert_close(norm(features), features / 2)


def test_it_decays_unlike_a_layer_norm() -> None:
    assert not isinstance(LayerNorm2d(2), nn.LayerNorm)
