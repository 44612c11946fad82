"""The loss of SAM 2: a registered sum over frames and steps, and its pure functions."""

from .feature import SAM2FeatureLoss
from .multi_step import (
    FocalShape,
    SAM2MultiStepLoss,
    dice_loss,
    focal_elements,
    sigmoid_focal_loss,
)

__all__ = [
    'FocalShape',
    'SAM2FeatureLoss',
    'SAM2MultiStepLoss',
    'dice_loss',
    'focal_elements',
    'sigmoid_focal_loss',
]
