"""The mask loss of SAM 2 for heads of mmdetection and mmsegmentation.

It is 20 times the focal loss plus the Dice loss of each mask (Ravi et al., 2024,
appendix D.2.2), in the interface that the heads of each package call.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..losses import FocalShape, dice_loss, sigmoid_focal_loss
from ..losses.multi_step import MASK_FOCAL
from ..ops import at_least_float32


@MODELS.register_module()
class SAM2MaskLoss(nn.Module):
    """Loss of the masks that a mask head of mmdetection predicts.

    ::

        mask_head = dict(type='FCNMaskHead', loss_mask=dict(type='SAM2MaskLoss'))

    Args:
        mask_weight: Weight of the focal loss.
        dice_weight: Weight of the Dice loss.
        mask_focal: Shape of the focal loss, see :class:`FocalShape`.
    """

    def __init__(
        self,
        *,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        mask_focal: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.weights = (mask_weight, dice_weight)
        self.mask_focal = MASK_FOCAL if mask_focal is None else FocalShape(**mask_focal)

    def forward(self, pred: Tensor, target: Tensor, label: Tensor) -> Tensor:
        """Compute the mean loss over N objects.

        Args:
            pred: Logits of a mask for each class, (N, classes, h, w).
            target: Ground truth, (N, h, w), 0 or 1.
            label: Class of each object, (N,), whose mask is trained; zeros for a head
                that knows no classes.

        Returns:
            A scalar; 0, with a graph, without objects.
        """
        if not len(pred):
            return pred.sum()
        objects = torch.arange(len(pred), device=pred.device)
        logits = at_least_float32(pred[objects, label])[:, None]  # (N, 1, h, w)
        truth = target[:, None] > 0.5
        focal = sigmoid_focal_loss(logits, truth, shape=self.mask_focal)
        dice = dice_loss(logits, truth)
        mask_weight, dice_weight = self.weights
        return (mask_weight * focal + dice_weight * dice).mean()


@MODELS.register_module()
class SAM2SegLoss(nn.Module):
    """Loss of the class maps that a decode head of mmsegmentation predicts.

    ::

        decode_head = dict(type='UPerHead', loss_decode=dict(type='SAM2SegLoss'))

    Each class of an image is a mask, against all other classes. Masks of all classes
    get the focal loss, those of the classes that the image shows the Dice loss as well.

    Args:
        mask_weight: Weight of the focal loss.
        dice_weight: Weight of the Dice loss.
        mask_focal: Shape of the focal loss, see :class:`FocalShape`.
        loss_name: Name in the log; a loss is trained if it begins with ``loss``.
    """

    def __init__(
        self,
        *,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        mask_focal: Mapping[str, Any] | None = None,
        loss_name: str = 'loss_mask',
    ) -> None:
        super().__init__()
        self.weights = (mask_weight, dice_weight)
        self.mask_focal = MASK_FOCAL if mask_focal is None else FocalShape(**mask_focal)
        self.loss_name = loss_name

    def forward(
        self,
        seg_logits: Tensor,
        seg_label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss of a batch, per class that an image shows.

        Args:
            seg_logits: (B, classes, H, W).
            seg_label: (B, H, W), int64.
            weight: (B, H, W); pixels of weight 0 are left out, as pixel samplers want.
            ignore_index: Label of pixels to leave out.

        Returns:
            A scalar: the sum over all masks, divided by the number of those that an
            image shows.
        """
        logits = at_least_float32(seg_logits).flatten(0, 1)[:, None]  # (B * C, 1, H, W)
        num_classes = seg_logits.shape[1]
        classes = torch.arange(num_classes, device=seg_label.device)
        truth = (seg_label[:, None] == classes[:, None, None]).flatten(0, 1)[:, None]
        void = seg_label == ignore_index
        if weight is not None:
            void = void | (weight == 0)
        void = void.repeat_interleave(num_classes, dim=0)[:, None]  # (B * C, 1, H, W)
        focal = sigmoid_focal_loss(logits, truth, shape=self.mask_focal, void=void)
        dice = dice_loss(logits, truth, void=void)
        shown = (truth & ~void).flatten(1).any(dim=1)
        mask_weight, dice_weight = self.weights
        total = mask_weight * focal.sum() + dice_weight * dice[shown].sum()
        return total / shown.sum().clamp(min=1)
