"""Losses of chosen masks whose full-resolution logits are not kept for backward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..ops import at_least_float32, upsample_logits
from ..structures import ClipTargets, DecoderStep, FrameOutput
from .functional import (
    BINARY_CROSS_ENTROPY,
    MASK_FOCAL,
    FocalShape,
    dice_loss,
    focal_elements,
    mask_ious,
    sigmoid_focal_loss,
)

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
        ctx: Any,
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
        ctx: Any,
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


FocalConfig = FocalShape | Mapping[str, Any]
LossObserver = Callable[[FrameOutput, Sequence[Mapping[str, Tensor]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """Ground truth of the objects of one frame.

    Attributes:
        masks: (O, 1, H, W), bool.
        void: (O, 1, H, W), bool, pixels to leave out, or None.
        annotated: (O,), bool; an object without annotation contributes nothing.
    """

    masks: Tensor
    void: Tensor | None
    annotated: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScores:
    """How good each candidate mask is; nothing here has a graph.

    Attributes:
        focal: (O, M).
        dice: (O, M).
        iou: (O, M), measured against the truth.
    """

    focal: Tensor
    dice: Tensor
    iou: Tensor


@MODELS.register_module()
class SAM2MultiStepLoss(nn.Module):
    """Sum over frames and steps of what SAM 2 is trained on (appendix D.2.2).

    Where the decoder proposes several masks, the one with the least focal and Dice
    loss alone is trained, and the IoU estimate of all. Objects that are not in the
    frame train the object score only.

    Only the best mask is looked at with a graph, and its full-resolution logits are
    made again in the backward pass rather than kept. All is computed in float32 at
    least, under autocast too.

    Args:
        mask_weight: Of the focal loss of the masks.
        dice_weight: Of their Dice loss.
        iou_weight: Of the error of the IoU estimates.
        class_weight: Of the loss of the object scores. A term of weight 0 is
            reported as 0 and builds no graph.
        mask_focal: Shape of the focal loss of the masks.
        class_focal: Shape of the focal loss of the object scores; None for a model
            without object scores, whose objects count as present on every frame.
        supervise_all_ious: Whether the IoU estimates of all candidates are trained
            rather than that of the best one.
        iou_l1: Whether that error is absolute rather than squared.
    """

    def __init__(
        self,
        *,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        iou_weight: float = 1.0,
        class_weight: float = 1.0,
        mask_focal: FocalConfig = MASK_FOCAL,
        class_focal: FocalConfig | None = BINARY_CROSS_ENTROPY,
        supervise_all_ious: bool = True,
        iou_l1: bool = True,
    ) -> None:
        super().__init__()
        self.weights = {
            'loss_mask': mask_weight,
            'loss_dice': dice_weight,
            'loss_iou': iou_weight,
            'loss_class': class_weight,
        }
        self.mask_focal = _shape(mask_focal)
        self.class_focal = None if class_focal is None else _shape(class_focal)
        self.supervise_all_ious = supervise_all_ious
        self.iou_l1 = iou_l1
        self.observer: LossObserver | None = None  # told of each step of each frame

    def forward(
        self,
        outputs: Sequence[FrameOutput],
        targets: ClipTargets,
        *,
        num_objects: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score the outputs of a batch of clips.

        Args:
            num_objects: What the terms are divided by where these are not all objects
                of the step; by default :meth:`count_objects`.

        Returns:
            ``loss_mask``, ``loss_dice``, ``loss_iou`` and ``loss_class``, scalars,
            weighted, summed over frames and steps and divided by the number of
            objects. Their sum is minimised.
        """
        nothing = torch.zeros((), device=targets.masks.device)
        totals = dict.fromkeys(self.weights, nothing)
        for output in outputs:
            frame = output.frame_index
            void = None if targets.void is None else targets.void[frame][:, None]
            terms = self.frame_losses(
                output,
                masks=targets.masks[frame][:, None],
                void=void,
                annotated=targets.annotated[frame],
            )
            totals = {name: totals[name] + terms[name] for name in totals}
        if num_objects is None:
            num_objects = self.count_objects(targets)
        return {name: total / num_objects for name, total in totals.items()}

    def count_objects(self, targets: ClipTargets) -> Tensor:
        """Count what the terms of a step are divided by; all processes take part."""
        count = torch.tensor(float(targets.masks.shape[1]), device=targets.masks.device)
        all_reduce(count, op='mean')
        return count.clamp(min=1.0)

    def frame_losses(
        self,
        output: FrameOutput,
        *,
        masks: Tensor,
        void: Tensor | None,
        annotated: Tensor,
    ) -> dict[str, Tensor]:
        """Score the output of one frame.

        Args:
            masks: Ground truth, (O, 1, H, W), bool.
            void: Pixels to leave out, (O, 1, H, W), bool, or None.
            annotated: (O,), bool; an object without annotation contributes nothing.

        Returns:
            The terms of :meth:`forward` for the frame, weighted and summed over
            steps and objects, but not divided by the number of objects.
        """
        truth = FrameTruth(masks=masks, void=void, annotated=annotated)
        # Reduced precision would lose small areas among a million pixels.
        with torch.autocast(masks.device.type, enabled=False):
            steps = [self._step_losses(step, truth) for step in output.steps]
        if self.observer is not None:
            self.observer(output, steps)
        return {
            name: torch.stack([terms[name] for terms in steps]).sum()
            for name in self.weights
        }

    def _step_losses(self, step: DecoderStep, truth: FrameTruth) -> dict[str, Tensor]:
        """Weighted terms of one step, summed over objects."""
        logits = at_least_float32(
            step.candidate_logits if step.full_logits is None else step.full_logits
        )
        scores = self._score_candidates(logits, truth)
        combined = (
            self.weights['loss_mask'] * scores.focal
            + self.weights['loss_dice'] * scores.dice
        )
        objects = torch.arange(len(logits), device=logits.device)
        best = combined.argmin(dim=1)
        focal, dice = best_mask_losses(
            logits[objects, best][:, None],
            scores.focal[objects, best],
            scores.dice[objects, best],
            lambda best_logits: self._mask_losses(best_logits, truth),
        )
        error = at_least_float32(step.candidate_ious) - scores.iou
        error = error.abs() if self.iou_l1 else error.square()
        iou = error.mean(dim=1) if self.supervise_all_ious else error[objects, best]
        present = truth.masks.flatten(1).any(dim=1)
        counts = truth.annotated
        if self.class_focal is None:
            object_score = torch.zeros_like(focal)
        else:
            counts = counts & present
            object_score = focal_elements(
                at_least_float32(step.object_score_logits)[:, 0],
                present,
                self.class_focal,
            )
        return {
            'loss_mask': self._weighted('loss_mask', focal * counts),
            'loss_dice': self._weighted('loss_dice', dice * counts),
            'loss_iou': self._weighted('loss_iou', iou * counts),
            'loss_class': self._weighted('loss_class', object_score * truth.annotated),
        }

    def _weighted(self, name: str, terms: Tensor) -> Tensor:
        """Sum a term over objects; without weight it leaves no graph behind."""
        weight = self.weights[name]
        return weight * (terms if weight else terms.detach()).sum()

    def _mask_losses(self, logits: Tensor, truth: FrameTruth) -> tuple[Tensor, Tensor]:
        """Focal and Dice loss of one mask for each object, (O,) each."""
        height, width = truth.masks.shape[-2:]
        full = upsample_logits(logits, (height, width))
        focal = sigmoid_focal_loss(
            full, truth.masks, shape=self.mask_focal, void=truth.void
        )
        return focal[:, 0], dice_loss(full, truth.masks, void=truth.void)[:, 0]

    @torch.no_grad()
    def _score_candidates(self, logits: Tensor, truth: FrameTruth) -> CandidateScores:
        """Score all candidates, one at a time to keep the peak of memory low."""
        height, width = truth.masks.shape[-2:]
        focal, dice, iou = [], [], []
        for candidate in logits.split(1, dim=1):
            full = upsample_logits(candidate, (height, width))
            one_focal, one_dice = self._mask_losses(full, truth)
            focal.append(one_focal)
            dice.append(one_dice)
            iou.append(mask_ious(full, truth.masks, void=truth.void)[:, 0])
        return CandidateScores(
            focal=torch.stack(focal, dim=1),
            dice=torch.stack(dice, dim=1),
            iou=torch.stack(iou, dim=1),
        )


def _shape(config: FocalConfig) -> FocalShape:
    """Take a shape as it is, or build it from its config."""
    return config if isinstance(config, FocalShape) else FocalShape(**config)
