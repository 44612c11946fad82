"""Focal losses with their gradients."""

import torch
from torch import Tensor

from .sampling import computable, operator

TINY = torch.finfo(torch.float32).tiny  # least argument of a logarithm


def _class_weights(weight: Tensor, target: Tensor) -> Tensor | float:
    """Weight of each target's class: (N, 1); the background has weight 1."""
    if not weight.numel():
        return 1.0
    weights = computable(weight)
    is_class = (target >= 0) & (target < len(weights))
    return weights[target.where(is_class, 0)].where(is_class, 1)[:, None]


@operator
def sigmoid_focal_loss_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of a sigmoid for each class.

    Args:
        input: (N, classes), logits.
        target: (N,), class, or the number of classes for the background.
        weight: (classes,), or empty.
        output: (N, classes), gets the loss.
        gamma: Exponent that lowers the loss of easy examples.
        alpha: Weight of the positives.
    """
    probs = computable(input).sigmoid()
    classes = torch.arange(probs.shape[1], device=probs.device)
    of_positive = alpha * (1 - probs) ** gamma * probs.clamp(min=TINY).log()
    of_negative = (1 - alpha) * probs**gamma * (1 - probs).clamp(min=TINY).log()
    loss = -torch.where(target[:, None] == classes, of_positive, of_negative)
    output.copy_(loss * _class_weights(weight, target))


@operator
def sigmoid_focal_loss_backward(
    input: Tensor,  # noqa: A002 - as in mmcv
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of :func:`sigmoid_focal_loss_forward`, written to ``grad_input``."""
    probs = computable(input).sigmoid()
    others = 1 - probs
    classes = torch.arange(probs.shape[1], device=probs.device)
    log_probs, log_others = (p.clamp(min=TINY).log() for p in (probs, others))
    of_positive = alpha * others**gamma * (others - gamma * probs * log_probs)
    of_negative = (1 - alpha) * probs**gamma * (gamma * others * log_others - probs)
    grad = -torch.where(target[:, None] == classes, of_positive, of_negative)
    grad_input.copy_(grad * _class_weights(weight, target))


@operator
def softmax_focal_loss_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of a softmax.

    Args:
        input: (N, classes), probabilities.
        target: (N,), class; negative targets have no loss.
        weight: (classes,), or empty.
        output: (N,), gets the loss.
        gamma: Exponent that lowers the loss of easy examples.
        alpha: Weight of the loss.
    """
    probs, is_class = _target_probs(input, target)
    loss = -alpha * (1 - probs) ** gamma * probs.clamp(min=TINY).log()
    output.copy_((loss * _class_weights(weight, target)).where(is_class, 0)[:, 0])


@operator
def softmax_focal_loss_backward(
    input: Tensor,  # noqa: A002 - as in mmcv
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of the loss with respect to the logits of the softmax."""
    probs, is_class = _target_probs(input, target)
    others = 1 - probs
    log_probs = probs.clamp(min=TINY).log()
    slope = alpha * (
        -(others**gamma) + gamma * others ** (gamma - 1) * probs * log_probs
    )
    slope = (slope * _class_weights(weight, target)).where(is_class, 0)
    buff.copy_(slope[:, 0])
    classes = torch.arange(input.shape[1], device=input.device)
    one_hot = (target[:, None] == classes).to(slope)
    grad_input.copy_(slope * (one_hot - computable(input)))


def _target_probs(probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of each target, and which targets are classes: both (N, 1)."""
    is_class = target[:, None] >= 0
    return computable(probs).gather(1, target[:, None].clamp(min=0)), is_class
