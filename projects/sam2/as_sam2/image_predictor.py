"""The image predictor with the types of the release's answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..apis import image_predictor
from ..apis.image_predictor import EncodedImage, LowResMasks

__all__ = ['SAM2ImagePredictor']


class SAM2ImagePredictor(image_predictor.SAM2ImagePredictor):
    """As ours, but masks are float32, 0 and 1: scripts subtract and resize them."""

    def _as_arrays(
        self, decoded: LowResMasks, image: EncodedImage, *, return_logits: bool
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Convert masks to float32; see the base class."""
        masks, ious, low_res = super()._as_arrays(
            decoded, image, return_logits=return_logits
        )
        return masks.astype(np.float32), ious, low_res
