"""No step is taken with a loss that is not finite, and nothing else changes."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from projects.sam2.engine.optim import FiniteGuard

NAN, INF = float('nan'), float('inf')


@pytest.fixture
def weight() -> nn.Parameter:
    return nn.Parameter(torch.zeros(()))


def guarded(weight: nn.Parameter, **settings: Any) -> FiniteGuard:
    """Plain descent at rate 1: the weight is minus the sum of the gradients."""
    return FiniteGuard(OptimWrapper(torch.optim.SGD([weight], lr=1.0), **settings))


def train(guard: FiniteGuard, weight: nn.Parameter, *slopes: float) -> list[bool]:
    """Take batches whose gradients are known; tell which ones counted as bad."""
    bad = []
    for slope in slopes:
        with guard.optim_context(nn.Identity()):
            loss = weight * slope + 1
        guard.update_params(loss)
        bad.append(bool(guard.is_bad))
    return bad


@pytest.mark.parametrize('slope', [NAN, INF, -INF])
def test_bad_batch_changes_no_weight(weight: nn.Parameter, slope: float) -> None:
    guard = guarded(weight)
    assert train(guard, weight, 2, slope, 3) == [False, True, False]
    assert weight.item() == -5
    assert weight.grad is None


def test_bad_batch_drops_the_step_that_it_is_part_of(weight: nn.Parameter) -> None:
    guard = guarded(weight, accumulative_counts=2)
    slopes = (2, 4, NAN, 8, 16, NAN, 32, 64)
    assert train(guard, weight, *slopes) == [slope is NAN for slope in slopes]
    # Means of the first and of the last pair alone.
    assert weight.item() == -(3 + 48)
    assert guard.wrapper._inner_count == 8


@pytest.mark.parametrize(
    'clip_grad', [None, {'max_norm': 1.0}, {'type': 'value', 'clip_value': 1.0}]
)
def test_finite_loss_without_finite_gradient_steps_nowhere(
    weight: nn.Parameter, clip_grad: dict[str, Any] | None
) -> None:
    decay = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    guard = FiniteGuard(OptimWrapper(decay, clip_grad=clip_grad))
    guard.update_params(weight.sqrt())
    assert guard.is_bad
    assert guard.is_own
    assert weight.item() == 0
    assert not decay.state
    weight.data.fill_(1)
    guard.update_params(weight.sqrt())
    assert not guard.is_bad
    assert 0 < weight.item() < 1


@pytest.mark.parametrize('clip_grad', [None, {'max_norm': 9.0}])
def test_fused_optimizer_skips_the_step_by_itself(
    weight: nn.Parameter, clip_grad: dict[str, Any] | None
) -> None:
    weight.data.fill_(1)
    adam = torch.optim.AdamW([weight], lr=0.1, fused=True)
    guard = FiniteGuard(OptimWrapper(adam, clip_grad=clip_grad))
    called = Mock(wraps=guard.wrapper.step)
    guard.wrapper.step = called
    assert train(guard, weight, 2) == [False]
    kept = [tensor.clone() for tensor in (weight, *adam.state[weight].values())]
    assert train(guard, weight, NAN, INF) == [True, True]
    for before, after in zip(kept, (weight, *adam.state[weight].values()), strict=True):
        assert torch.equal(before, after)
    assert train(guard, weight, 2) == [False]
    assert weight < kept[0]
    # Schedulers count the calls.
    assert called.call_count == 4


def test_norm_is_that_before_clipping_and_left_on_the_device(
    weight: nn.Parameter,
) -> None:
    guard = guarded(weight, clip_grad={'max_norm': 1.0}, accumulative_counts=2)
    norms = []
    for slope in (3, 5):
        train(guard, weight, slope)
        norms.append(guard.grad_norm)
    assert norms == [None, torch.tensor(4.0)]
    assert guard.wrapper.clip_grad_kwargs == {'max_norm': 1.0}
    assert weight.item() == pytest.approx(-1, rel=1e-5)


@pytest.mark.parametrize('kind', ['norm', 'value'])
def test_good_steps_are_clipped_as_ever(weight: nn.Parameter, kind: str) -> None:
    limit = {'max_norm': 1.0} if kind == 'norm' else {'clip_value': 1.0}
    guard = guarded(weight, clip_grad={'type': kind, **limit})
    assert train(guard, weight, 5, 5) == [False, False]
    assert weight.item() == pytest.approx(-2, rel=1e-5)


@pytest.mark.parametrize('is_enabled', [True, False])
def test_wrapper_that_scales_the_loss_looks_after_its_gradients_itself(
    weight: nn.Parameter, *, is_enabled: bool
) -> None:
    class Scaling(OptimWrapper):
        loss_scaler = Mock(is_enabled=lambda: is_enabled)
        num_steps = 0

        def step(self, **_: Any) -> None:
            self.num_steps += 1

    wrapper = Scaling(torch.optim.SGD([weight], lr=1.0))
    guard = FiniteGuard(wrapper)
    guard.update_params(weight.sqrt())
    assert weight.grad is None
    assert (wrapper.num_steps, bool(guard.is_bad)) == (is_enabled, not is_enabled)
