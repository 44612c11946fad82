"""Known losses with a graph attached to them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from projects.sam2.losses.multi_step import best_mask_losses

FULL_SIZE = (32, 32)


class Losses:
    """Two losses of enlarged logits that count how often they are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits (O, 1, H4, W4)."""
        self.calls += 1
        full = functional.interpolate(logits, size=FULL_SIZE, mode='bilinear')
        pixels = full.flatten(1)
        return pixels.sigmoid().mean(dim=1), pixels.square().sum(dim=1)


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 8, 8, generator=generator, dtype=torch.float64)


def _known(losses: Losses, logits: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return losses(logits)


def test_values_and_gradients_are_those_of_the_plain_way(logits: Tensor) -> None:
    losses = Losses()
    plain = logits.clone().requires_grad_()
    ours = logits.clone().requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    one, two = losses(plain)
    (one * weights + 3 * two).sum().backward()
    attached = best_mask_losses(ours, *_known(losses, logits), losses)
    (attached[0] * weights + 3 * attached[1]).sum().backward()
    assert torch.equal(attached[0], one)
    assert torch.equal(attached[1], two)
    assert ours.grad is not None
    assert plain.grad is not None
    assert torch.allclose(ours.grad, plain.grad, rtol=1e-12)


def test_forward_computes_nothing_and_backward_once(logits: Tensor) -> None:
    losses = Losses()
    known = _known(losses, logits)
    attached = best_mask_losses(logits.requires_grad_(), *known, losses)
    assert losses.calls == 1
    attached[0].sum().backward()
    assert losses.calls == 2


def test_nothing_of_full_size_is_kept_for_backward(logits: Tensor) -> None:
    losses = Losses()
    known = _known(losses, logits)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        best_mask_losses(logits.requires_grad_(), *known, losses)
    assert kept == [logits.numel()]


def test_without_gradients_the_losses_pass_through(logits: Tensor) -> None:
    losses = Losses()
    known = _known(losses, logits)
    attached = best_mask_losses(logits, *known, losses)
    assert not attached[0].requires_grad
    assert torch.equal(attached[1], known[1])
