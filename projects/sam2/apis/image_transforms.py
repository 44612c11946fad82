"""Scales images and prompts to the size that the model sees, and masks back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from projects.sam2.apis.image_decoding import MaskRepair, preprocess_image
from projects.sam2.apis.inputs import ImageLike, Setting, read_image, read_number
from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.ops import at_least_float32, upsample_logits

__all__ = ['SAM2Transforms']


class SAM2Transforms:
    """What the released image predictor does before and after the model.

    Args:
        resolution: Side of the square images that the model sees, or (height, width).
        mask_threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels of the stride-4 mask.
        max_sprinkle_area: Drop parts of up to so many pixels of the stride-4 mask.
        preprocessor: Normalises images; by default as released models expect it.
    """

    mask_threshold = Setting('repair', 'threshold', read_number)
    max_hole_area = Setting('repair', 'max_hole_area', read_number)
    max_sprinkle_area = Setting('repair', 'max_speck_area', read_number)

    def __init__(
        self,
        resolution: int | tuple[int, int],
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        *,
        preprocessor: ClipDataPreprocessor | None = None,
    ) -> None:
        self.resolution = resolution
        size = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.preprocessor = preprocessor or ClipDataPreprocessor(image_size=size)
        self.repair = MaskRepair()
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area

    def __call__(self, x: ImageLike) -> Tensor:
        """Prepare an image.

        Args:
            x: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            (3, H, W), normalised.
        """
        image = read_image(x, name='The image')
        return preprocess_image(self.preprocessor, image)[0]

    def forward_batch(self, img_list: Sequence[ImageLike]) -> Tensor:
        """Prepare images of any sizes.

        Args:
            img_list: Each as for a call.

        Returns:
            (B, 3, H, W), normalised.
        """
        return torch.stack([self(image) for image in img_list])

    def transform_coords(
        self,
        coords: Tensor,
        normalize: bool = False,  # noqa: FBT001, FBT002  the release's order
        orig_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Scale points to the image that the model sees, without clamping.

        Args:
            coords: (..., 2), ``(x, y)``.
            normalize: The points are pixels of the image, not shares of its sides.
            orig_hw: Height and width of the image.

        Returns:
            (..., 2), pixels.

        Raises:
            ValueError: If pixels come without the size of the image.
        """
        height, width = self.preprocessor.image_size
        if normalize:
            if orig_hw is None:
                msg = 'normalize=True needs orig_hw, (height, width) of the image'
                raise ValueError(msg)
            coords = coords / coords.new_tensor([orig_hw[1], orig_hw[0]])
        return coords * coords.new_tensor([width, height])

    def transform_boxes(
        self,
        boxes: Tensor,
        normalize: bool = False,  # noqa: FBT001, FBT002  the release's order
        orig_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Scale boxes to the image that the model sees.

        Args:
            boxes: (..., 4), corners ``(x, y, x, y)``.
            normalize: As for :meth:`transform_coords`.
            orig_hw: As for :meth:`transform_coords`.

        Returns:
            (O, 2, 2), corners in pixels.
        """
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Tensor, orig_hw: tuple[int, int]) -> Tensor:
        """Repair masks and enlarge them.

        Args:
            masks: (O, M, H4, W4), logits.
            orig_hw: Height and width of the image.

        Returns:
            (O, M, height, width), logits.
        """
        repaired = self.repair(at_least_float32(masks))
        return upsample_logits(repaired, (orig_hw[0], orig_hw[1]))
