"""Encodes images once and decodes prompts on them, on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.models import SAM2
from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.ops import (
    at_least_float32,
    downsample_logits,
    fill_holes,
    remove_specks,
)
from projects.sam2.structures import PointPrompt

__all__ = [
    'EncodedImage',
    'LowResMasks',
    'MaskRepair',
    'decode_low_res',
    'encode_images',
    'points_of_model',
    'preprocess_image',
]

# Logits that are handed out and may be fed back stay in this range.
LOW_RES_LIMIT = 32.0
# How far from the threshold closed holes and dropped specks come to lie.
REPAIRED_MARGIN = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImage:
    """An image, ready to be prompted.

    Attributes:
        embedding: Stride-16 features as those of a video without memory,
            (1, C, H16, W16).
        high_res: Features of stride 8 and 4, projected for the decoder.
        size: Height and width of the image that was given.
    """

    embedding: Tensor
    high_res: tuple[Tensor, Tensor]
    size: tuple[int, int]

    @property
    def cells(self) -> tuple[int, int]:
        """H16 and W16."""
        return self.embedding.shape[-2], self.embedding.shape[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowResMasks:
    """Masks of one image, before they are repaired and enlarged.

    Attributes:
        logits: (O, M, H4, W4).
        ious: Estimated IoU of each mask, (O, M).
    """

    logits: Tensor
    ious: Tensor

    @property
    def fed_back(self) -> Tensor:
        """Logits that may be fed back, in a limited range, (O, M, H4, W4)."""
        return self.logits.clamp(-LOW_RES_LIMIT, LOW_RES_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRepair:
    """Closes small holes and drops small parts of masks.

    Attributes:
        threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels of the stride-4 mask.
        max_speck_area: Drop parts of up to so many pixels of the stride-4 mask.
    """

    threshold: float = 0.0
    max_hole_area: float = 0.0
    max_speck_area: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Repair masks.

        Args:
            logits: (O, M, H4, W4).

        Returns:
            (O, M, H4, W4); holes and parts are both looked for in ``logits``.
        """
        repaired = logits
        if self.max_hole_area > 0:
            repaired = fill_holes(
                logits,
                max_area=self.max_hole_area,
                value=self.threshold + REPAIRED_MARGIN,
                threshold=self.threshold,
            )
        if self.max_speck_area > 0:
            cleaned = remove_specks(
                logits,
                max_area=self.max_speck_area,
                value=self.threshold - REPAIRED_MARGIN,
                threshold=self.threshold,
            )
            repaired = torch.where(cleaned == logits, repaired, cleaned)
        return repaired


def preprocess_image(
    preprocessor: ClipDataPreprocessor, image: NDArray[np.uint8]
) -> Tensor:
    """Resize and normalise an image as the released image predictor does.

    Args:
        preprocessor: Of the model.
        image: (height, width, 3), RGB.

    Returns:
        (1, 3, H, W), on the device of the preprocessor.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    on_device = pixels[None].to(preprocessor.mean.device).float()
    return preprocessor.normalise(downsample_logits(on_device, preprocessor.image_size))


def encode_images(
    model: SAM2, images: Sequence[NDArray[np.uint8]]
) -> tuple[EncodedImage, ...]:
    """Encode images in one batch.

    Args:
        model: The model.
        images: Each (height, width, 3), RGB, of any size.

    Returns:
        One for each image.
    """
    preprocessor = model.data_preprocessor
    pixels = torch.cat([preprocess_image(preprocessor, image) for image in images])
    features = model.encode(pixels)
    embedding = model.tracker.recall(features, None)
    return tuple(
        EncodedImage(
            embedding=embedding[index : index + 1],
            high_res=(
                features.high_res_8[index : index + 1],
                features.high_res_4[index : index + 1],
            ),
            size=(image.shape[0], image.shape[1]),
        )
        for index, image in enumerate(images)
    )


def points_of_model(model: SAM2, shares: PointPrompt) -> PointPrompt:
    """Points as the model reads them.

    Args:
        model: The model.
        shares: Coordinates as shares of the sides.

    Returns:
        Coordinates in pixels of the frame that the model sees, on its device.
    """
    preprocessor = model.data_preprocessor
    height, width = preprocessor.image_size
    scaled = shares.coords * shares.coords.new_tensor([width, height])
    device = preprocessor.mean.device
    return PointPrompt(coords=scaled.to(device), labels=shares.labels.to(device))


def decode_low_res(
    model: SAM2,
    image: EncodedImage,
    *,
    points: PointPrompt | None,
    earlier_logits: Tensor | None,
    multimask: bool,
) -> LowResMasks:
    """Answer prompts on an image; object scores are not asked.

    Args:
        model: The model.
        image: The image.
        points: Points and boxes as shares of the sides, or None.
        earlier_logits: Masks of an earlier answer, (O | 1, 1, H4, W4), or None.
        multimask: Give three masks for an ambiguous prompt, not one.

    Returns:
        Masks as the decoder gives them.
    """
    embedded = model.prompt_encoder(
        points=None if points is None else points_of_model(model, points),
        mask_logits=earlier_logits,
        embedding_size=image.cells,
        num_objects=1 if points is None else len(points.coords),
    )
    answer = model.mask_decoder(
        embedding=image.embedding,
        position=model.prompt_encoder.dense_position(image.cells),
        prompts=embedded,
        high_res=image.high_res,
        multimask=multimask,
        select_by_stability=True,
    )
    return LowResMasks(logits=at_least_float32(answer.mask_logits), ious=answer.ious)
