"""The image predictor with masks of the released type."""

import torch

from ..apis import image_predictor

__all__ = ['SAM2ImagePredictor']


class SAM2ImagePredictor(image_predictor.SAM2ImagePredictor):
    """Our predictor with float32 masks of 0 and 1: scripts subtract and resize them."""

    _mask_dtype = torch.float32
