"""Interactive segmentation of images, with the calls that users of SAM 2 know."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self, Unpack

from projects.sam2.apis.building import BuildOptions, build_sam2
from projects.sam2.apis.image_decoding import (
    EncodedImage,
    LowResMasks,
    MaskRepair,
    decode_low_res,
    encode_images,
)
from projects.sam2.apis.inputs import (
    ImageLike,
    TensorLike,
    check_counts,
    one_for_each,
    read_image,
    read_mask_logits,
    read_points,
)
from projects.sam2.apis.pretrained import find_pretrained
from projects.sam2.models import SAM2
from projects.sam2.ops import upsample_logits

__all__ = ['SAM2ImagePredictor']

# Masks are bool, or float32 where logits are asked for.
Prediction = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]


class SAM2ImagePredictor:
    """Encodes an image once and answers prompts on it.

    Args:
        sam_model: As :func:`build_sam2` gives it.
        mask_threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels (of the stride-4 mask); 0
            leaves them.
        max_sprinkle_area: Drop parts of up to so many pixels (of the stride-4 mask);
            0 keeps them.
    """

    def __init__(
        self,
        sam_model: SAM2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        self.model = sam_model
        self.repair = MaskRepair(
            threshold=mask_threshold,
            max_hole_area=max_hole_area,
            max_speck_area=max_sprinkle_area,
        )
        self._images: tuple[EncodedImage, ...] = ()

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **options: Unpack[BuildOptions],
    ) -> Self:
        """Make a predictor by its model's name on Hugging Face.

        Args:
            model_id: See :func:`find_pretrained`.
            mask_threshold: See the class.
            max_hole_area: Likewise.
            max_sprinkle_area: Likewise.
            options: Those of :func:`build_sam2`.

        Returns:
            The predictor.

        Raises:
            OSError: If there is no such model, or no way to it.
        """
        model = build_sam2(*find_pretrained(model_id), **options)
        return cls(model, mask_threshold, max_hole_area, max_sprinkle_area)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def set_image(self, image: ImageLike) -> None:
        """Encode an image; prompts then refer to it.

        Args:
            image: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Raises:
            ValueError: If it is not RGB or not of 8 bits. The image before stays.
            TypeError: If it is no image at all.
        """
        self.set_image_batch([image])

    @torch.no_grad()
    def set_image_batch(self, image_list: Sequence[ImageLike]) -> None:
        """Encode several images in one batch, for :meth:`predict_batch`.

        Args:
            image_list: Images as for :meth:`set_image`, of any sizes.

        Raises:
            ValueError: If there is none, or one is not RGB or not of 8 bits. The
                images before stay.
            TypeError: If one is no image at all.
        """
        if not len(image_list):
            msg = 'image_list is empty; give at least one image'
            raise ValueError(msg)
        images = [
            read_image(image, name=f'Image {index}')
            for index, image in enumerate(image_list)
        ]
        self._images = encode_images(self.model, images)

    def predict(
        self,
        point_coords: TensorLike | None = None,
        point_labels: TensorLike | None = None,
        box: TensorLike | None = None,
        mask_input: TensorLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """Segment what the prompt means on the image that was set.

        Args:
            point_coords: (P, 2), ``(x, y)``, or (O, P, 2) for several objects.
            point_labels: (P,) or (O, P), 1 on the object, 0 outside of it.
            box: (4,), corners ``(x, y, x, y)``, or (O, 4) for several objects.
            mask_input: (1, H4, W4), logits of an earlier answer.
            multimask_output: Give three masks for an ambiguous prompt, not one.
            return_logits: Give logits, not masks.
            normalize_coords: Coordinates are pixels of the image; otherwise shares
                of its sides, in [0, 1].

        Returns:
            Masks (M, height, width), bool or logits; their estimated IoU (M,); and
            logits to be fed back (M, H4, W4). For several objects all have O before.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a prompt is malformed or outside of the image.
        """
        decoded = self._decode(
            self.image(0),
            (point_coords, point_labels, box),
            mask_input,
            multimask=multimask_output,
            in_pixels=normalize_coords,
        )
        return self._as_arrays(decoded, self.image(0), return_logits=return_logits)

    def predict_batch(
        self,
        point_coords_batch: Sequence[TensorLike | None] | None = None,
        point_labels_batch: Sequence[TensorLike | None] | None = None,
        box_batch: Sequence[TensorLike | None] | None = None,
        mask_input_batch: Sequence[TensorLike | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[NDArray[Any]], ...]:
        """Segment each of the images that were set, by its own prompts.

        Args:
            point_coords_batch: For each image as for :meth:`predict`.
            point_labels_batch: For each image as for :meth:`predict`.
            box_batch: For each image as for :meth:`predict`.
            mask_input_batch: For each image as for :meth:`predict`.
            multimask_output: Give three masks for an ambiguous prompt, not one.
            return_logits: Give logits, not masks.
            normalize_coords: Coordinates are pixels of the images.

        Returns:
            Three lists, one entry for each image: masks, estimated IoU and logits to
            be fed back.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a list has the wrong length, or a prompt is malformed.
        """
        self.image(0)
        columns = [
            one_for_each(batch, len(self._images), name)
            for batch, name in (
                (point_coords_batch, 'point_coords_batch'),
                (point_labels_batch, 'point_labels_batch'),
                (box_batch, 'box_batch'),
                (mask_input_batch, 'mask_input_batch'),
            )
        ]
        answers = []
        for index, (coords, labels, box, mask) in enumerate(zip(*columns, strict=True)):
            decoded = self._decode(
                self.image(index),
                (coords, labels, box),
                mask,
                multimask=multimask_output,
                in_pixels=normalize_coords,
            )
            answers.append(
                self._as_arrays(decoded, self.image(index), return_logits=return_logits)
            )
        return tuple(list(column) for column in zip(*answers, strict=True))

    def image(self, index: int) -> EncodedImage:
        """One of the images that were set.

        Args:
            index: Its position.

        Returns:
            The encoded image.

        Raises:
            RuntimeError: If no image was set.
        """
        if not self._images:
            msg = 'No image is set; call set_image first'
            raise RuntimeError(msg)
        return self._images[index]

    def get_image_embedding(self) -> Tensor:
        """Embedding of the image that was set.

        Returns:
            (1, C, H16, W16).

        Raises:
            RuntimeError: If no image was set.
        """
        return self.image(0).embedding

    def reset_predictor(self) -> None:
        """Forget the images."""
        self._images = ()

    @torch.no_grad()
    def _decode(
        self,
        image: EncodedImage,
        prompt: tuple[TensorLike | None, TensorLike | None, TensorLike | None],
        mask_input: TensorLike | None,
        *,
        multimask: bool,
        in_pixels: bool,
    ) -> LowResMasks:
        """Check points, labels, boxes and an earlier mask, and decode."""
        points, labels, box = prompt
        asked = read_points(
            points=points, labels=labels, box=box, size=image.size, in_pixels=in_pixels
        )
        earlier = None
        if mask_input is not None:
            low_res = (4 * image.cells[0], 4 * image.cells[1])
            earlier = read_mask_logits(mask_input, size=low_res, name='mask_input')
            earlier = earlier.to(self.device)
            check_counts(earlier, asked)
        return decode_low_res(
            self.model,
            image,
            points=asked,
            earlier_logits=earlier,
            multimask=multimask,
        )

    def _as_arrays(
        self, decoded: LowResMasks, image: EncodedImage, *, return_logits: bool
    ) -> Prediction:
        """Arrays; of a single object without the dimension of objects."""
        masks = upsample_logits(self.repair(decoded.logits), image.size)
        if not return_logits:
            masks = masks > self.repair.threshold
        parts = (masks, decoded.ious.float(), decoded.fed_back)
        one = len(masks) == 1
        first, second, third = ((p[0] if one else p).cpu().numpy() for p in parts)
        return first, second, third
