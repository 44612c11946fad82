"""Losses of single masks, against hand-made numbers and plain formulas."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from projects.sam2.losses import (
    FocalShape,
    dice_loss,
    focal_elements,
    sigmoid_focal_loss,
)

PLAIN = FocalShape(alpha=None, gamma=0.0)


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return 4 * torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)


@pytest.fixture
def truth() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(2, 1, 5, 7, generator=generator) > 0.6


@pytest.fixture
def void() -> Tensor:
    """The first two columns of the first object."""
    pixels = torch.zeros(2, 1, 5, 7, dtype=torch.bool)
    pixels[0, ..., :2] = True
    return pixels


def test_without_gamma_and_alpha_it_is_binary_cross_entropy(
    logits: Tensor, truth: Tensor
) -> None:
    target = truth.expand_as(logits).double()
    expected = functional.binary_cross_entropy_with_logits(
        logits, target, reduction='none'
    )
    assert torch.allclose(focal_elements(logits, truth, PLAIN), expected, atol=1e-8)


@pytest.mark.parametrize('alpha', [None, 0.25, 0.6])
@pytest.mark.parametrize('gamma', [0.0, 1.0, 2.0])
def test_focal_loss_is_the_formula_of_its_paper(
    logits: Tensor, truth: Tensor, alpha: float | None, gamma: float
) -> None:
    probs = logits.sigmoid()
    right = torch.where(truth, probs, 1 - probs)
    weight = torch.ones_like(probs)
    if alpha is not None:
        weight = torch.where(truth, alpha, 1.0 - alpha)
    expected = -weight * (1 - right) ** gamma * right.log()
    shape = FocalShape(alpha=alpha, gamma=gamma)
    loss = sigmoid_focal_loss(logits, truth, shape=shape)
    assert loss.shape == (2, 3)
    assert torch.allclose(loss, expected.mean(dim=(2, 3)), atol=1e-8)


def test_extreme_logits_have_finite_losses_and_gradients() -> None:
    logits = torch.tensor([-1024.0, 1024.0, -1024.0, 1024.0], requires_grad=True)
    truth = torch.tensor([True, True, False, False])
    loss = focal_elements(logits, truth, FocalShape(alpha=0.25, gamma=2.0))
    assert loss.tolist() == [256.0, 0.0, 0.0, 768.0]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.tolist() == [-0.25, 0.0, 0.0, 0.75]


@pytest.mark.parametrize(
    ('logit', 'expected'),
    [
        # Four of eight pixels are true; one is added to twice the shared area and
        # to both areas together.
        (100.0, 1 - 9 / 13),
        (-100.0, 1 - 1 / 5),
        (0.0, 1 - 5 / 9),
    ],
)
def test_dice_loss_counts_soft_areas(logit: float, expected: float) -> None:
    truth = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    truth[..., :2] = True
    loss = dice_loss(torch.full((1, 1, 2, 4), logit), truth)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_dice_loss_of_two_empty_masks_vanishes() -> None:
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert dice_loss(torch.full((1, 1, 4, 4), -200.0), empty).item() == 0


def test_void_pixels_are_as_good_as_cut_off(
    logits: Tensor, truth: Tensor, void: Tensor
) -> None:
    cut_logits, cut_truth = logits[:1, :, :, 2:], truth[:1, :, :, 2:]
    for loss in (sigmoid_focal_loss, dice_loss):
        with_void = loss(logits, truth, void=void)
        assert torch.allclose(with_void[:1], loss(cut_logits, cut_truth))
        assert torch.allclose(with_void[1:], loss(logits[1:], truth[1:]))


def test_void_pixels_get_no_gradient(
    logits: Tensor, truth: Tensor, void: Tensor
) -> None:
    logits.requires_grad_()
    losses = sigmoid_focal_loss(logits, truth, void=void)
    losses = losses + dice_loss(logits, truth, void=void)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert not gradient[0, ..., :2].any()
    assert gradient[0, ..., 2:].all()
    assert gradient[1].all()


def test_object_of_void_pixels_alone_loses_nothing(
    logits: Tensor, truth: Tensor
) -> None:
    everything = torch.ones_like(truth)
    assert not sigmoid_focal_loss(logits, truth, void=everything).any()
    assert not dice_loss(logits, truth, void=everything).any()
