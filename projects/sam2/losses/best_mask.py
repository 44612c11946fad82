"""Losses of chosen masks whose full-resolution logits are not kept for backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MaskLosses = Callable[[Tensor], tuple[Tensor, Tensor]]


def best_mask_losses(
    logits: Tensor, focal: Tensor, dice: Tensor, losses: MaskLosses
) -> tuple[Tensor, Tensor]:
    """Attach a graph to losses that are known already.

    Activation checkpointing would compute them a second time before the backward
    pass; here forward costs nothing and backward computes them once.

    Args:
        logits: The chosen masks before they are enlarged, (O, 1, H4, W4).
        focal: What ``losses`` gives for them first, (O,), without graph.
        dice: What it gives second, (O,), without graph.
        losses: Enlarges logits and scores them.

    Returns:
        ``focal`` and ``dice``, differentiable once with respect to ``logits``.
    """
    attached: tuple[Tensor, Tensor] = _BestMaskLosses.apply(  # type: ignore[no-untyped-call]  # torch
        logits, focal, dice, losses
    )
    return attached


class _BestMaskLosses(torch.autograd.Function):
    """Identity on known losses; the backward pass makes them again."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        logits: Tensor,
        focal: Tensor,
        dice: Tensor,
        losses: MaskLosses,
    ) -> tuple[Tensor, Tensor]:
        """Hand the losses on; remember the small logits alone."""
        ctx.save_for_backward(logits)
        ctx.losses = losses
        return focal.clone(), dice.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        focal_gradient: Tensor,
        dice_gradient: Tensor,
    ) -> tuple[Tensor, None, None, None]:
        """Compute the losses again, with a graph, and differentiate them."""
        logits = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            losses = ctx.losses(logits)
        (gradient,) = torch.autograd.grad(
            losses, logits, (focal_gradient, dice_gradient)
        )
        return gradient, None, None, None
