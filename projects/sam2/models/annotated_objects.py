"""Objects annotated on some frames, and frames as their annotator sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from projects.sam2.models.memory_bank import MemoryStore
from projects.sam2.models.prompted_model import FrameTruth, PromptedModel
from projects.sam2.structures import DecoderStep, FrameMasks, ImageFeatures

__all__ = ['AnnotatedObject', 'FrameView', 'WrongFrame', 'new_objects']


@dataclass(slots=True, kw_only=True)
class AnnotatedObject:
    """One object, annotated on some frames.

    Attributes:
        object_id: As in the data set.
        store: Its memories.
        answers: The final answer on each annotated frame.
    """

    object_id: int
    store: MemoryStore = field(default_factory=MemoryStore)
    answers: dict[int, DecoderStep] = field(default_factory=dict)

    @property
    def first_frame(self) -> int:
        """Where it was annotated first in time."""
        return min(self.answers)

    def copy(self) -> 'AnnotatedObject':
        """The same object, to take another course from here."""
        return AnnotatedObject(
            object_id=self.object_id,
            store=MemoryStore(
                conditioning=dict(self.store.conditioning),
                tracked=dict(self.store.tracked),
            ),
            answers=dict(self.answers),
        )

    def restarted(self) -> 'AnnotatedObject':
        """The same object with what was annotated alone."""
        return AnnotatedObject(
            object_id=self.object_id,
            store=MemoryStore(conditioning=dict(self.store.conditioning)),
            answers=dict(self.answers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """A frame of a pass.

    Attributes:
        frame_index: Position in the video.
        features: Of the frame.
        size: Height and width of its file.
        truth: Its ground truth, or None.
    """

    frame_index: int
    features: ImageFeatures
    size: tuple[int, int]
    truth: FrameMasks | None

    def known(self, object_id: int, model: PromptedModel) -> FrameTruth | None:
        """What a user knows of an object on this frame.

        Args:
            object_id: As in the data set.
            model: Says on which device.

        Returns:
            Its truth, empty where the ground truth does not hold the object; None
            where the frame is not annotated.
        """
        truth = self.truth
        if truth is None:
            return None
        if object_id in truth.object_ids:
            position = truth.object_ids.index(object_id)
            masks = truth.masks[position : position + 1]
        else:
            masks = np.zeros((1, *self.size), dtype=bool)
        one = replace(truth, object_ids=(object_id,), masks=masks)
        return FrameTruth.of(one, model.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongFrame:
    """An object whose mask on a frame has errors.

    Attributes:
        one: The object, its memories those of the pass that came to that frame.
        frame_index: Position in the video.
        iou: Of the mask with the ground truth.
        logits: The mask, (1, 1, H4, W4).
        truth: Of the object on that frame.
    """

    one: AnnotatedObject
    frame_index: int
    iou: float
    logits: Tensor
    truth: FrameTruth


def new_objects(
    truth: FrameMasks | None, known: Sequence[AnnotatedObject]
) -> list[AnnotatedObject]:
    """The objects that a frame shows first.

    Args:
        truth: Of the frame, or None.
        known: Objects that were seen before.

    Returns:
        New ones, not annotated yet.
    """
    if truth is None:
        return []
    seen = {one.object_id for one in known}
    return [
        AnnotatedObject(object_id=object_id)
        for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
        if object_id not in seen and mask.any()
    ]
