"""A plain training step for comparison, which saves all that autograd would save.

Every candidate mask is upsampled and scored with its graph, attention is written out,
windows are padded before they are projected, and nothing is recomputed.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from projects.sam2.losses import SAM2MultiStepLoss, dice_loss, focal_elements
from projects.sam2.models.hiera import HieraAttention
from projects.sam2.models.layers import attention, checkpointing, cpu
from projects.sam2.models.layers.mlp import Dropout, ReLUDropout
from projects.sam2.models.layers.windows import join_windows, pool, split_windows
from projects.sam2.ops import at_least_float32, mask_ious, upsample_logits
from projects.sam2.structures import DecoderStep

__all__ = ['plain_way']


@contextmanager
def plain_way(*, fused_attention: bool = False) -> Iterator[None]:
    """Let models train in the plain way inside a ``with`` block.

    Args:
        fused_attention: Attend with torch's kernel, as is usual on a GPU, where the
            matrices of weights would fill the memory.
    """
    attend = fused_kernel if fused_attention else plain_attention
    with ExitStack() as changes:
        for owner, name, plain in (
            (checkpointing, 'SMALLEST_BYTES', math.inf),
            (attention, 'attend', attend),
            (cpu, 'prefers_narrow_values', lambda *_: False),
            (HieraAttention, 'forward', plain_windows),
            (Dropout, 'forward', plain_dropout),
            (ReLUDropout, 'forward', plain_relu_dropout),
            (SAM2MultiStepLoss, '_step_losses', plain_step_losses),
        ):
            changes.enter_context(patch.object(owner, name, plain))
        yield


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0
) -> Tensor:
    """Compute attention step by step; autograd saves the matrix of weights."""
    logits = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    return functional.dropout(logits.softmax(dim=-1), dropout) @ value


def fused_kernel(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0
) -> Tensor:
    """Compute attention with the kernel that torch chooses."""
    return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)


def plain_windows(self: HieraAttention, maps: Tensor, *, window_size: int) -> Tensor:
    """Compute attention in windows that are padded before they are projected."""
    height, width = maps.shape[1:3]
    window = window_size or height, window_size or width
    padding = (0, 0, 0, -width % window[1], 0, -height % window[0])
    windows = split_windows(functional.pad(maps, padding), window)
    query, key, value = self.qkv(windows).chunk(3, dim=-1)
    query = pool(query) if self.pools else query
    gathered = attention.attend(  # the one that plain_way chose
        *(
            part.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (query, key, value)
        )
    )
    joined = gathered.transpose(1, 2).flatten(2).unflatten(1, query.shape[1:3])
    attended = join_windows(
        self.output(joined), -(-height // window[0]), -(-width // window[1])
    )
    stride = 2 if self.pools else 1
    return attended[:, : height // stride, : width // stride]


def plain_dropout(self: Dropout, tensor: Tensor) -> Tensor:
    """Apply torch's dropout."""
    return functional.dropout(tensor, self.rate, self.training)


def plain_relu_dropout(self: ReLUDropout, tensor: Tensor) -> Tensor:
    """Apply torch's ReLU, then its dropout."""
    return functional.dropout(functional.relu(tensor), self.rate, self.training)


def plain_focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the focal loss of masks as it is usually written: (O, M)."""
    target = truth.to(logits.dtype).expand_as(logits)
    probs = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(
        logits, target, reduction='none'
    )
    agreement = probs * target + (1 - probs) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    return (alpha * entropy * (1 - agreement) ** 2).flatten(2).mean(dim=2)


def plain_step_losses(
    self: SAM2MultiStepLoss,
    step: DecoderStep,
    masks: Tensor,
    void: Tensor | None,
    annotated: Tensor,
) -> dict[str, Tensor]:
    """Score every candidate with its graph; the best one counts."""
    logits = at_least_float32(
        step.candidate_logits if step.full_logits is None else step.full_logits
    )
    if void is not None:
        msg = 'The plain way does not support void pixels'
        raise NotImplementedError(msg)
    height, width = masks.shape[-2:]
    full = upsample_logits(logits, (height, width))
    focal, dice = plain_focal(full, masks), dice_loss(full, masks)
    combined = (
        self.weights['loss_mask'] * focal + self.weights['loss_dice'] * dice
    ).detach()
    best = combined.argmin(dim=1, keepdim=True)
    error = step.candidate_ious - mask_ious(
        full > 0, masks, empty_iou=0.0, dtype=full.dtype
    )
    error = error.abs() if self.iou_l1 else error.square()
    counts = present = masks.flatten(1).any(dim=1)
    if self.class_focal is None:
        counts, score = torch.ones_like(present), torch.zeros_like(focal[:, 0])
    else:
        score = focal_elements(
            step.object_score_logits[:, 0], present, self.class_focal
        )
    terms = {
        'loss_mask': focal.gather(1, best)[:, 0] * counts,
        'loss_dice': dice.gather(1, best)[:, 0] * counts,
        'loss_iou': (
            error.mean(dim=1)
            if self.supervise_all_ious
            else error.gather(1, best)[:, 0]
        )
        * counts,
        'loss_class': score,
    }
    return {
        name: self.weights[name] * (term * annotated).sum()
        for name, term in terms.items()
    }
