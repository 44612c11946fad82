"""Prompts and tracks the objects of one frame with the model's own tracker.

:mod:`projects.sam2.models` selects and encodes the memories; here objects are combined
into batches, and the results are split again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from projects.sam2.apis.memory_archive import AnsweredMemory, MaskEncoding
from projects.sam2.apis.video_state import PendingAnswer, TrackedObject
from projects.sam2.models.frame_tracking import (
    FrameTask,
    decode_frame,
    recall_memories,
    remember_frame,
)
from projects.sam2.models.mask_heads import MaskHeads
from projects.sam2.models.memory_bank import MemoryQuery
from projects.sam2.models.object_batches import follow_objects
from projects.sam2.ops import at_least_float32, fill_holes
from projects.sam2.structures import (
    DecoderStep,
    FramePrompt,
    ImageFeatures,
    RememberedFrame,
    TrackingMode,
)

__all__ = ['ObjectTracking', 'fill_small_holes']

FILLED_HOLE_LOGIT = 0.1  # just inside the mask
EARLIER_LOGIT_LIMIT = 32.0  # of masks that a click refines


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTracking:
    """How the objects of a video are tracked.

    Attributes:
        heads: Prompt encoder, mask decoder and tracker.
        fill_hole_area: Holes of up to so many pixels of the stride-4 mask are filled.
        memory_dtype: Spatial memories are kept in this type.
        max_batch_objects: Objects tracked in one batch.
    """

    heads: MaskHeads
    fill_hole_area: float
    memory_dtype: torch.dtype
    max_batch_objects: int

    def prompt_task(
        self,
        obj: TrackedObject,
        prompt: FramePrompt,
        frame_index: int,
        num_frames: int,
    ) -> FrameTask:
        """Describe the task of answering a prompt.

        Args:
            obj: The object.
            prompt: All that is said about it on this frame.
            frame_index: The frame.
            num_frames: Length of the video.

        Returns:
            The task; a frame that was tracked before attends to memories, and points
            refine the mask that was shown.
        """
        attends = bool(frame_index in obj.tracked_in_reverse and obj.store.conditioning)
        shown = obj.answer(frame_index)
        earlier: Tensor | None = None
        if shown is not None:
            limit = EARLIER_LOGIT_LIMIT
            earlier = shown.mask_logits.clamp(-limit, limit)
        reverse = attends and obj.tracked_in_reverse[frame_index]
        return FrameTask(
            query=self.query(frame_index, num_frames, reverse=reverse),
            prompt=prompt,
            attends=attends,
            reread_prompt=True,
            earlier_logits=earlier,
        )

    def answer(
        self, obj: TrackedObject, features: ImageFeatures, task: FrameTask
    ) -> DecoderStep:
        """Answer a prompt; nothing is changed.

        Args:
            obj: The object.
            features: Of the frame.
            task: As :meth:`prompt_task` gives it.

        Returns:
            The mask, its small holes filled.
        """
        selection = recall_memories(self.heads, obj.store, task)
        (step,) = decode_frame(self.heads, features, selection, task)
        # The answer may be pending for long; its mask at image size is not needed.
        shown = fill_small_holes(step.mask_logits, self.fill_hole_area)
        return replace(step, mask_logits=shown, full_logits=None)

    def remember(
        self, answer: PendingAnswer, features: ImageFeatures
    ) -> AnsweredMemory:
        """Make a memory of an answered prompt.

        Args:
            answer: Of one object.
            features: Of the frame.

        Returns:
            Its memory.
        """
        output = remember_frame(self.heads, features, (answer.step,), answer.task)
        binary = self.heads.tracker.binary_clicked_memories
        return self._memories(output, answer.step.mask_logits, binary=binary)[0]

    def follow(
        self,
        objects: Sequence[TrackedObject],
        features: ImageFeatures,
        query: MemoryQuery,
    ) -> dict[int, AnsweredMemory]:
        """Track objects on a frame without a prompt; nothing is changed.

        Objects that attend to the same number of memories go in one batch. What does
        not depend on memories, like the first self-attention, is done once for all.

        Args:
            objects: Each prompted on some frame.
            features: Of the frame.
            query: The frame.

        Returns:
            The memory of each object, by id.
        """
        memories: dict[int, AnsweredMemory] = {}
        for batch in follow_objects(
            self.heads,
            [obj.store for obj in objects],
            features,
            query,
            max_batch_objects=self.max_batch_objects,
        ):
            ids = [objects[position].object_id for position in batch.positions]
            shown = fill_small_holes(
                batch.output.final.mask_logits, self.fill_hole_area
            )
            memories_of_batch = self._memories(batch.output, shown, binary=False)
            memories |= zip(ids, memories_of_batch, strict=True)
        return memories

    def query(
        self, frame_index: int, num_frames: int, *, reverse: bool = False
    ) -> MemoryQuery:
        """A frame that asks for memories.

        Args:
            frame_index: Position in the video.
            num_frames: Length of the video.
            reverse: The pass runs backwards.

        Returns:
            The query.
        """
        return MemoryQuery(
            frame_index=frame_index,
            num_video_frames=num_frames,
            mode=TrackingMode.EVALUATION,
            reverse=reverse,
        )

    def _memories(
        self, output: RememberedFrame, shown: Tensor, *, binary: bool
    ) -> list[AnsweredMemory]:
        """Split the memories of a batch by object.

        Masks and scores are at least float32, whether or not autocast is in force.
        """
        step = output.final
        spatial = output.memory.spatial.to(self.memory_dtype)
        masks = at_least_float32(shown)
        scores = at_least_float32(step.object_score_logits)
        best = at_least_float32(step.candidate_ious).amax(dim=1, keepdim=True)
        decoded = None if shown is step.mask_logits else step.mask_logits
        encoding = MaskEncoding(
            binary=binary,
            autocast=_autocast_dtype(spatial.device),
            fill_hole_area=0.0 if decoded is None else self.fill_hole_area,
        )
        return [
            AnsweredMemory(
                spatial=spatial[n : n + 1].clone(),
                object_pointer=output.memory.object_pointer[n : n + 1].clone(),
                mask_logits=masks[n : n + 1].clone(),
                object_score_logits=scores[n : n + 1].clone(),
                ious=best[n : n + 1].clone(),
                encoded_logits=None if decoded is None else decoded[n : n + 1].clone(),
                encoding=encoding,
            )
            for n in range(len(spatial))
        ]


def fill_small_holes(logits: Tensor, max_area: float) -> Tensor:
    """Close the small holes of masks.

    Args:
        logits: (O, 1, H4, W4).
        max_area: Largest area of a hole that is filled, in pixels; 0 fills none.

    Returns:
        The same shape.
    """
    if max_area <= 0:
        return logits
    return fill_holes(logits, max_area=max_area, value=FILLED_HOLE_LOGIT)


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in, if it is in force."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(device.type)
