"""Tracks batches of clips in training, all objects at once or group by group."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...ops import resize_masks
from ...structures import (
    ClipBatch,
    ClipTargets,
    FrameOutput,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)
from ..memory_bank import MemoryQuery, MemoryStore
from ..prompt_simulator import ClickGenerators, PromptPlan, SAM2PromptSimulator
from .frame import (
    FeatureObserver,
    FrameTask,
    SAMHeads,
    segment_frame,
    track_frame,
)


class PromptSource(Protocol):
    """Prompts the objects of a batch of clips; see :class:`ClipPrompts`."""

    @property
    def plan(self) -> PromptPlan:
        """Prompted frames, which must be annotated."""

    @property
    def num_corrections(self) -> int:
        """Number of correction clicks on a corrected frame."""

    def first_prompt(self, frame: int) -> FramePrompt | None:
        """Prompt all objects of a frame, if it is a conditioning frame."""

    def corrections(self, frame: int) -> Callable[[Tensor], PointPrompt] | None:
        """Function from mask logits (O, 1, H, W) to clicks, if the frame gets any."""


def track_clip(
    heads: SAMHeads,
    prompts: PromptSource,
    *,
    batch: ClipBatch,
    features: ImageFeatures,
    mode: TrackingMode,
    observe: FeatureObserver | None = None,
) -> tuple[FrameOutput, ...]:
    """Track all objects of a batch of clips.

    Args:
        features: Features of all frames, (B * T, ...), video-major.
        observe: Called with the features of each frame that attends to memories.

    Returns:
        The outputs of all frames, in their order in the clip.
    """
    plan, store = prompts.plan, MemoryStore()
    outputs: dict[int, FrameOutput] = {}
    order = tracking_order(plan, batch.num_frames)
    for frame in order:
        task = FrameTask(
            query=MemoryQuery(
                frame_index=frame, num_video_frames=batch.num_frames, mode=mode
            ),
            prompt=prompts.first_prompt(frame),
            uses_memory=frame not in plan.prompts,
            correct=prompts.corrections(frame),
            num_corrections=prompts.num_corrections,
            observe=observe,
        )
        frame_features = features.select(batch.frame_of_object(frame))  # (O, ...)
        if frame == order[-1]:  # no other frame will attend to it
            outputs[frame] = segment_frame(heads, frame_features, store, task)
        else:
            output = track_frame(heads, frame_features, store, task)
            is_conditioning = frame in plan.conditioning_frames
            store.add(frame, output.memory, conditioning=is_conditioning)
            outputs[frame] = output
    return tuple(outputs[frame] for frame in sorted(outputs))


def tracking_order(plan: PromptPlan, num_frames: int) -> list[int]:
    """Order in which frames are tracked: prompted ones first, then the others."""
    others = (frame for frame in range(num_frames) if frame not in plan.prompts)
    return [*plan.prompts, *others]


class ClipPrompts:
    """Simulated prompts of a batch of clips, drawn in the order of tracking.

    Attributes:
        first_prompts: The prompts that were drawn, by frame.
        clicks: The correction clicks that were drawn, by frame.
    """

    def __init__(
        self, simulator: SAM2PromptSimulator, batch: ClipBatch, plan: PromptPlan
    ) -> None:
        self.simulator = simulator
        self.plan = plan
        self.targets = batch.targets
        self.generators = ClickGenerators(
            batch.seeds, batch.objects_per_clip, batch.frames.device
        )
        self.first_prompts: dict[int, FramePrompt] = {}
        self.clicks: dict[int, list[PointPrompt]] = {}

    @property
    def num_corrections(self) -> int:
        """Number of correction clicks on a corrected frame."""
        return self.simulator.num_corrections

    def first_prompt(self, frame: int) -> FramePrompt | None:
        """Prompt all objects of a frame, if it is a conditioning frame."""
        if frame not in self.plan.prompts:
            return None
        truth = self.targets.masks[frame][:, None]  # (O, 1, H, W)
        kind = self.plan.prompts[frame]
        prompt = self.simulator.first_prompt(kind, truth, self.generators)
        self.first_prompts[frame] = prompt
        return prompt

    def corrections(self, frame: int) -> Callable[[Tensor], PointPrompt] | None:
        """Function from mask logits (O, 1, H, W) to clicks, if the frame gets any."""
        if frame not in self.plan.correction_frames:
            return None
        truth, void = self.targets.masks[frame][:, None], self.targets.void
        frame_void = None if void is None else void[frame][:, None]
        clicks = self.clicks[frame] = []

        def correct(logits: Tensor) -> PointPrompt:
            click = self.simulator.correction(
                truth, logits > 0, self.generators, frame_void
            )
            clicks.append(click)
            return click

        return correct


class RepeatedPrompts:
    """The prompts of a batch of clips once more, for another model.

    Args:
        prompts: Prompts with which the clips were tracked.
        size: Height and width of the other model's frames, in pixels.
        from_size: Height and width of the frames that were tracked.
    """

    def __init__(
        self,
        prompts: ClipPrompts,
        *,
        size: tuple[int, int],
        from_size: tuple[int, int],
    ) -> None:
        self.prompts = prompts
        self.size = size
        self.from_size = from_size

    @property
    def plan(self) -> PromptPlan:
        """The same frames are prompted."""
        return self.prompts.plan

    @property
    def num_corrections(self) -> int:
        """Number of correction clicks on a corrected frame."""
        return self.prompts.num_corrections

    def first_prompt(self, frame: int) -> FramePrompt | None:
        """The prompt of a frame, at the size of the other model's frames."""
        prompt = self.prompts.first_prompts.get(frame)
        if prompt is None or self.size == self.from_size:
            return prompt
        points, mask = prompt.points, prompt.mask
        return FramePrompt(
            points=None if points is None else self._scaled(points),
            mask=None if mask is None else resize_masks(mask, self.size),
        )

    def corrections(self, frame: int) -> Callable[[Tensor], PointPrompt] | None:
        """Function that returns the clicks again, whatever the masks are."""
        if frame not in self.prompts.clicks:
            return None
        clicks = iter(self.prompts.clicks[frame])
        return lambda _: self._scaled(next(clicks))

    def _scaled(self, points: PointPrompt) -> PointPrompt:
        (height, width), (from_height, from_width) = self.size, self.from_size
        scale = points.coords.new_tensor([width / from_width, height / from_height])
        return replace(points, coords=points.coords * scale)


def preview_prompts(
    simulator: SAM2PromptSimulator, batch: ClipBatch, plan: PromptPlan
) -> dict[int, FramePrompt]:
    """Draw the first prompts that :func:`track_clip` gives, without a model.

    Returns:
        The prompt of each conditioning frame, for all objects of the batch.
    """
    plan = plan.where_annotated(batch.annotated_frames)
    prompts = ClipPrompts(simulator, batch, plan)
    for frame in tracking_order(plan, batch.num_frames):
        prompts.first_prompt(frame)
        correct = prompts.corrections(frame)
        if correct is not None:
            # Corrections depend on a model, but consume the same random numbers.
            no_logits = torch.zeros_like(batch.targets.masks[frame][:, None])
            for _ in range(simulator.num_corrections):
                correct(no_logits)
    return prompts.first_prompts


GroupLoss = Callable[[ClipBatch, ImageFeatures], Mapping[str, Tensor]]

# Far larger than differences between the seeds of clips, so that no two groups get the
# same random clicks.
SEED_STRIDE = 0x9E3779B97F4A7C15
NUM_SEEDS = 2**63


def split_objects(batch: ClipBatch, group_size: int) -> Iterator[ClipBatch]:
    """Split a batch into batches of the same clips with fewer objects."""
    targets = batch.targets
    clip_of_object = [
        clip for clip, count in enumerate(batch.objects_per_clip) for _ in range(count)
    ]
    for group, start in enumerate(range(0, len(clip_of_object), group_size)):
        objects = slice(start, start + group_size)
        clips = clip_of_object[objects]
        yield replace(
            batch,
            targets=ClipTargets(
                masks=targets.masks[:, objects],
                void=None if targets.void is None else targets.void[:, objects],
                annotated=targets.annotated[:, objects],
            ),
            objects_per_clip=tuple(
                clips.count(clip) for clip in range(len(batch.objects_per_clip))
            ),
            seeds=tuple(
                (seed + group * SEED_STRIDE) % NUM_SEEDS for seed in batch.seeds
            ),
        )


def losses_in_groups(
    groups: Iterator[ClipBatch],
    features: ImageFeatures,
    parameters: Sequence[Tensor],
    loss: GroupLoss,
) -> dict[str, Tensor]:
    """Sum the losses of groups of objects, holding one group's graph at a time.

    Each group is differentiated immediately with respect to the image features and the
    parameters. The backward pass of the training step then passes on the summed
    gradients, so the image encoder runs forward and backward only once.

    Args:
        groups: Batches from :func:`split_objects`.
        features: Features of all frames, with their graph.
        parameters: All parameters that the loss uses, but not the features.

    Raises:
        ValueError: In the backward pass, if the terms have different weights.
    """
    levels = {
        'embedding': features.embedding,
        'high_res_8': features.high_res_8,
        'high_res_4': features.high_res_4,
    }
    with_graph = {name: map_ for name, map_ in levels.items() if map_ is not None}
    without_graph: dict[str, Any] = {
        name: tensor.detach().requires_grad_(tensor.requires_grad)
        for name, tensor in with_graph.items()
    }
    detached = replace(features, **without_graph)
    inputs = [
        tensor
        for tensor in (*without_graph.values(), *parameters)
        if tensor.requires_grad
    ]
    gradients: list[Tensor | None] = [None] * len(inputs)
    totals: dict[str, Tensor] = {}
    for group in groups:
        terms = loss(group, detached)
        for index, gradient in enumerate(_differentiate(terms, inputs)):
            if gradient is not None:
                total = gradients[index]
                gradients[index] = gradient if total is None else total + gradient
        for name, term in terms.items():
            totals[name] = totals.get(name, 0) + term.detach()
    outer = [
        tensor for tensor in (*with_graph.values(), *parameters) if tensor.requires_grad
    ]
    pairs = [
        (tensor, gradient)
        for tensor, gradient in zip(outer, gradients, strict=True)
        if gradient is not None
    ]
    values: Tensor = _Differentiated.apply(  # type: ignore[no-untyped-call]  # torch
        torch.stack(list(totals.values())),
        [gradient for _, gradient in pairs],
        *(tensor for tensor, _ in pairs),
    )
    return dict(zip(totals, values.unbind(), strict=True))


def _differentiate(
    terms: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Gradients of the sum of the terms; None for inputs that it does not depend on."""
    total = torch.stack(list(terms.values())).sum()
    if not total.requires_grad:
        return [None] * len(inputs)
    return torch.autograd.grad(total, inputs, allow_unused=True)


class _Differentiated(torch.autograd.Function):
    """Identity on loss terms whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, gradients: Sequence[Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        is_equal = (weights == weights[0]).all()
        if weights.device.type == 'cpu' and not is_equal:
            msg = (
                'The loss terms of groups of objects need equal weights, but they are '
                f'{weights.tolist()}; set the weights in the config of the loss, or '
                'train all objects at once'
            )
            raise ValueError(msg)
        # Raising would wait for a GPU: there, NaN gradients make the step be skipped.
        weight = torch.where(is_equal, weights[0], torch.nan)
        return None, None, *(weight * gradient for gradient in ctx.saved_tensors)
