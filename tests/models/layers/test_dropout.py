"""Dropout by seeds: the statistics and the gradients of torch's own."""

import numpy as np
import pytest
import torch
from torch import nn

from projects.sam2.models.layers.dropout import (
    Dropout,
    KeepMasks,
    ReLUDropout,
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


@pytest.mark.parametrize('kind', [Dropout, ReLUDropout])
def test_the_gradient_goes_where_the_value_went(kind: type[nn.Module]) -> None:
    tensor = torch.randn(40, 50, requires_grad=True)
    dropped = kind(RATE)(tensor.clone())  # ReLUDropout works in place
    rectified = tensor.relu() if kind is ReLUDropout else tensor
    kept = dropped != 0
    torch.testing.assert_close(dropped, rectified * kept / (1 - RATE))
    upstream = torch.randn(40, 50)
    (gradient,) = torch.autograd.grad(dropped, tensor, upstream)
    torch.testing.assert_close(gradient, upstream * kept / (1 - RATE))
    alive = rectified != 0
    assert abs(kept[alive].float().mean() - (1 - RATE)) < 0.05


@pytest.mark.parametrize('kind', [Dropout, ReLUDropout])
def test_dropout_follows_the_random_stream_of_torch(kind: type[nn.Module]) -> None:
    tensor = torch.randn(100)
    state = torch.get_rng_state()
    first = kind(RATE)(tensor.clone())
    assert not torch.equal(first, kind(RATE)(tensor.clone()))
    torch.set_rng_state(state)
    assert torch.equal(first, kind(RATE)(tensor.clone()))


@pytest.mark.parametrize('kind', [Dropout, ReLUDropout])
def test_half_precision_and_transposed_maps_are_dropped_too(
    kind: type[nn.Module],
) -> None:
    half = torch.ones(1000, dtype=torch.bfloat16)
    assert 0.5 < (kind(RATE)(half) > 0).float().mean() < 0.9
    tensor = torch.rand(20, 30).T + 1
    assert not tensor.is_contiguous()
    dropped = kind(RATE)(tensor.clone())
    torch.testing.assert_close(dropped, tensor * (dropped != 0) / (1 - RATE))


@pytest.mark.parametrize('rate', [0.0, RATE])
def test_nothing_is_dropped_in_evaluation(rate: float) -> None:
    tensor = torch.randn(50)
    assert torch.equal(Dropout(rate).eval()(tensor), tensor)
    assert torch.equal(ReLUDropout(rate).eval()(tensor), tensor.relu())
