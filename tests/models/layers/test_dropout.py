"""Dropout by seeds: the statistics and the gradients of torch's own."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from projects.sam2.models.layers.cpu import (
    PIECE,
    KeepMasks,
    ReLUDropout,
    ResidualDropout,
    draw_seed,
)

RATE = 0.3
COUNT = 400_000


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_elements_are_kept_at_the_rate_and_independently() -> None:
    kept = KeepMasks(draw_seed(), RATE).draw(COUNT)
    deviation = np.sqrt(RATE * (1 - RATE) / COUNT)
    assert abs(kept.mean() - (1 - RATE)) < 4 * deviation
    both = (kept[1:] & kept[:-1]).mean()
    assert abs(both - (1 - RATE) ** 2) < 4 * deviation


def test_a_seed_gives_the_same_masks_and_another_one_others() -> None:
    first, again, other = (KeepMasks(seed, RATE) for seed in (5, 5, 6))
    drawn = first.draw(1001)
    assert (drawn == again.draw(1001)).all()
    assert (drawn != other.draw(1001)).any()
    assert (drawn != first.draw(1001)).any()


def test_noise_in_pieces_is_the_noise_of_the_whole() -> None:
    count = 2 * PIECE + 7
    dropped = KeepMasks(5, RATE).apply(torch.ones(count))
    assert (dropped.numpy() == KeepMasks(5, RATE).draw(count)).all()


def drop(kind: type[nn.Module], tensor: Tensor, rate: float = RATE) -> Tensor:
    """What a kind of dropout makes of a tensor, beside a shortcut of nothing."""
    made = tensor.clone()  # ReLUDropout works in place
    module = kind(rate)
    dropped: Tensor = (
        module(torch.zeros_like(made), made)
        if kind is ResidualDropout
        else module(made)
    )
    return dropped


@pytest.mark.parametrize('kind', [ResidualDropout, ReLUDropout])
def test_the_gradient_goes_where_the_value_went(kind: type[nn.Module]) -> None:
    tensor = torch.randn(40, 50, requires_grad=True)
    dropped = drop(kind, tensor)
    rectified = tensor.relu() if kind is ReLUDropout else tensor
    kept = dropped != 0
    torch.testing.assert_close(dropped, rectified * kept / (1 - RATE))
    upstream = torch.randn(40, 50)
    (gradient,) = torch.autograd.grad(dropped, tensor, upstream)
    torch.testing.assert_close(gradient, upstream * kept / (1 - RATE))
    alive = rectified != 0
    assert abs(kept[alive].float().mean() - (1 - RATE)) < 0.05


@pytest.mark.parametrize('kind', [ResidualDropout, ReLUDropout])
def test_dropout_follows_the_random_stream_of_torch(kind: type[nn.Module]) -> None:
    tensor = torch.randn(100)
    state = torch.get_rng_state()
    first = drop(kind, tensor)
    assert not torch.equal(first, drop(kind, tensor))
    torch.set_rng_state(state)
    assert torch.equal(first, drop(kind, tensor))


@pytest.mark.parametrize('kind', [ResidualDropout, ReLUDropout])
def test_half_precision_and_transposed_maps_are_dropped_too(
    kind: type[nn.Module],
) -> None:
    half = torch.ones(1000, dtype=torch.bfloat16)
    assert 0.5 < (drop(kind, half) > 0).float().mean() < 0.9
    tensor = torch.rand(20, 30).T + 1
    assert not tensor.is_contiguous()
    dropped = drop(kind, tensor)
    torch.testing.assert_close(dropped, tensor * (dropped != 0) / (1 - RATE))


@pytest.mark.parametrize('rate', [0.0, RATE])
def test_nothing_is_dropped_in_evaluation(rate: float) -> None:
    tensor = torch.randn(50)
    residual = ResidualDropout(rate).eval()
    assert torch.equal(residual(torch.ones(50), tensor), 1 + tensor)
    assert torch.equal(ReLUDropout(rate).eval()(tensor), tensor.relu())


def test_the_shortcut_gets_the_whole_gradient_and_nothing_is_written_into() -> None:
    shortcut, branch = (torch.randn(4, 6, 5, requires_grad=True) for _ in range(2))
    before = branch.detach().clone()
    added = ResidualDropout(RATE)(shortcut, branch)
    assert torch.equal(branch, before)
    kept = (added - shortcut).abs() > 1e-6
    assert 0.5 < kept.float().mean() < 0.9
    torch.testing.assert_close(added, shortcut + branch * kept / (1 - RATE))
    upstream = torch.randn(4, 6, 5)
    gradients = torch.autograd.grad(added, (shortcut, branch), upstream)
    torch.testing.assert_close(gradients, (upstream, upstream * kept / (1 - RATE)))
