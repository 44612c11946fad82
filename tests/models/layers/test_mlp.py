"""MLP, norm of maps, pixel-wise linear layer, dropout and stochastic depth."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from projects.sam2.models.layers import (
    MLP,
    Dropout,
    DropPath,
    LayerNorm2d,
    PixelLinear,
)
from projects.sam2.models.layers.cpu import BLOCK_SIZE, DropoutMasks, draw_seed
from projects.sam2.models.layers.mlp import ReLUDropout

RATE = 0.3
COUNT = 400_000
DROPOUTS = pytest.mark.parametrize('kind', [Dropout, ReLUDropout])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('activation', ['relu', 'gelu'])
def test_activation_stands_between_layers_and_not_after_the_last(
    activation: Literal['relu', 'gelu'],
) -> None:
    mlp = MLP(in_dims=3, hidden_dims=5, out_dims=2, num_layers=3, activation=activation)
    act = getattr(functional, activation)
    torch.nn.init.constant_(mlp.get_parameter('layers.2.bias'), -5.0)
    tokens = torch.randn(4, 3)
    first, second, third = mlp.layers
    torch.testing.assert_close(mlp(tokens), third(act(second(act(first(tokens))))))
    assert (mlp(tokens) < -1).all()


def test_sigmoid_squashes_the_last_layer() -> None:
    mlp = MLP(in_dims=3, hidden_dims=5, out_dims=2, num_layers=1, sigmoid_output=True)
    tokens = torch.randn(4, 3)
    torch.testing.assert_close(mlp(tokens), mlp.layers[0](tokens).sigmoid())


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_each_pixel_is_normalised_over_its_channels(
    layout: torch.memory_format,
) -> None:
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


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_equal_those_of_a_convolution(
    layout: torch.memory_format,
) -> None:
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


def test_elements_remain_at_the_rate_and_independently() -> None:
    remains = DropoutMasks(draw_seed(), RATE).draw(COUNT)
    deviation = np.sqrt(RATE * (1 - RATE) / COUNT)
    assert abs(remains.mean() - (1 - RATE)) < 4 * deviation
    both = (remains[1:] & remains[:-1]).mean()
    assert abs(both - (1 - RATE) ** 2) < 4 * deviation


def test_a_seed_gives_the_same_masks_and_another_one_others() -> None:
    first, again, other = (DropoutMasks(seed, RATE) for seed in (5, 5, 6))
    drawn = first.draw(1001)
    assert (drawn == again.draw(1001)).all()
    assert (drawn != other.draw(1001)).any()
    assert (drawn != first.draw(1001)).any()


def test_masks_drawn_in_blocks_equal_a_single_one() -> None:
    count = 2 * BLOCK_SIZE + 7
    dropped = DropoutMasks(5, RATE).drop_(torch.ones(count))
    assert ((dropped != 0).numpy() == DropoutMasks(5, RATE).draw(count)).all()


@DROPOUTS
@pytest.mark.parametrize('transposed', [False, True])
def test_the_gradient_goes_where_the_value_went(
    kind: type[nn.Module], *, transposed: bool
) -> None:
    tensor = torch.randn(40, 50, requires_grad=True)
    given = (tensor.T if transposed else tensor) * 1  # ReLUDropout works in place
    expected = given.relu() if kind is ReLUDropout else given.clone()
    dropped = kind(RATE)(given)
    remains = dropped != 0
    torch.testing.assert_close(dropped, expected * remains / (1 - RATE))
    assert abs(remains[expected != 0].float().mean() - (1 - RATE)) < 0.05
    upstream = torch.randn_like(dropped)
    (gradient,) = torch.autograd.grad(dropped, tensor, upstream)
    gradient = gradient.T if transposed else gradient
    torch.testing.assert_close(gradient, upstream * remains / (1 - RATE))


def test_dropout_changes_neither_its_input_nor_the_gradient_that_comes_in() -> None:
    tensor = torch.randn(4, 6, requires_grad=True)
    before, upstream = tensor.detach().clone(), torch.ones(4, 6)
    Dropout(RATE)(tensor).backward(upstream)
    assert torch.equal(tensor, before)
    assert torch.equal(upstream, torch.ones(4, 6))


@DROPOUTS
def test_dropout_follows_the_random_stream_of_torch(kind: type[nn.Module]) -> None:
    tensor = torch.randn(100)
    state = torch.get_rng_state()
    first = kind(RATE)(tensor.clone())
    assert not torch.equal(first, kind(RATE)(tensor.clone()))
    torch.set_rng_state(state)
    assert torch.equal(first, kind(RATE)(tensor.clone()))


@DROPOUTS
def test_half_precision_is_dropped_too(kind: type[nn.Module]) -> None:
    dropped = kind(RATE)(torch.ones(1000, dtype=torch.bfloat16))
    assert 0.5 < (dropped > 0).float().mean() < 0.9


@pytest.mark.parametrize('rate', [0.0, RATE])
def test_nothing_is_dropped_in_evaluation(rate: float) -> None:
    tensor = torch.randn(50)
    assert torch.equal(Dropout(rate).eval()(tensor), tensor)
    assert torch.equal(ReLUDropout(rate).eval()(tensor), tensor.relu())


@pytest.mark.parametrize(('rate', 'training'), [(0.0, True), (0.6, False)])
def test_branch_passes_untouched_without_rate_or_in_evaluation(
    *, rate: float, training: bool
) -> None:
    branch = torch.randn(4, 3)
    assert DropPath(rate=rate).train(training)(branch) is branch


def test_whole_samples_are_dropped_and_the_rest_is_scaled_up() -> None:
    dropped = DropPath(rate=0.75)(torch.ones(4000, 2, 3))
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample, per_sample[:, :1].expand_as(per_sample))
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize('rate', [-0.1, 1.0])
def test_rate_outside_the_unit_interval_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=str(rate)):
        DropPath(rate=rate)
