"""Losses of masks against their truth, one number for each mask."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ..ops import count_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalShape:
    """How a focal loss weighs its elements (Lin et al., 2017).

    Attributes:
        alpha: Weight of true elements, the others having ``1 - alpha``; None weighs
            both alike.
        gamma: Exponent by which elements already judged well count less; 0 gives
            binary cross-entropy.
    """

    alpha: float | None
    gamma: float


MASK_FOCAL = FocalShape(alpha=0.25, gamma=2.0)
BINARY_CROSS_ENTROPY = FocalShape(alpha=None, gamma=0.0)


def focal_elements(logits: Tensor, truth: Tensor, shape: FocalShape) -> Tensor:
    """Score each element by the focal loss.

    Args:
        truth: Bool, of a shape that broadcasts to that of ``logits``.

    Returns:
        One loss for each logit.
    """
    # Products in place of torch.where, which a CPU runs many times slower.
    true = truth.to(logits.dtype)
    # The logit of being wrong: with it one formula serves true and false elements.
    wrong = logits * (1 - 2 * true)
    loss = functional.softplus(wrong)
    if shape.gamma:
        loss = loss * wrong.sigmoid() ** shape.gamma
    if shape.alpha is not None:
        loss = loss * (1 - shape.alpha + (2 * shape.alpha - 1) * true)
    return loss


def sigmoid_focal_loss(
    logits: Tensor,
    truth: Tensor,
    *,
    shape: FocalShape = MASK_FOCAL,
    void: Tensor | None = None,
) -> Tensor:
    """Average the focal loss over the pixels of each mask.

    Args:
        logits: (O, M, H, W).
        truth: (O, 1, H, W), bool.
        shape: Weights of the pixels.
        void: (O, 1, H, W), bool, pixels to leave out; None keeps all.

    Returns:
        (O, M); 0 for an object with nothing but void pixels.
    """
    elements = focal_elements(logits, truth, shape)
    if void is None:
        return elements.flatten(2).mean(dim=2)
    num_valid = count_pixels(~void).clamp(min=1)
    return elements.masked_fill(void, 0.0).flatten(2).sum(dim=2) / num_valid


def dice_loss(logits: Tensor, truth: Tensor, *, void: Tensor | None = None) -> Tensor:
    """Compare soft masks with the truth by their Dice coefficient.

    Args:
        logits: (O, M, H, W).
        truth: (O, 1, H, W), bool.
        void: (O, 1, H, W), bool, pixels to leave out; None keeps all.

    Returns:
        (O, M), between 0 and 1. One pixel is added to both areas, so that empty
        masks compare well.
    """
    probs = logits.sigmoid()
    if void is not None:
        probs = probs.masked_fill(void, 0.0)
        truth = truth & ~void
    shared = (probs * truth.to(probs.dtype)).flatten(2).sum(dim=2)
    areas = probs.flatten(2).sum(dim=2) + count_pixels(truth)
    return 1 - (2 * shared + 1) / (areas + 1)


def mask_ious(logits: Tensor, truth: Tensor, *, void: Tensor | None = None) -> Tensor:
    """Measure the intersection over union of binarised masks with the truth.

    Args:
        logits: (O, M, H, W); a pixel above 0 belongs to the mask.
        truth: (O, 1, H, W), bool.
        void: (O, 1, H, W), bool, pixels to leave out; None keeps all.

    Returns:
        (O, M), in the type of ``logits``, without gradient; 0 for an empty union.
    """
    masks = logits > 0
    if void is not None:
        masks = masks & ~void
        truth = truth & ~void
    union = count_pixels(masks | truth).clamp(min=1)
    return count_pixels(masks & truth).to(logits.dtype) / union
