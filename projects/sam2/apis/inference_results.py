"""What the inferencer finds, frame by frame, and as it is kept and written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.sam2.ops import EncodedMask, encode_masks
from projects.sam2.structures import PromptMark

__all__ = ['FrameResult', 'InferenceResult', 'InferredFrame']


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredFrame:
    """One image or frame with its masks, before it is written.

    Attributes:
        frame_index: Position in the video; 0 of an image.
        pixels: (height, width, 3), RGB.
        object_ids: One for each mask.
        masks: (O, height, width), bool; they may overlap.
        ious: The model's estimate of their IoU; NaN where it gave none.
        marks: Prompts on this frame.
    """

    frame_index: int
    pixels: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    ious: tuple[float, ...]
    marks: tuple[PromptMark, ...] = ()

    def packed(self) -> 'FrameResult':
        """The same without pixels, masks run-length encoded.

        Returns:
            What is kept of it.
        """
        return FrameResult(
            frame_index=self.frame_index,
            object_ids=self.object_ids,
            masks=tuple(encode_masks(self.masks)) if self.object_ids else (),
            ious=self.ious,
        )

    def label_map(self) -> NDArray[np.uint16]:
        """Ids of the objects as one picture.

        Returns:
            (height, width); 0 where no object is. Where objects overlap, the smaller
            one is seen.
        """
        labels = np.zeros(self.masks.shape[1:], dtype=np.uint16)
        areas = self.masks.sum(axis=(1, 2))
        for position in np.argsort(-areas, kind='stable'):
            labels[self.masks[position]] = self.object_ids[position]
        return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Masks of one image or frame.

    Attributes:
        frame_index: Position in the video; 0 of an image.
        object_ids: One for each mask.
        masks: As COCO's run-length encoding.
        ious: The model's estimate of their IoU; NaN where it gave none.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: tuple[EncodedMask, ...]
    ious: tuple[float, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Plain types, for json."""
        objects = zip(self.object_ids, self.masks, self.ious, strict=True)
        return {
            'frame_index': self.frame_index,
            'objects': [
                {
                    'id': object_id,
                    'iou': None if math.isnan(iou) else round(iou, 4),
                    'segmentation': mask,
                }
                for object_id, mask, iou in objects
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Masks of one image, video or stream.

    Attributes:
        name: Of the input, and of the files that were written for it.
        size: Height and width.
        frames: One for an image; those from the first prompted one on for a video.
    """

    name: str
    size: tuple[int, int]
    frames: tuple[FrameResult, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Plain types, for json."""
        return {
            'name': self.name,
            'height': self.size[0],
            'width': self.size[1],
            'frames': [frame.as_json() for frame in self.frames],
        }
