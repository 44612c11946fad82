"""The stack of linear layers against its formula."""

from typing import Literal

import pytest
import torch
from torch import Tensor
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


@pytest.mark.parametrize('activation', ['relu', 'gelu'])
@pytest.mark.parametrize('keeps_hidden', [True, False])
def test_of_large_inputs_no_more_is_kept_than_is_asked_for(
    activation: Literal['relu', 'gelu'], *, keeps_hidden: bool
) -> None:
    torch.manual_seed(0)
    mlp = MLP(
        in_dims=64, hidden_dims=128, out_dims=8, num_layers=2, activation=activation
    )
    norm, act = torch.nn.LayerNorm(64), getattr(functional, activation)
    tokens = torch.randn(2, 2048, 64, requires_grad=True)  # 1 MB
    kept: set[int] = set()

    def note(tensor: Tensor) -> Tensor:
        if tensor.numel() >= tokens.numel():
            kept.add(tensor.shape[-1])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = mlp(tokens, norm=norm, keeps_hidden=keeps_hidden)
    assert kept == ({64, 128} if keeps_hidden else {64})
    first, second = mlp.layers
    expected = second(act(first(norm(tokens))))
    wanted = (tokens, *mlp.parameters(), *norm.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        rtol=1e-4,
        atol=1e-4,
    )
