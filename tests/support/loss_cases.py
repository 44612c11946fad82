"""Decoder outputs made by hand, and the loss of SAM 2 written out plainly."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.registry import METRICS, MODELS
from torch import Tensor, distributed
from torch.nn import functional

import projects.sam2.losses  # noqa: F401  registers the parts
from projects.sam2.structures import ClipTargets, DecoderStep, FrameOutput

Result = TypeVar('Result')

NAMES = ('loss_mask', 'loss_dice', 'loss_iou', 'loss_class')


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What :class:`SAM2MultiStepLoss` is configured with, in one place."""

    weights: tuple[float, float, float, float] = (20.0, 1.0, 1.0, 1.0)
    alpha: float | None = 0.25
    gamma: float = 2.0
    all_ious: bool = True
    l1: bool = True

    def config(self) -> dict[str, Any]:
        """The same as a config of the loss."""
        weights = dict(
            zip(
                ('mask_weight', 'dice_weight', 'iou_weight', 'class_weight'),
                self.weights,
                strict=True,
            )
        )
        return {
            'type': 'SAM2MultiStepLoss',
            **weights,
            'mask_focal': {'alpha': self.alpha, 'gamma': self.gamma},
            'supervise_all_ious': self.all_ious,
            'iou_l1': self.l1,
        }


def make_step(
    logits: Tensor, ious: Tensor, scores: Tensor, full_logits: Tensor | None = None
) -> DecoderStep:
    """One answer with candidates (O, M, H4, W4), IoUs (O, M) and scores (O, 1)."""
    return DecoderStep(
        candidate_logits=logits,
        candidate_ious=ious,
        mask_logits=logits[:, :1],
        object_pointer=logits.new_zeros(len(logits), 2),
        object_score_logits=scores,
        full_logits=full_logits,
    )


def make_output(frame_index: int, steps: Sequence[DecoderStep]) -> FrameOutput:
    """The steps of a frame."""
    return FrameOutput(frame_index=frame_index, steps=tuple(steps))


def random_step(
    num_candidates: int,
    generator: torch.Generator,
    *,
    num_objects: int = 3,
    size: tuple[int, int] = (4, 6),
    dtype: torch.dtype = torch.float32,
) -> DecoderStep:
    """An answer of noise whose tensors ask for gradients."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits = 3 * noise(num_objects, num_candidates, *size)
    ious = noise(num_objects, num_candidates).sigmoid()
    scores = 2 * noise(num_objects, 1)
    leaves = [leaf.to(dtype).requires_grad_() for leaf in (logits, ious, scores)]
    return make_step(*leaves)


def leaves(outputs: Sequence[FrameOutput]) -> list[Tensor]:
    """What the decoder gave, to ask for gradients of."""
    return [
        leaf
        for output in outputs
        for step in output.steps
        for leaf in (
            step.candidate_logits,
            step.candidate_ious,
            step.object_score_logits,
        )
    ]


def plain_losses(
    outputs: Sequence[FrameOutput], targets: ClipTargets, settings: Settings
) -> dict[str, Tensor]:
    """The loss object by object and candidate by candidate, all with a graph.

    Void pixels are cut out rather than masked.
    """
    num_objects = targets.masks.shape[1]
    sums = torch.zeros(4, dtype=torch.float64)
    for output in outputs:
        frame = output.frame_index
        for index in range(num_objects):
            if not targets.annotated[frame, index]:
                continue
            mask = targets.masks[frame, index]
            valid = torch.ones_like(mask)
            if targets.void is not None:
                valid = ~targets.void[frame, index]
            for step in output.steps:
                sums = sums + _plain_step(step, index, mask, valid, settings)
    weighted = sums * torch.tensor(settings.weights) / max(num_objects, 1)
    return dict(zip(NAMES, weighted, strict=True))


def _plain_step(
    step: DecoderStep, index: int, mask: Tensor, valid: Tensor, settings: Settings
) -> Tensor:
    """The four terms of one object, without their weights."""
    given = step.full_logits
    logits = step.candidate_logits if given is None else given
    enlarged = functional.interpolate(
        logits[index : index + 1].double(), size=mask.shape, mode='bilinear'
    )[0]
    target = mask[valid].double()
    candidates = []
    for estimate, pixels in zip(step.candidate_ious[index], enlarged, strict=True):
        focal, dice, iou = _plain_mask(pixels[valid], target, settings)
        error = estimate.double() - iou
        candidates.append((focal, dice, error.abs() if settings.l1 else error**2))
    mask_weight, dice_weight = settings.weights[:2]
    best = min(
        candidates, key=lambda c: mask_weight * c[0].item() + dice_weight * c[1].item()
    )
    iou_loss = best[2]
    if settings.all_ious:
        iou_loss = torch.stack([errors for _, _, errors in candidates]).mean()
    score = step.object_score_logits[index, 0].double()
    present = mask.any().double()
    class_loss = functional.binary_cross_entropy_with_logits(score, present)
    terms = (best[0] * present, best[1] * present, iou_loss * present, class_loss)
    return torch.stack(terms)


def _plain_mask(
    logits: Tensor, target: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, float]:
    """Focal loss, Dice loss and IoU of one mask, its valid pixels in a row."""
    probs = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(
        logits, target, reduction='none'
    )
    right = probs * target + (1 - probs) * (1 - target)
    focal = entropy * (1 - right) ** settings.gamma
    if settings.alpha is not None:
        focal = focal * (settings.alpha * target + (1 - settings.alpha) * (1 - target))
    dice = 1 - (2 * (probs * target).sum() + 1) / (probs.sum() + target.sum() + 1)
    predicted, true = logits > 0, target > 0
    shared, union = (predicted & true).sum(), (predicted | true).sum()
    return focal.mean(), dice, float(shared) / max(float(union), 1.0)


def in_processes(
    function: Callable[..., Result], world_size: int, folder: Path, *args: object
) -> list[Result]:
    """Call a function in processes that are joined by gloo.

    Args:
        folder: An empty one, where they meet.
    """
    context = get_context('forkserver')
    # Children are forked from a server that has imported the slow part already.
    context.set_forkserver_preload(['torch', 'mmengine.runner', 'projects.sam2'])
    with ProcessPoolExecutor(world_size, mp_context=context) as pool:
        futures = [
            pool.submit(_join, rank, world_size, folder / 'meet', function, args)
            for rank in range(world_size)
        ]
        return [future.result(timeout=90) for future in futures]


def _join(
    rank: int,
    world_size: int,
    file: Path,
    function: Callable[..., Result],
    args: tuple[object, ...],
) -> Result:
    """Enter the process group, call, and leave it."""
    torch.set_num_threads(1)
    os.chdir(file.parent)  # MMEngine collects results in a folder beneath
    distributed.init_process_group(
        'gloo', init_method=f'file://{file}', rank=rank, world_size=world_size
    )
    try:
        return function(*args)
    finally:
        distributed.destroy_process_group()


def undecided_class_loss(num_objects: Sequence[int]) -> float:
    """Loss of object scores of 0, for as many objects as the process's rank says."""
    count = num_objects[distributed.get_rank()]
    masks = torch.ones(1, count, 8, 8, dtype=torch.bool)
    annotated = torch.ones(1, count, dtype=torch.bool)
    step = make_step(
        torch.zeros(count, 1, 2, 2), torch.ones(count, 1), torch.zeros(count, 1)
    )
    loss = MODELS.build({'type': 'SAM2MultiStepLoss'})
    targets = ClipTargets(masks=masks, void=None, annotated=annotated)
    value: float = loss([make_output(0, [step])], targets)['loss_class'].item()
    return value


def gathered_losses(
    shares: Sequence[list[dict[str, Any]]], size: int
) -> dict[str, float]:
    """What ``ClipLossMetric`` reports where each process has a share of the videos."""
    metric = METRICS.build({'type': 'ClipLossMetric'})
    metric.process(None, shares[distributed.get_rank()])
    reported: dict[str, float] = metric.evaluate(size)
    return reported
