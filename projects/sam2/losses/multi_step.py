"""The training loss of SAM 2 (Ravi et al., 2024, appendix D.2.2).

``SAM2MultiStepLoss`` sums the losses of all frames and decoder steps; the functions
below it are the losses of masks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..ops import at_least_float32, count_pixels, mask_ious, upsample_logits
from ..structures import ClipTargets, DecoderStep, FrameOutput

LossObserver = Callable[[FrameOutput, Sequence[Mapping[str, Tensor]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalShape:
    """How a focal loss weighs its elements (Lin et al., 2017).

    Attributes:
        alpha: Weight of positive elements; negative ones get ``1 - alpha``. None
            weighs both alike.
        gamma: Exponent that reduces the loss of elements that are already right; 0
            gives binary cross-entropy.
    """

    alpha: float | None
    gamma: float


FocalConfig = FocalShape | Mapping[str, Any]
MASK_FOCAL = FocalShape(alpha=0.25, gamma=2.0)
BINARY_CROSS_ENTROPY = FocalShape(alpha=None, gamma=0.0)


@MODELS.register_module()
class SAM2MultiStepLoss(nn.Module):
    """Sum of the losses over all frames of a clip and all decoder steps of a frame.

    Among the candidate masks, only the one with the lowest focal and Dice loss is
    trained, whereas the IoU estimates of all candidates are. An object that is not in
    the frame trains only its object score. Everything is computed in float32 at least,
    also under autocast.

    Args:
        mask_weight: Weight of the focal loss of the masks.
        dice_weight: Weight of their Dice loss.
        iou_weight: Weight of the error of the IoU estimates.
        class_weight: Weight of the loss of the object scores. A term of weight 0 is
            reported as 0 and has no graph.
        mask_focal: Shape of the focal loss of the masks.
        class_focal: Shape of the focal loss of the object scores; None for a model
            without object scores, whose objects count as present on every frame.
        supervise_all_ious: Train the IoU estimates of all candidates, not only that
            of the best one.
        iou_l1: Take the absolute error of the IoU estimates, not the squared one.

    Example:
        >>> loss = MODELS.build(dict(type='SAM2MultiStepLoss', class_weight=0.5))
        >>> losses = loss(outputs, batch.targets)  # outputs of track_clip
        >>> sum(losses.values()).backward()
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
        self.mask_focal = _focal_shape(mask_focal)
        self.class_focal = None if class_focal is None else _focal_shape(class_focal)
        self.supervise_all_ious = supervise_all_ious
        self.iou_l1 = iou_l1
        self.observer: LossObserver | None = None  # called with the steps of a frame

    def forward(
        self,
        outputs: Sequence[FrameOutput],
        targets: ClipTargets,
        *,
        num_objects: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch of clips.

        Args:
            num_objects: Number to divide by, if these are not all objects of the
                training step; by default :meth:`count_objects`.

        Returns:
            ``loss_mask``, ``loss_dice``, ``loss_iou`` and ``loss_class``: scalars,
            weighted, summed over frames and steps, and divided by the number of
            objects. Their sum is minimised.
        """
        zero = torch.zeros((), device=targets.masks.device)
        totals = dict.fromkeys(self.weights, zero)
        for output in outputs:
            frame = output.frame_index
            terms = self.frame_losses(
                output,
                masks=targets.masks[frame][:, None],
                void=None if targets.void is None else targets.void[frame][:, None],
                annotated=targets.annotated[frame],
            )
            totals = {name: totals[name] + terms[name] for name in totals}
        if num_objects is None:
            num_objects = self.count_objects(targets)
        return {name: total / num_objects for name, total in totals.items()}

    def count_objects(self, targets: ClipTargets) -> Tensor:
        """Mean number of objects over all processes, at least 1; a collective."""
        num_objects, device = float(targets.masks.shape[1]), targets.masks.device
        # Filled on the device: a copy from the host would wait.
        count = torch.full((), num_objects, device=device)
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
        """Compute the loss of one frame.

        Args:
            masks: Ground truth, (O, 1, H, W), bool.
            void: Pixels to leave out, (O, 1, H, W), bool, or None.
            annotated: (O,), bool; an object without annotation contributes nothing.

        Returns:
            The terms of :meth:`forward` for the frame, weighted and summed over
            steps and objects, but not divided by the number of objects.
        """
        # Half precision would lose small areas among a million pixels.
        with torch.autocast(masks.device.type, enabled=False):
            steps = [
                self._step_losses(step, masks, void, annotated) for step in output.steps
            ]
        if self.observer is not None:
            self.observer(output, steps)
        return {
            name: torch.stack([terms[name] for terms in steps]).sum()
            for name in self.weights
        }

    def _step_losses(
        self, step: DecoderStep, masks: Tensor, void: Tensor | None, annotated: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms of one decoder step, summed over objects."""
        logits = at_least_float32(
            step.candidate_logits if step.full_logits is None else step.full_logits
        )
        focal, dice, ious = self._score_candidates(logits, masks, void)  # (O, M) each
        mask_loss = self.weights['loss_mask'] * focal + self.weights['loss_dice'] * dice
        objects = torch.arange(len(logits), device=logits.device)
        best = mask_loss.argmin(dim=1)
        best_focal, best_dice = recompute_in_backward(
            logits[objects, best][:, None],
            focal[objects, best],
            dice[objects, best],
            lambda best_logits: self._mask_losses(best_logits, masks, void),
        )
        error = at_least_float32(step.candidate_ious) - ious
        error = error.abs() if self.iou_l1 else error.square()
        iou = error.mean(dim=1) if self.supervise_all_ious else error[objects, best]
        present = masks.flatten(1).any(dim=1)  # (O,)
        if self.class_focal is None:
            has_mask = annotated
            object_score = torch.zeros_like(best_focal)
        else:
            has_mask = annotated & present
            object_score = focal_elements(
                at_least_float32(step.object_score_logits)[:, 0],
                present,
                self.class_focal,
            )
        terms = {
            'loss_mask': best_focal * has_mask,
            'loss_dice': best_dice * has_mask,
            'loss_iou': iou * has_mask,
            'loss_class': object_score * annotated,
        }
        return {
            # A term of weight 0 has no graph: its parameters keep grad None.
            name: weight * (terms[name] if weight else terms[name].detach()).sum()
            for name, weight in self.weights.items()
        }

    def _mask_losses(
        self, logits: Tensor, masks: Tensor, void: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Focal and Dice loss of one mask (O, 1, …) per object, (O,) each."""
        full = upsample_logits(logits, (masks.shape[-2], masks.shape[-1]))
        focal = sigmoid_focal_loss(full, masks, shape=self.mask_focal, void=void)
        return focal[:, 0], dice_loss(full, masks, void=void)[:, 0]

    @torch.no_grad()
    def _score_candidates(
        self, logits: Tensor, masks: Tensor, void: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Focal loss, Dice loss and true IoU of each candidate, (O, M) each."""
        scores = []
        # One at a time: only one candidate is held at full resolution.
        for candidate in logits.split(1, dim=1):
            full = upsample_logits(candidate, (masks.shape[-2], masks.shape[-1]))
            ious = mask_ious(full > 0, masks, void, empty_iou=0.0, dtype=full.dtype)
            scores.append((*self._mask_losses(full, masks, void), ious[:, 0]))
        focal, dice, ious = (
            torch.stack(parts, dim=1) for parts in zip(*scores, strict=True)
        )
        return focal, dice, ious


def _focal_shape(config: FocalConfig) -> FocalShape:
    return config if isinstance(config, FocalShape) else FocalShape(**config)


def focal_elements(logits: Tensor, truth: Tensor, shape: FocalShape) -> Tensor:
    """Focal loss of each element.

    Args:
        truth: Bool, of a shape that broadcasts to that of ``logits``.
    """
    # Products instead of torch.where, which is many times slower on a CPU.
    positive = truth.to(logits.dtype)
    # The logit of a wrong prediction: one formula for positive and negative elements.
    wrong = logits * (1 - 2 * positive)
    loss = functional.softplus(wrong)
    if shape.gamma:
        loss = loss * wrong.sigmoid() ** shape.gamma
    if shape.alpha is not None:
        loss = loss * (1 - shape.alpha + (2 * shape.alpha - 1) * positive)
    return loss


def sigmoid_focal_loss(
    logits: Tensor,
    truth: Tensor,
    *,
    shape: FocalShape = MASK_FOCAL,
    void: Tensor | None = None,
) -> Tensor:
    """Mean focal loss over the pixels of each mask.

    Args:
        logits: (O, M, H, W).
        truth: (O, 1, H, W), bool.
        shape: Weights of the pixels.
        void: Pixels to leave out, (O, 1, H, W), bool, or None.

    Returns:
        (O, M); 0 for an object with void pixels only.
    """
    elements = focal_elements(logits, truth, shape)
    if void is None:
        return elements.flatten(2).mean(dim=2)
    num_valid = count_pixels(~void).clamp(min=1)
    return elements.masked_fill(void, 0.0).flatten(2).sum(dim=2) / num_valid


def dice_loss(logits: Tensor, truth: Tensor, *, void: Tensor | None = None) -> Tensor:
    """Dice loss of soft masks.

    Args:
        logits: (O, M, H, W).
        truth: (O, 1, H, W), bool.
        void: Pixels to leave out, (O, 1, H, W), bool, or None.

    Returns:
        (O, M), between 0 and 1. One pixel is added to both areas, so that two empty
        masks have no loss.
    """
    probs = logits.sigmoid()
    if void is not None:
        probs = probs.masked_fill(void, 0.0)
        truth = truth & ~void
    overlap = (probs * truth.to(probs.dtype)).flatten(2).sum(dim=2)
    areas = probs.flatten(2).sum(dim=2) + count_pixels(truth)
    return 1 - (2 * overlap + 1) / (areas + 1)


MaskLosses = Callable[[Tensor], tuple[Tensor, Tensor]]


def recompute_in_backward(
    logits: Tensor, focal: Tensor, dice: Tensor, mask_losses: MaskLosses
) -> tuple[Tensor, Tensor]:
    """Attach a graph to losses that are already computed; backward recomputes them.

    So no full-resolution logits are saved for the backward pass. Activation
    checkpointing would not save them either, but would compute the known losses a
    second time in forward.

    Args:
        logits: The chosen masks, (O, 1, H4, W4).
        focal: First result of ``mask_losses``, (O,), without graph.
        dice: Second result of ``mask_losses``, (O,), without graph.

    Returns:
        ``focal`` and ``dice``, once differentiable with respect to ``logits``.
    """
    if torch.compiler.is_compiling():
        # torch.compile cannot trace a backward pass that calls autograd itself, and
        # decides on its own what to recompute.
        return mask_losses(logits)
    losses: tuple[Tensor, Tensor] = _RecomputedLosses.apply(  # type: ignore[no-untyped-call]  # torch
        logits, focal, dice, mask_losses
    )
    return losses


class _RecomputedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, focal: Tensor, dice: Tensor, mask_losses: MaskLosses
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits)
        ctx.mask_losses = mask_losses
        return focal.clone(), dice.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, focal_gradient: Tensor, dice_gradient: Tensor
    ) -> tuple[Tensor, None, None, None]:
        logits = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            losses = ctx.mask_losses(logits)
        (gradient,) = torch.autograd.grad(
            losses, logits, (focal_gradient, dice_gradient)
        )
        return gradient, None, None, None
