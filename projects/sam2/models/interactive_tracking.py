"""Annotates objects of a video on one frame after another, and tracks them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.models.annotated_objects import (
    AnnotatedObject,
    FrameView,
    WrongFrame,
)
from projects.sam2.models.memory_bank import MemoryQuery
from projects.sam2.models.object_batches import follow_objects
from projects.sam2.models.prompt_rounds import count_name
from projects.sam2.models.prompted_model import FrameTruth, PromptedModel, enlarge
from projects.sam2.structures import (
    FrameMasks,
    FrameMemory,
    FramePrediction,
    PromptRound,
    TrackingMode,
    marks_of_points,
)

__all__ = ['AnnotatedTracker']

MAX_BATCH_OBJECTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedTracker:
    """Annotates and tracks objects, each as if it were alone.

    Attributes:
        model: The model.
        num_video_frames: Length of the video.
        num_clicks: On each annotated frame.
    """

    model: PromptedModel
    num_video_frames: int
    num_clicks: int

    def view(
        self, frame_index: int, pixels: NDArray[np.uint8], truth: FrameMasks | None
    ) -> FrameView:
        """Encode a frame.

        Args:
            frame_index: Position in the video.
            pixels: (height, width, 3), RGB.
            truth: Its ground truth.

        Returns:
            The frame.
        """
        return FrameView(
            frame_index=frame_index,
            features=self.model.features(pixels),
            size=(pixels.shape[0], pixels.shape[1]),
            truth=truth,
        )

    def follow(
        self, objects: Sequence[AnnotatedObject], view: FrameView
    ) -> tuple[Tensor, ...]:
        """Track objects on a frame; where one was annotated its answer stays.

        Args:
            objects: Each annotated on some frame; they remember what was found.
            view: The frame.

        Returns:
            The mask of each, (1, 1, H4, W4), logits.
        """
        heads = self.model.heads
        query = self._query(view.frame_index)
        found = {
            id(one): one.answers[view.frame_index].mask_logits
            for one in objects
            if view.frame_index in one.answers
        }
        followed = [one for one in objects if id(one) not in found]
        for one in followed:
            heads.tracker.memory_bank.forget(one.store, query)
        for batch in follow_objects(
            heads,
            [one.store for one in followed],
            view.features,
            query,
            max_batch_objects=MAX_BATCH_OBJECTS,
        ):
            for row, position in enumerate(batch.positions):
                one = followed[position]
                memory = batch.output.memory
                chosen = slice(row, row + 1)
                alone = FrameMemory(
                    spatial=memory.spatial[chosen].clone(),
                    object_pointer=memory.object_pointer[chosen].clone(),
                )
                one.store.add(view.frame_index, alone, prompted=False)
                found[id(one)] = batch.output.final.mask_logits[chosen]
        return tuple(found[id(one)] for one in objects)

    def start(
        self, objects: Sequence[AnnotatedObject], view: FrameView
    ) -> list[Tensor]:
        """Annotate objects on the frame that shows them first.

        Args:
            objects: They remember the answer.
            view: The frame, with its ground truth.

        Returns:
            The mask of each, (1, 1, H4, W4), logits.
        """
        answers = []
        for one in objects:
            truth = view.known(one.object_id, self.model)
            if truth is not None:
                answers.append(self._annotate(one, view, truth, None))
        return answers

    def wrong_frames(
        self,
        objects: Sequence[AnnotatedObject],
        logits: Sequence[Tensor],
        view: FrameView,
    ) -> Iterator[WrongFrame]:
        """Compare the masks of a frame with its ground truth, where it has any.

        Args:
            objects: As the pass came to the frame.
            logits: The mask of each, (1, 1, H4, W4).
            view: The frame.

        Yields:
            Those with any error that were not annotated on this frame.
        """
        for one, mask in zip(objects, logits, strict=True):
            truth = view.known(one.object_id, self.model)
            if truth is None or view.frame_index in one.answers:
                continue
            iou = float(truth.ious(enlarge(mask, view.size)))
            if iou < 1:
                yield WrongFrame(
                    one=one,
                    frame_index=view.frame_index,
                    iou=iou,
                    logits=mask,
                    truth=truth,
                )

    def correct(
        self, one: AnnotatedObject, view: FrameView, wrong: WrongFrame
    ) -> Tensor:
        """Annotate an object on a frame that it was tracked on.

        Args:
            one: The object, with the memories of ``wrong.one``.
            view: The frame.
            wrong: What was found there.

        Returns:
            The mask, (1, 1, H4, W4), logits.
        """
        return self._annotate(one, view, wrong.truth, wrong.logits)

    def prediction(
        self,
        objects: Sequence[AnnotatedObject],
        logits: Sequence[Tensor],
        view: FrameView,
        *,
        num_annotated: int,
        is_final: bool,
    ) -> FramePrediction:
        """What is shown of a round.

        Args:
            objects: Of the round.
            logits: The mask of each, (1, 1, H4, W4).
            view: The frame.
            num_annotated: Frames that may be annotated in this round.
            is_final: No round follows.

        Returns:
            Masks that may overlap, each object having been tracked alone.
        """
        masks = [enlarge(one, view.size)[0, 0].cpu().numpy() for one in logits]
        prompted = [one for one in objects if view.frame_index in one.answers]
        height, width = self.model.preprocessor.image_size
        scale = (view.size[1] / width, view.size[0] / height)
        marks = [
            mark
            for one in prompted
            if (points := one.answers[view.frame_index].points) is not None
            for mark in marks_of_points(points, (one.object_id,), scale)
        ]
        return FramePrediction(
            frame_index=view.frame_index,
            object_ids=tuple(one.object_id for one in objects),
            masks=np.stack(masks),
            truth=view.truth,
            prompted_ids=tuple(one.object_id for one in prompted),
            prompt_round=PromptRound(
                name=count_name(num_annotated, 'frame'), is_final=is_final
            ),
            marks=tuple(marks),
        )

    def _annotate(
        self,
        one: AnnotatedObject,
        view: FrameView,
        truth: FrameTruth,
        tracked_logits: Tensor | None,
    ) -> Tensor:
        """Click on an object; from now on the frame conditions the video."""
        output = self.model.annotate(
            view.features,
            one.store,
            self._query(view.frame_index),
            truth,
            num_clicks=self.num_clicks,
            tracked_logits=tracked_logits,
        )
        one.store.add(view.frame_index, output.memory, prompted=True)
        one.answers[view.frame_index] = output.final
        return output.final.mask_logits

    def _query(self, frame_index: int) -> MemoryQuery:
        """A frame that asks for memories."""
        return MemoryQuery(
            frame_index=frame_index,
            num_video_frames=self.num_video_frames,
            mode=TrackingMode.EVALUATION,
        )
