"""The model as simulated users see it: they look at a frame's own pixels."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from ...ops import (
    boxes_to_points,
    center_error_points,
    mask_ious,
    masks_to_boxes,
    upsample_logits,
)
from ...structures import (
    DecoderStep,
    EncodedFrame,
    FrameMasks,
    FrameMemory,
    FramePrediction,
    FramePrompt,
    ImageFeatures,
    PointLabel,
    PointPrompt,
    PromptMark,
    PromptRound,
    TrackingMode,
    VideoSource,
    marks_of_points,
)
from ..data_preprocessor import ClipDataPreprocessor
from ..memory_bank import MemoryQuery, MemoryStore
from ..prompt_simulator import SAM2PromptSimulator
from .frame import (
    FrameTask,
    SAMHeads,
    decode_frame,
    encode_frame_memory,
    select_memories,
    track_objects,
)
from .video import read_ahead

EARLIER_LOGIT_LIMIT = 32.0  # of masks that a click refines, as in the predictors


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """What a simulated user knows of a frame.

    Attributes:
        masks: (O, 1, height, width), bool, at the size of the frame's file.
        ignored: Void pixels, (1, 1, height, width), bool, or None.
    """

    masks: Tensor
    ignored: Tensor | None

    @classmethod
    def of(cls, truth: FrameMasks, device: torch.device) -> 'FrameTruth':
        """Take ground truth to the device."""
        void = truth.void
        return cls(
            masks=torch.from_numpy(truth.masks)[:, None].to(device),
            ignored=None
            if void is None
            else torch.from_numpy(void)[None, None].to(device),
        )

    def select(self, positions: slice) -> 'FrameTruth':
        """Some of the objects."""
        return FrameTruth(masks=self.masks[positions], ignored=self.ignored)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame's file."""
        return self.masks.shape[-2], self.masks.shape[-1]

    def boxes(self) -> PointPrompt:
        """The tightest box around each object."""
        return boxes_to_points(masks_to_boxes(self.masks))

    def click(self, shown: Tensor | None) -> PointPrompt:
        """Click in the centre of the largest error.

        Args:
            shown: (O, 1, height, width), bool; None where nothing is shown yet.

        Returns:
            One point for each object, in pixels of the file.
        """
        return center_error_points(self.masks, shown, self.ignored)

    def ious(self, shown: Tensor) -> Tensor:
        """Score masks.

        Args:
            shown: (O, 1, height, width), bool.

        Returns:
            (O,), in [0, 1].
        """
        return mask_ious(shown, self.masks, self.ignored)[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedModel:
    """The parts of the model that a simulated user works with.

    Attributes:
        heads: Prompt encoder, mask decoder and tracker.
        preprocessor: Prepares frames.
        encode: Gives the features of a frame, (1, 3, H, W).
    """

    heads: SAMHeads
    preprocessor: ClipDataPreprocessor
    encode: Callable[[Tensor], ImageFeatures]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.preprocessor.mean.device

    def features(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Encode a frame.

        Args:
            pixels: (height, width, 3), RGB.
        """
        return self.encode(self.preprocessor.frame(pixels))

    def points(self, prompt: PointPrompt, size: tuple[int, int]) -> PointPrompt:
        """Points in pixels of the frame that the model sees.

        Args:
            prompt: In pixels of the file.
        """
        height, width = self.preprocessor.image_size
        shares = prompt.coords / prompt.coords.new_tensor([size[1], size[0]])
        return PointPrompt(
            coords=shares * prompt.coords.new_tensor([width, height]),
            labels=prompt.labels,
        )

    def answer_still(
        self,
        features: ImageFeatures,
        prompt: PointPrompt,
        size: tuple[int, int],
        previous_logits: Tensor | None = None,
    ) -> Tensor:
        """Answer points on an image.

        Args:
            prompt: All points so far, in pixels of the file.
            previous_logits: The answer before, or None.

        Returns:
            Masks, (O, 1, H4, W4), logits.
        """
        return self.heads.predict_masks(
            embedding=self.heads.tracker.condition_on_memory(features, None),
            features=features,
            points=self.points(prompt, size),
            previous_logits=_limited(previous_logits),
        )

    def annotate(
        self,
        features: ImageFeatures,
        store: MemoryStore,
        query: MemoryQuery,
        truth: FrameTruth,
        *,
        num_clicks: int,
        tracked_logits: Tensor | None = None,
    ) -> EncodedFrame:
        """Click on one object of a frame, each time where its mask is most wrong.

        A mask without any error gets no further click.

        Args:
            tracked_logits: Where the frame was tracked, the mask that was found,
                (1, 1, H4, W4), not free of errors; None for the first frame, which
                attends to no memory.
        """
        steps: list[DecoderStep] = []
        points: PointPrompt | None = None
        earlier = tracked_logits
        task = FrameTask(query=query)
        for _ in range(num_clicks):
            shown = None if earlier is None else enlarge(earlier, truth.size)
            if shown is not None and not _differ(truth, shown):
                break
            click = truth.click(shown)
            points = click if points is None else points.followed_by(click)
            task = FrameTask(
                query=query,
                prompt=FramePrompt(points=self.points(points, truth.size)),
                uses_memory=tracked_logits is not None,
                reread_prompt=True,
                previous_logits=_limited(earlier),
            )
            selection = select_memories(self.heads, store, task)
            steps += decode_frame(self.heads, features, selection, task)
            earlier = steps[-1].mask_logits
        return encode_frame_memory(self.heads, features, tuple(steps), task)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks as a user sees them.

    Args:
        logits: (O, 1, H4, W4).

    Returns:
        (O, 1, height, width), bool.
    """
    return upsample_logits(logits.float(), size) > 0


def _differ(truth: FrameTruth, shown: Tensor) -> bool:
    """Is any pixel wrong?"""
    return bool((truth.ious(shown) < 1).any())


def _limited(logits: Tensor | None) -> Tensor | None:
    """Logits of an earlier answer, in the range in which they are fed back."""
    if logits is None:
        return None
    return logits.clamp(-EARLIER_LOGIT_LIMIT, EARLIER_LOGIT_LIMIT)


class SAM2PromptRounds(SAM2PromptSimulator):
    """A simulated user who says more from round to round.

    Clips are prompted, where they are, by a click in the centre of each object.

    Args:
        num_clicks: On each frame.

    Raises:
        ValueError: If there is no click.
    """

    def __init__(self, *, num_clicks: int) -> None:
        if num_clicks < 1:
            msg = f'num_clicks is {num_clicks}; give at least one click'
            raise ValueError(msg)
        super().__init__(
            point_probability=1.0,
            box_probability=0.0,
            num_conditioning_frames=(1, 1),
            num_correction_frames=(1, 1),
            num_corrections=num_clicks - 1,
            click_method='center',
        )
        self.num_clicks = num_clicks

    @abstractmethod
    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of a video, round by round."""


def count_name(number: int, unit: str) -> str:
    """Name a round.

    Returns:
        Such as ``1_click`` or ``3_clicks``.
    """
    return f'{number}_{unit}' + ('' if number == 1 else 's')


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
    """
    if truth is None:
        return []
    seen = {one.object_id for one in known}
    return [
        AnnotatedObject(object_id=object_id)
        for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
        if object_id not in seen and mask.any()
    ]


BOX_ROUND = 'box'
IMAGE_BATCH_OBJECTS = 16  # of one image, decoded and enlarged at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswers:
    """What came of the prompts on some objects of an image.

    Attributes:
        masks: (O, 1, height, width), bool, on the CPU, by the name of the round.
        clicks: All points, in pixels of the file.
    """

    masks: dict[str, Tensor]
    clicks: PointPrompt


@MODELS.register_module()
class SAM2ImageRounds(SAM2PromptRounds):
    """Prompts each object of an image by a box, and apart from that by clicks.

    The first click falls in the centre of the object, the others in the centre of
    the largest error (Kirillov et al., 2023, section 7.1; Ravi et al., 2024, section
    6.3). The box is the tightest one. Annotated frames of a video count as images.

    Args:
        click_counts: After how many clicks masks are scored, ascending.

    Raises:
        ValueError: If the counts do not ascend from at least one.
    """

    def __init__(self, *, click_counts: Sequence[int]) -> None:
        if list(click_counts) != sorted({*click_counts}) or not click_counts:
            msg = f'click_counts is {tuple(click_counts)}; give ascending numbers'
            raise ValueError(msg)
        super().__init__(num_clicks=click_counts[-1])
        if click_counts[0] < 1:
            msg = f'click_counts begins with {click_counts[0]}; begin with 1 or more'
            raise ValueError(msg)
        self.click_counts = tuple(click_counts)

    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of each annotated frame."""
        for frame_index in source.annotated_frames():
            truth = _shown(source.read_masks(frame_index))
            if truth is not None:
                features = model.features(source.read_frame(frame_index))
                yield from self._predictions(model, features, truth, frame_index)

    def _predictions(
        self,
        model: PromptedModel,
        features: ImageFeatures,
        truth: FrameMasks,
        frame_index: int,
    ) -> Iterator[FramePrediction]:
        """All rounds of one image."""
        known = FrameTruth.of(truth, model.device)
        answers: list[ImageAnswers] = []
        marks: list[PromptMark] = []
        for first in range(0, len(truth.masks), IMAGE_BATCH_OBJECTS):
            chosen = slice(first, first + IMAGE_BATCH_OBJECTS)
            answers.append(self._answers(model, features, known.select(chosen)))
            marks += marks_of_points(answers[-1].clicks, truth.object_ids[chosen])
        names = tuple(answers[0].masks)
        for name in names:
            masks = torch.cat([answer.masks[name] for answer in answers])
            final = name == names[-1]
            yield FramePrediction(
                frame_index=frame_index,
                object_ids=truth.object_ids,
                masks=masks[:, 0].numpy(),
                truth=truth,
                prompted_ids=truth.object_ids,
                prompt_round=PromptRound(name=name, is_final=final),
                marks=tuple(marks) if final else (),
            )

    def _answers(
        self, model: PromptedModel, features: ImageFeatures, truth: FrameTruth
    ) -> ImageAnswers:
        """Prompt some objects, all in one batch."""
        num_objects = len(truth.masks)
        device = features.embedding.device
        every = torch.zeros(num_objects, dtype=torch.int64, device=device)
        repeated = features.select(every)
        box = model.answer_still(repeated, truth.boxes(), truth.size)
        masks = {BOX_ROUND: enlarge(box, truth.size).cpu()}
        points = truth.click(None)
        logits = model.answer_still(repeated, points, truth.size)
        for number in range(1, self.num_clicks + 1):
            shown = enlarge(logits, truth.size)
            if number in self.click_counts:
                masks[count_name(number, 'click')] = shown.cpu()
            if number < self.num_clicks:
                # A user does not touch a mask without any error.
                done = (truth.ious(shown) == 1)[:, None]
                points = points.followed_by(_but(done, truth.click(shown)))
                answer = model.answer_still(repeated, points, truth.size, logits)
                logits = torch.where(done[..., None, None], logits, answer)
        return ImageAnswers(masks=masks, clicks=points)


def _but(done: Tensor, click: PointPrompt) -> PointPrompt:
    """A click on the objects that are not done, (O, 1), bool."""
    labels = torch.where(done, PointLabel.PADDING, click.labels)
    return PointPrompt(coords=click.coords, labels=labels.int())


def _shown(truth: FrameMasks | None) -> FrameMasks | None:
    """The objects of a frame that have a pixel; None if there are none."""
    if truth is None:
        return None
    kept = np.flatnonzero(truth.masks.any(axis=(1, 2))).tolist()
    if not kept:
        return None
    return FrameMasks(
        object_ids=tuple(truth.object_ids[position] for position in kept),
        masks=truth.masks[kept],
        void=truth.void,
    )


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
            pixels: (height, width, 3), RGB.
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
            heads.tracker.memory_bank.evict_unreachable(one.store, query)
        for batch in track_objects(
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
                one.store.add(view.frame_index, alone, conditioning=False)
                found[id(one)] = batch.output.final.mask_logits[chosen]
        return tuple(found[id(one)] for one in objects)

    def start(
        self, objects: Sequence[AnnotatedObject], view: FrameView
    ) -> list[Tensor]:
        """Annotate objects on the frame that shows them first.

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
            logits: The mask of each, (1, 1, H4, W4).
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
            logits: The mask of each, (1, 1, H4, W4).
            num_annotated: Frames that may be annotated in this round.

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
        one.store.add(view.frame_index, output.memory, conditioning=True)
        one.answers[view.frame_index] = output.final
        return output.final.mask_logits

    def _query(self, frame_index: int) -> MemoryQuery:
        """A frame that asks for memories."""
        return MemoryQuery(
            frame_index=frame_index,
            num_video_frames=self.num_video_frames,
            mode=TrackingMode.EVALUATION,
        )


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
        """Track the video once in every round."""
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
        """Track the video once."""
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
