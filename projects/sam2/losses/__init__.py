"""Losses: pure functions, and the registered sum over frames and steps."""

from .functional import (
    FocalShape,
    dice_loss,
    focal_elements,
    mask_ious,
    sigmoid_focal_loss,
)
from .multi_step import SAM2MultiStepLoss

__all__ = [
    'FocalShape',
    'SAM2MultiStepLoss',
    'dice_loss',
    'focal_elements',
    'mask_ious',
    'sigmoid_focal_loss',
]
