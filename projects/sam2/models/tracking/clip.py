"""Trains objects group by group: the memory of a step no longer grows with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...structures import (
    ClipBatch,
    ClipTargets,
    FrameOutput,
    ImageFeatures,
    TrackingMode,
)
from ..memory_bank import MemoryQuery, MemoryStore
from ..prompt_simulator import (
    ClickGenerators,
    PromptPlan,
    SAM2PromptSimulator,
    click_on_errors,
)
from .frame import (
    FrameTask,
    SAMHeads,
    segment_frame,
    track_frame,
)

GroupLoss = Callable[[ClipBatch, ImageFeatures], Mapping[str, Tensor]]

# Apart by more than neighbouring clips are, so that no two groups click alike.
SEED_STRIDE = 0x9E3779B97F4A7C15
NUM_SEEDS = 2**63


def groups_of_objects(batch: ClipBatch, size: int) -> Iterator[ClipBatch]:
    """Take the objects of a batch apart."""
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
        ctx: Any,
        values: Tensor,
        gradients: tuple[Tensor, ...],
        *inputs: Tensor,
    ) -> Tensor:
        """Hand the terms on."""
        ctx.save_for_backward(*gradients)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
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


def track_clip(
    heads: SAMHeads,
    simulator: SAM2PromptSimulator,
    *,
    batch: ClipBatch,
    features: ImageFeatures,
    plan: PromptPlan,
    mode: TrackingMode,
) -> tuple[FrameOutput, ...]:
    """Track all objects of a batch of clips, prompted as planned.

    Args:
        features: Of all frames, (B * T, ...), video-major.
        plan: Which frames are prompted; see :meth:`PromptPlan.where_annotated`.
    """
    clicks = ClickGenerators.seeded(batch.seeds, batch.video_of_object)
    store = MemoryStore()
    outputs: dict[int, FrameOutput] = {}
    order = tuple(tracking_order(plan, batch.num_frames))
    for frame in order:
        truth = batch.targets.masks[frame][:, None]
        void = batch.targets.void
        ignored = None if void is None else void[frame][:, None]
        prompted = frame in plan.prompts
        corrected = frame in plan.correction_frames
        task = FrameTask(
            query=MemoryQuery(
                frame_index=frame, num_video_frames=batch.num_frames, mode=mode
            ),
            prompt=simulator.first_prompt(plan.prompts[frame], truth, clicks)
            if prompted
            else None,
            uses_memory=not prompted,
            correct=partial(click_on_errors, simulator, clicks, truth, ignored)
            if corrected
            else None,
            num_corrections=simulator.num_corrections,
        )
        frame_features = features.select(batch.frame_of_object(frame))
        # Nothing attends to the frame that is tracked last.
        if frame == order[-1]:
            outputs[frame] = segment_frame(heads, frame_features, store, task)
            break
        outputs[frame] = tracked = track_frame(heads, frame_features, store, task)
        store.add(frame, tracked.memory, conditioning=frame in plan.conditioning_frames)
    return tuple(outputs[frame] for frame in sorted(outputs))


def tracking_order(plan: PromptPlan, num_frames: int) -> Iterator[int]:
    """Say in which order frames are tracked."""
    yield from plan.prompts
    yield from (frame for frame in range(num_frames) if frame not in plan.prompts)
