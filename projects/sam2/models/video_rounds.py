"""Simulated users of an interactive video tool (Ravi et al., 2024, appendix F.1)."""

from collections.abc import Iterator
from dataclasses import replace

from mmengine.registry import MODELS
from torch import Tensor

from projects.sam2.models.annotated_objects import (
    AnnotatedObject,
    FrameView,
    WrongFrame,
    new_objects,
)
from projects.sam2.models.interactive_tracking import AnnotatedTracker
from projects.sam2.models.prompt_rounds import SAM2PromptRounds
from projects.sam2.models.prompted_model import PromptedModel
from projects.sam2.models.video_tracking import read_ahead
from projects.sam2.structures import FramePrediction, VideoSource

__all__ = ['SAM2OfflineRounds', 'SAM2OnlineRounds']


class SAM2VideoRounds(SAM2PromptRounds):
    """What both kinds of users have in common.

    An object is annotated first where it appears first, by a click in its centre and
    further ones in the centre of the largest error. It is tracked as if it were alone.

    Args:
        num_frames: Rounds; in the last one so many frames are annotated of an object.
        num_clicks: On each of them.

    Raises:
        ValueError: If a number is smaller than one.
    """

    def __init__(self, *, num_frames: int, num_clicks: int) -> None:
        if num_frames < 1:
            msg = f'num_frames is {num_frames}; annotate at least one frame'
            raise ValueError(msg)
        super().__init__(num_clicks=num_clicks)
        self.num_frames = num_frames

    def _tracker(self, model: PromptedModel, source: VideoSource) -> AnnotatedTracker:
        """Prepare to annotate the objects of a video."""
        return AnnotatedTracker(
            model=model,
            num_video_frames=source.num_frames,
            num_clicks=self.num_clicks,
        )


@MODELS.register_module()
class SAM2OfflineRounds(SAM2VideoRounds):
    """A user who looks through the whole video and then corrects its worst frame.

    In every round the video is tracked from its start, each object conditioned on all
    frames that it was annotated on so far; then the frame of its lowest IoU with the
    ground truth is annotated. The arguments are those of the base.
    """

    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Track the video once in every round.

        Args:
            model: The model.
            source: The video.

        Yields:
            Predictions of one round after another.
        """
        tracker = self._tracker(model, source)
        objects: list[AnnotatedObject] = []
        for number in range(1, self.num_frames + 1):
            worst: dict[int, WrongFrame] = {}
            for frame, (pixels, truth) in enumerate(read_ahead(source)):
                shown = [one for one in objects if one.first_frame <= frame]
                fresh = new_objects(truth, objects) if number == 1 else []
                if not shown and not fresh:
                    continue
                view = tracker.view(frame, pixels, truth)
                logits = [*tracker.follow(shown, view), *tracker.start(fresh, view)]
                objects += fresh
                shown += fresh
                yield tracker.prediction(
                    shown,
                    logits,
                    view,
                    num_annotated=number,
                    is_final=number == self.num_frames,
                )
                _note_worst(worst, tracker.wrong_frames(shown, logits, view))
            if number < self.num_frames:
                objects = [_corrected(tracker, source, one, worst) for one in objects]


@MODELS.register_module()
class SAM2OnlineRounds(SAM2VideoRounds):
    """A user who watches the video once and stops where an object is lost.

    An object is annotated on a frame where the IoU of its mask with the ground truth
    is too low, as long as frames are left to be annotated; tracking then goes on. What
    fewer annotated frames would have led to is found in the same pass: an object
    that is corrected also goes on without the correction.

    Args:
        num_frames: Rounds; in the last one so many frames are annotated of an object.
        num_clicks: On each of them.
        min_iou: Masks of less are corrected.

    Raises:
        ValueError: If ``min_iou`` is no share.
    """

    def __init__(self, *, num_frames: int, num_clicks: int, min_iou: float) -> None:
        super().__init__(num_frames=num_frames, num_clicks=num_clicks)
        if not 0 < min_iou <= 1:
            msg = f'min_iou is {min_iou}; give a number above 0, at most 1'
            raise ValueError(msg)
        self.min_iou = min_iou

    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Track the video once.

        Args:
            model: The model.
            source: The video.

        Yields:
            For each frame the predictions of all rounds.
        """
        tracker = self._tracker(model, source)
        # Of each object one course for each number of annotated frames so far.
        courses: list[list[AnnotatedObject]] = []
        for frame, (pixels, truth) in enumerate(read_ahead(source)):
            fresh = new_objects(truth, [several[-1] for several in courses])
            if not courses and not fresh:
                continue
            view = tracker.view(frame, pixels, truth)
            every = [one for several in courses for one in several]
            found = dict(zip(map(id, every), tracker.follow(every, view), strict=True))
            for several in courses:
                if len(several) < self.num_frames:
                    self._correct(tracker, view, several, found)
            found |= zip(map(id, fresh), tracker.start(fresh, view), strict=True)
            courses += [[one] for one in fresh]
            for number in range(1, self.num_frames + 1):
                shown = [several[min(number, len(several)) - 1] for several in courses]
                yield tracker.prediction(
                    shown,
                    [found[id(one)] for one in shown],
                    view,
                    num_annotated=number,
                    is_final=number == self.num_frames,
                )

    def _correct(
        self,
        tracker: AnnotatedTracker,
        view: FrameView,
        courses: list[AnnotatedObject],
        found: dict[int, Tensor],
    ) -> None:
        """Correct the latest course of an object where its mask is too bad."""
        latest = courses[-1]
        for wrong in tracker.wrong_frames([latest], [found[id(latest)]], view):
            if wrong.iou < self.min_iou:
                corrected = latest.copy()
                found[id(corrected)] = tracker.correct(corrected, view, wrong)
                courses.append(corrected)


def _note_worst(worst: dict[int, WrongFrame], found: Iterator[WrongFrame]) -> None:
    """Keep the worst frame of each object, the first of equally bad ones."""
    for wrong in found:
        earlier = worst.get(wrong.one.object_id)
        if earlier is None or wrong.iou < earlier.iou:
            # The pass goes on, and its memories with it.
            worst[wrong.one.object_id] = replace(wrong, one=wrong.one.copy())


def _corrected(
    tracker: AnnotatedTracker,
    source: VideoSource,
    one: AnnotatedObject,
    worst: dict[int, WrongFrame],
) -> AnnotatedObject:
    """An object, annotated on its worst frame, at the start of another pass."""
    wrong = worst.get(one.object_id)
    if wrong is None:
        return one.restarted()
    frame = wrong.frame_index
    view = tracker.view(frame, source.read_frame(frame), None)
    tracker.correct(wrong.one, view, wrong)
    return wrong.one.restarted()
