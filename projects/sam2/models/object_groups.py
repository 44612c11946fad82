"""Trains objects group by group: the memory of a step no longer grows with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from projects.sam2.structures import ClipBatch, ClipTargets, ImageFeatures

__all__ = ['groups_of_objects', 'losses_in_groups']

GroupLoss = Callable[[ClipBatch, ImageFeatures], Mapping[str, Tensor]]

# Apart by more than neighbouring clips are, so that no two groups click alike.
SEED_STRIDE = 0x9E3779B97F4A7C15
NUM_SEEDS = 2**63


def groups_of_objects(batch: ClipBatch, size: int) -> Iterator[ClipBatch]:
    """Take the objects of a batch apart.

    Args:
        batch: The clips.
        size: Objects of a group at most.

    Yields:
        All clips with some of their objects. The clicks of the first group follow the
        seeds of the batch, those of the others seeds of their own.
    """
    targets = batch.targets
    for number, first in enumerate(range(0, len(batch.video_of_object), size)):
        some = slice(first, first + size)
        yield replace(
            batch,
            targets=ClipTargets(
                masks=targets.masks[:, some],
                void=None if targets.void is None else targets.void[:, some],
                annotated=targets.annotated[:, some],
            ),
            video_of_object=batch.video_of_object[some],
            seeds=tuple(
                (seed + number * SEED_STRIDE) % NUM_SEEDS for seed in batch.seeds
            ),
        )


def losses_in_groups(
    groups: Iterator[ClipBatch],
    features: ImageFeatures,
    parameters: Sequence[Tensor],
    loss: GroupLoss,
) -> dict[str, Tensor]:
    """Sum the losses of groups, none of whose graphs outlives the next group.

    Each group is differentiated at once, and its gradients are added up; the backward
    pass of the step then hands them on. Frames are encoded once for all groups.

    Args:
        groups: Of :func:`groups_of_objects`.
        features: Of all frames, with their graph.
        parameters: What is trained behind the features.
        loss: Terms of a group, made of it and of the features; what they are to be
            divided by does not depend on the group.

    Returns:
        The terms, differentiable once.

    Raises:
        ValueError: In the backward pass, if the terms are not weighed alike.
    """
    tensors = (features.embedding, features.high_res_8, features.high_res_4)
    embedding, high_res_8, high_res_4 = (
        tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors
    )
    apart = replace(
        features, embedding=embedding, high_res_8=high_res_8, high_res_4=high_res_4
    )
    cut = (embedding, high_res_8, high_res_4, *parameters)
    wanted = [tensor for tensor in cut if tensor.requires_grad]
    found: dict[int, Tensor] = {}
    totals: dict[str, Tensor] = {}
    for group in groups:
        terms = loss(group, apart)
        for position, gradient in enumerate(_differentiate(terms, wanted)):
            if gradient is not None:
                earlier = found.get(position)
                found[position] = gradient if earlier is None else earlier + gradient
        for name, term in terms.items():
            totals[name] = totals.get(name, 0) + term.detach()
    whole = [tensor for tensor in (*tensors, *parameters) if tensor.requires_grad]
    values: Tensor = _Differentiated.apply(  # type: ignore[no-untyped-call]  # torch
        torch.stack(list(totals.values())),
        tuple(found.values()),
        *(whole[position] for position in found),
    )
    return dict(zip(totals, values.unbind(), strict=True))


def _differentiate(
    terms: Mapping[str, Tensor], wanted: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Gradients of the sum of the terms; None for what has no part in it."""
    total = torch.stack(list(terms.values())).sum()
    if not total.requires_grad:
        return [None] * len(wanted)
    return torch.autograd.grad(total, wanted, allow_unused=True)


class _Differentiated(torch.autograd.Function):
    """Identity on terms whose gradients are known."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        values: Tensor,
        gradients: tuple[Tensor, ...],
        *inputs: Tensor,  # noqa: ARG004  where the gradients go
    ) -> Tensor:
        """Hand the terms on."""
        ctx.save_for_backward(*gradients)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        weights: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Hand the gradients on."""
        weight = weights[0]
        if not torch.equal(weights, weight.expand_as(weights)):
            msg = (
                'Terms of the loss of groups of objects must be weighed alike, but '
                f'their weights are {weights.tolist()}; weigh them in the config of '
                'the loss, or train all objects at once'
            )
            raise ValueError(msg)
        return None, None, *(weight * gradient for gradient in ctx.saved_tensors)
