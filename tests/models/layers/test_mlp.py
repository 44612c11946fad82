"""The stack of linear layers against its formula."""

from typing import Literal

import pytest
import torch
from torch.nn import functional

from projects.sam2.models.layers.mlp import MLP


@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_activation_stands_between_layers_and_not_after_the_last(
    activation: Literal['relu', 'gelu'],
) -> None:
    torch.manual_seed(0)
    mlp = MLP(in_dims=3, hidden_dims=5, out_dims=2, num_layers=3, activation=activation)
    act = getattr(functional, activation)
    torch.nn.init.constant_(mlp.get_parameter('layers.2.bias'), -5.0)
    tokens = torch.randn(4, 3)
    first, second, third = mlp.layers
    torch.testing.assert_close(mlp(tokens), third(act(second(act(first(tokens))))))
    assert (mlp(tokens) < -1).all()


def test_sigmoid_squashes_the_last_layer() -> None:
    torch.manual_seed(0)
    mlp = MLP(in_dims=3, hidden_dims=5, out_dims=2, num_layers=1, sigmoid_output=True)
    tokens = torch.randn(4, 3)
    torch.testing.assert_close(mlp(tokens), mlp.layers[0](tokens).sigmoid())
