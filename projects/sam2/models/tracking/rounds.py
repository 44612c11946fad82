"""Validation: simulated users prompt the objects of a video, which is then tracked.

::

    SAM2.predict ▶ predict_video, collect_predictions
    ├─ track_video           each object is prompted once, where it appears first
    └─ SAM2PromptRounds.run  a user who adds prompts from round to round
        ├─ SAM2ImageRounds   boxes and clicks on single images, without memory
        ├─ SAM2OfflineRounds corrects the worst frame, then the video is tracked again
        └─ SAM2OnlineRounds  corrects while the video is tracked

All of them except ``SAM2ImageRounds`` drive a :class:`VideoSession`.
Where a memory bank keeps several histories of an object, all but the online user wait
for the end of a pass (:func:`until_final`).
"""

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from ...ops import (
    Prefetcher,
    boxes_to_points,
    center_error_points,
    mask_ious,
    masks_to_boxes,
    non_overlapping,
    upsample_logits,
)
from ...structures import (
    MASKS_PER_CELL,
    DecoderStep,
    FrameMasks,
    FrameOutput,
    FramePrediction,
    FramePrompt,
    ImageFeatures,
    PointLabel,
    PointPrompt,
    PromptMark,
    PromptRound,
    RoundObserver,
    VideoRecord,
    VideoResult,
    VideoSource,
    marks_of_points,
)
from ..prompt_simulator import ClickGenerators, PromptKind, SAM2PromptSimulator
from .frame import best_masks, is_ambiguous
from .memory_store import ObjectOutput
from .pathways import tree_bank
from .promptable import PromptableModel
from .session import (
    PREVIOUS_LOGIT_LIMIT,
    SessionOptions,
    TrackedObject,
    VideoSession,
)

BOX_ROUND = 'box'
PROBABILITY_THRESHOLD = 0.5  # of a mask
IMAGE_BATCH_OBJECTS = 16  # objects of an image that are decoded and enlarged at a time


class SourceFrames:
    """Frames and ground truth of a video; the next frame is decoded in a thread.

    Args:
        source: The video.
    """

    def __init__(self, source: VideoSource) -> None:
        self.source = source
        self._latest: tuple[int, NDArray[np.uint8]] | None = None

    def __iter__(self) -> Iterator[tuple[int, tuple[int, int], FrameMasks | None]]:
        """Go through the video.

        Yields:
            Position, height and width, and ground truth (or None) of each frame.
        """
        source = self.source
        frames = Prefetcher(
            lambda frame: (source.read_frame(frame), source.read_masks(frame)),
            source.num_frames,
        )
        for frame in range(source.num_frames):
            pixels, truth = frames.read(frame)
            self._latest = frame, pixels
            yield frame, (pixels.shape[0], pixels.shape[1]), truth

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Return a frame, (height, width, 3), RGB; the latest is not decoded again."""
        if self._latest is not None and self._latest[0] == frame_index:
            return self._latest[1]
        return self.source.read_frame(frame_index)


def open_session(
    model: PromptableModel, frames: SourceFrames, *, live: bool = False
) -> VideoSession:
    """Open a session for forward passes; memories out of their reach are deleted.

    Where masks may still change while the video is tracked, all of them are kept, in a
    temporary file.

    Args:
        live: The masks are read as soon as they are tracked, and not later.
    """
    options = SessionOptions(
        corrections_condition=True, num_cached_embeddings=1, max_archive_gb=math.inf
    )
    return VideoSession(
        model,
        frames.read,
        frames.source.num_frames,
        options=options,
        revisits=tree_bank(model) is not None and not live,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFrame:
    """A frame that a session has tracked.

    Attributes:
        frame_index: Position in the video.
        size: Height and width of its file.
        truth: Its ground truth, or None.
        object_ids: Objects that were tracked on it.
        outputs: Their masks, batch by batch, unless they may have changed since.
        new_ids: Objects that were prompted on it.
        prompted: Their masks.
    """

    frame_index: int
    size: tuple[int, int]
    truth: FrameMasks | None
    object_ids: tuple[int, ...]
    outputs: tuple[FrameOutput, ...] = ()
    new_ids: tuple[int, ...] = ()
    prompted: tuple[FrameOutput, ...] = ()


def until_final(
    session: VideoSession, frames: SourceFrames, tracked: Iterator[TrackedFrame]
) -> Iterator[TrackedFrame]:
    """Wait until the masks of frames do not change any more.

    Frames pass through while they are tracked, or, in a session that is delayed, when
    all of them are tracked.
    """
    if not session.is_delayed:
        yield from tracked
        return
    # Masks and ground truth of a whole video may not fit into memory.
    for frame in [replace(frame, truth=None, outputs=()) for frame in tracked]:
        yield replace(frame, truth=frames.source.read_masks(frame.frame_index))


def _outputs_of(
    session: VideoSession, object_ids: Sequence[int], frame_index: int
) -> tuple[FrameOutput, ...]:
    """The masks of tracked objects on an earlier frame, as the only candidates."""
    if not object_ids:
        return ()
    outputs = [_output(session.objects[i], frame_index) for i in object_ids]
    logits = torch.cat([output.mask_logits for output in outputs])
    step = DecoderStep(
        candidate_logits=logits,
        candidate_ious=torch.cat([output.ious for output in outputs]),
        mask_logits=logits,
        object_pointer=logits.new_empty(len(logits), 0),  # no frame attends to it
        object_score_logits=torch.cat([o.object_score_logits for o in outputs]),
    )
    return (FrameOutput(frame_index=frame_index, steps=(step,)),)


def predict_video(
    model: PromptableModel, simulator: SAM2PromptSimulator, source: VideoSource
) -> Iterator[FramePrediction]:
    """Track a video: once, or once for each round of prompts."""
    if isinstance(simulator, SAM2PromptRounds):
        return simulator.run(model, source)
    return track_video(model, simulator, source)


def collect_predictions(
    accumulators: Sequence[Any],
    record: VideoRecord,
    predictions: Iterator[FramePrediction],
) -> VideoResult:
    """Give the predictions of a video to accumulators, frame by frame."""
    name, index = record.source.name, record.sample_index
    result = VideoResult(metainfo={'sample_index': index, 'video_name': name})
    for accumulator in accumulators:
        accumulator.begin(record)
    for prediction in predictions:
        for accumulator in accumulators:
            if isinstance(accumulator, RoundObserver):
                accumulator.add_round(prediction)
            elif prediction.prompt_round.is_final:
                accumulator.add(prediction)
    for accumulator in accumulators:
        accumulator.finish(result)
    return result


def track_video(
    model: PromptableModel, simulator: SAM2PromptSimulator, source: VideoSource
) -> Iterator[FramePrediction]:
    """Prompt each object where it appears first and track it to the end.

    Args:
        simulator: Simulates the prompts from the ground truth.
    """
    frames = SourceFrames(source)
    session = open_session(model, frames)
    tracked = _track_frames(session, simulator, frames)
    for frame in until_final(session, frames, tracked):
        tracked_outputs = frame.outputs
        if session.is_delayed:
            tracked_outputs = _outputs_of(session, frame.object_ids, frame.frame_index)
        outputs = (*tracked_outputs, *frame.prompted)
        logits = torch.cat([output.final.mask_logits for output in outputs])
        # At the size of the file, (O, 1, height, width); no pixel belongs to two.
        full_logits = non_overlapping(upsample_logits(logits.float(), frame.size))
        yield FramePrediction(
            frame_index=frame.frame_index,
            object_ids=(*frame.object_ids, *frame.new_ids),
            masks=(full_logits[:, 0] > 0).cpu().numpy(),
            truth=frame.truth,
            outputs=outputs,
            prompted_ids=frame.new_ids,
            low_res_stride=model.embedding_stride / MASKS_PER_CELL,
        )


def _track_frames(
    session: VideoSession, simulator: SAM2PromptSimulator, frames: SourceFrames
) -> Iterator[TrackedFrame]:
    """Track the frames from the first object on, and prompt each object."""
    kind = simulator.plan(max(frames.source.num_frames, 2), step=0).prompts[0]
    for frame, size, truth in frames:
        new = _new_at_model_size(session.model, truth, session.objects)
        if not session.objects and new is None:
            continue
        prompted: list[FrameOutput] = []
        if new is not None:
            prompted.append(_prompt(session, simulator, kind, frame, new))
        batches = session.step(frame)
        yield TrackedFrame(
            frame_index=frame,
            size=size,
            truth=truth,
            object_ids=tuple(i for batch in batches for i in batch.object_ids),
            outputs=tuple(batch.output for batch in batches),
            new_ids=() if new is None else new.object_ids,
            prompted=tuple(prompted),
        )


def _new_at_model_size(
    model: PromptableModel, truth: FrameMasks | None, known: Collection[int]
) -> FrameMasks | None:
    """The objects of a frame that are new, or None.

    An object without a pixel at the model's size is prompted on a later frame that
    shows it larger: an empty mask prompt would mean that it is absent.
    """
    new = new_objects(truth, known)
    if truth is None or not new:
        return None
    masks = truth.select(new)
    prompts = model.data_preprocessor.mask_prompt(masks)  # (O, 1, H, W)
    visible = prompts.flatten(1).any(dim=1).tolist()
    new = [object_id for object_id, seen in zip(new, visible, strict=True) if seen]
    return truth.select(new) if new else None


def _prompt(
    session: VideoSession,
    simulator: SAM2PromptSimulator,
    kind: PromptKind,
    frame_index: int,
    truth: FrameMasks,
) -> FrameOutput:
    """Prompt new objects on a frame, with correction clicks if prompts are clicks."""
    preprocessor = session.model.data_preprocessor
    masks = preprocessor.mask_prompt(truth)
    clicks = ClickGenerators((frame_index,), (len(masks),), masks.device)
    void = None
    if truth.void is not None:
        as_mask = FrameMasks(object_ids=(0,), masks=truth.void[None])
        void = preprocessor.mask_prompt(as_mask)  # (1, 1, H, W)

    def correct(logits: Tensor) -> PointPrompt:
        return simulator.correction(masks, logits > 0, clicks, void)

    return session.add_prompt(
        frame_index,
        truth.object_ids,
        simulator.first_prompt(kind, masks, clicks),
        correct=None if kind is PromptKind.MASK else correct,
        num_corrections=simulator.num_corrections,
    )


def new_objects(truth: FrameMasks | None, known: Collection[int]) -> list[int]:
    """Ids of the objects on a frame that are not known yet."""
    if truth is None:
        return []
    return [
        object_id
        for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
        if object_id not in known and mask.any()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """Ground truth that a simulated user compares masks with.

    Attributes:
        masks: (O, 1, height, width), bool, at the size of the frame's file.
        void: Pixels to be ignored, (1, 1, height, width), bool, or None.
    """

    masks: Tensor
    void: Tensor | None

    @classmethod
    def of(cls, truth: FrameMasks, device: torch.device) -> 'GroundTruth':
        """Move ground truth to the device."""
        void = truth.void
        return cls(
            masks=torch.from_numpy(truth.masks)[:, None].to(device),
            void=None
            if void is None
            else torch.from_numpy(void)[None, None].to(device),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame's file."""
        return self.masks.shape[-2], self.masks.shape[-1]

    def select(self, rows: slice) -> 'GroundTruth':
        """The ground truth of some objects."""
        return GroundTruth(masks=self.masks[rows], void=self.void)

    def boxes(self) -> PointPrompt:
        """The tightest box around each object."""
        return boxes_to_points(masks_to_boxes(self.masks))

    def click(self, shown: Tensor | None) -> PointPrompt:
        """Click in the centre of the largest error of each object.

        Args:
            shown: (O, 1, height, width), bool; None where nothing is shown yet.

        Returns:
            Points in pixels of the file.
        """
        return center_error_points(self.masks, shown, self.void)

    def ious(self, shown: Tensor) -> Tensor:
        """Score masks, (O, 1, height, width), bool.

        Returns:
            (O, 1), in [0, 1].
        """
        return mask_ious(shown, self.masks, self.void)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks as a user sees them: (O, 1, H4, W4), logits, to (O, 1, *size), bool."""
    return upsample_logits(logits.float(), size) > 0


def points_at_model_size(
    model: PromptableModel, points: PointPrompt, size: tuple[int, int]
) -> PointPrompt:
    """Scale points from pixels of a file, of the given size, to the model's image."""
    shares = points.coords / points.coords.new_tensor([size[1], size[0]])
    return model.data_preprocessor.point_prompt(replace(points, coords=shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """A model that sees images as they are, or mirrored from left to right.

    Attributes:
        model: The model.
        mirrored: Whether images are mirrored; prompts and masks outside are not.
    """

    model: PromptableModel
    mirrored: bool = False

    def encode(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Encode an image, (height, width, 3), RGB."""
        seen = np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels
        return self.model.encode(self.model.data_preprocessor.frame(seen))

    def decode(
        self,
        features: ImageFeatures,
        points: PointPrompt,
        size: tuple[int, int],
        previous: Tensor | None = None,
    ) -> Tensor:
        """Decode the prompts of objects.

        Args:
            features: Of this view, (O, …).
            points: In pixels of the file.
            size: Height and width of the file.
            previous: What this returned for fewer points, or None.

        Returns:
            (O, 1, H4, W4), logits; mirrored like the image.
        """
        heads, limit = self.model.heads, PREVIOUS_LOGIT_LIMIT
        if self.mirrored:
            points = mirror_points(points, size[1])
        seen = points_at_model_size(self.model, points, size)
        logits, ious = heads.decode_image(
            embedding=heads.tracker.condition_on_memory(features, None),
            high_res=features.high_res,
            points=seen,
            previous_logits=None if previous is None else previous.clamp(-limit, limit),
            multimask=is_ambiguous(seen),
        )
        return best_masks(logits, ious)


def mirror_points(points: PointPrompt, width: int) -> PointPrompt:
    """Mirror points in an image of a width; the corners of a box change sides."""
    x, y = points.coords.unbind(dim=-1)
    x = width - 1 - x
    labels = points.labels
    is_corner = (labels == PointLabel.BOX_TOP_LEFT) | (
        labels == PointLabel.BOX_BOTTOM_RIGHT
    )
    # The two corners of a box are neighbours, top left first.
    shift = torch.where(labels == PointLabel.BOX_TOP_LEFT, 1, -1)
    positions = torch.arange(x.shape[1], device=x.device) + shift * is_corner
    return replace(points, coords=torch.stack([x.gather(1, positions), y], dim=-1))


def average_views(
    views: Sequence[ImageView], logits: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    """Average the masks of views, each (O, 1, H4, W4), to (O, 1, *size), bool."""
    if len(views) == 1 and not views[0].mirrored:
        return enlarge(logits[0], size)
    probs = [upsample_logits(part.float(), size).sigmoid() for part in logits]
    pairs = zip(views, probs, strict=True)
    seen = [prob.flip(-1) if view.mirrored else prob for view, prob in pairs]
    return torch.stack(seen).mean(dim=0) > PROBABILITY_THRESHOLD


def round_name(number: int, unit: str) -> str:
    """Name a round, such as ``1_click`` or ``3_clicks``."""
    return f'{number}_{unit}' + ('' if number == 1 else 's')


class SAM2PromptRounds(SAM2PromptSimulator):
    """A simulated user who adds prompts from round to round.

    As a prompt simulator it prompts clips (``mode='tensor'`` of :class:`SAM2`) on their
    first frame, with clicks in the centre of each object and of the largest error.

    Args:
        num_clicks: Number of clicks on each prompted frame.

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
        self, model: PromptableModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of a video, round by round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImageOutput:
    """Masks of some objects of an image after each round, and all clicks.

    Attributes:
        masks: (O, 1, height, width), bool, on the CPU, by the name of the round.
        clicks: In pixels of the file.
    """

    masks: dict[str, Tensor]
    clicks: PointPrompt


@MODELS.register_module()
class SAM2ImageRounds(SAM2PromptRounds):
    """Prompts each object of an image by a box, and separately by clicks.

    The first click falls in the centre of the object, the others in the centre of
    the largest error (Kirillov et al., 2023, section 7.1; Ravi et al., 2024, section
    6.3). The box is the tightest one. Annotated frames of a video count as images.

    Args:
        click_counts: Numbers of clicks after which masks are scored, ascending.

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
        self, model: PromptableModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of each annotated frame."""
        return self.run_views([ImageView(model=model)], source)

    def run_views(
        self, views: Sequence[ImageView], source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of each annotated frame in several views.

        The user sees the average mask, and clicks on its errors in all views.
        """
        for frame in source.annotated_frames():
            truth = source.read_masks(frame)
            visible = new_objects(truth, ())
            if truth is not None and visible:
                pixels = source.read_frame(frame)
                features = [view.encode(pixels) for view in views]
                yield from self._rounds(views, features, truth.select(visible), frame)

    def _rounds(
        self,
        views: Sequence[ImageView],
        features: Sequence[ImageFeatures],
        truth: FrameMasks,
        frame_index: int,
    ) -> Iterator[FramePrediction]:
        """All rounds of one image."""
        all_truth = GroundTruth.of(truth, features[0].embedding.device)
        outputs: list[_ImageOutput] = []
        marks: list[PromptMark] = []
        for first in range(0, len(truth.masks), IMAGE_BATCH_OBJECTS):
            rows = slice(first, first + IMAGE_BATCH_OBJECTS)
            outputs.append(self._prompt(views, features, all_truth.select(rows)))
            marks += marks_of_points(outputs[-1].clicks, truth.object_ids[rows])
        names = tuple(outputs[0].masks)
        for name in names:
            is_final = name == names[-1]
            yield FramePrediction(
                frame_index=frame_index,
                object_ids=truth.object_ids,
                masks=torch.cat([output.masks[name] for output in outputs])[
                    :, 0
                ].numpy(),
                truth=truth,
                prompted_ids=truth.object_ids,
                prompt_round=PromptRound(name=name, is_final=is_final),
                marks=tuple(marks) if is_final else (),
            )

    def _prompt(
        self,
        views: Sequence[ImageView],
        features: Sequence[ImageFeatures],
        truth: GroundTruth,
    ) -> _ImageOutput:
        """Prompt objects in one batch, by a box and by clicks."""
        size = truth.size
        pairs = [
            (view, part.repeated(len(truth.masks)))
            for view, part in zip(views, features, strict=True)
        ]
        box = truth.boxes()
        boxed = [view.decode(repeated, box, size) for view, repeated in pairs]
        masks = {BOX_ROUND: average_views(views, boxed, size).cpu()}
        points = truth.click(None)
        # Of each view, (O, 1, H4, W4).
        logits = [view.decode(repeated, points, size) for view, repeated in pairs]
        for number in range(1, self.num_clicks + 1):
            shown = average_views(views, logits, size)
            if number in self.click_counts:
                masks[round_name(number, 'click')] = shown.cpu()
            if number < self.num_clicks:
                # A user does not click on a mask without any error.
                done = truth.ious(shown) == 1  # (O, 1)
                click = truth.click(shown)
                labels = torch.where(done, PointLabel.PADDING, click.labels).int()
                points = points.followed_by(replace(click, labels=labels))
                logits = [
                    torch.where(
                        done[..., None, None],
                        before,
                        view.decode(repeated, points, size, before),
                    )
                    for (view, repeated), before in zip(pairs, logits, strict=True)
                ]
        return _ImageOutput(masks=masks, clicks=points)


class SAM2VideoRounds(SAM2PromptRounds):
    """Base of the offline and the online user.

    An object is annotated first where it appears first, by a click in its centre and
    further clicks in the centre of the largest error. Each object is tracked as if it
    were alone.

    Args:
        num_frames: Number of rounds, and of frames on which an object is annotated in
            the last round.
        num_clicks: Number of clicks on each annotated frame.

    Raises:
        ValueError: If a number is smaller than one.
    """

    def __init__(self, *, num_frames: int, num_clicks: int) -> None:
        if num_frames < 1:
            msg = f'num_frames is {num_frames}; annotate at least one frame'
            raise ValueError(msg)
        super().__init__(num_clicks=num_clicks)
        self.num_frames = num_frames

    def annotate(
        self,
        session: VideoSession,
        frame_index: int,
        object_id: int,
        truth: GroundTruth,
    ) -> None:
        """Click on one object, each time where its mask is most wrong.

        A mask without any error gets no further click. The frame then conditions the
        video.
        """
        points: PointPrompt | None = None
        for _ in range(self.num_clicks):
            obj = session.objects.get(object_id)
            output = None if obj is None else obj.output(frame_index)
            shown = None if output is None else enlarge(output.mask_logits, truth.size)
            if shown is not None and bool((truth.ious(shown) == 1).all()):
                break
            click = truth.click(shown)
            points = click if points is None else points.followed_by(click)
            prompt = points_at_model_size(session.model, points, truth.size)
            session.add_prompt(frame_index, [object_id], FramePrompt(points=prompt))
        session.commit()

    def prediction(
        self,
        model: PromptableModel,
        objects: dict[int, TrackedObject],
        frame_index: int,
        size: tuple[int, int],
        truth: FrameMasks | None,
        number: int,
    ) -> FramePrediction:
        """The masks of a round on a frame; they may overlap.

        Args:
            objects: By their ids in the data set.
            size: Height and width of the frame's file.
            number: Number of the round, from 1; an object has at most so many
                annotated frames in it.
        """
        height, width = model.data_preprocessor.image_size
        scale = (size[1] / width, size[0] / height)
        masks: list[NDArray[np.bool_]] = []
        marks: list[PromptMark] = []
        prompted_ids: list[int] = []
        for object_id, obj in objects.items():
            masks.append(_shown(obj, frame_index, size)[0, 0].cpu().numpy())
            prompt = obj.prompts.get(frame_index)
            if prompt is not None and prompt.points is not None:
                prompted_ids.append(object_id)
                marks += marks_of_points(prompt.points, (object_id,), scale)
        return FramePrediction(
            frame_index=frame_index,
            object_ids=tuple(objects),
            masks=np.stack(masks),
            truth=truth,
            prompted_ids=tuple(prompted_ids),
            prompt_round=PromptRound(
                name=round_name(number, 'frame'),
                is_final=number == self.num_frames,
            ),
            marks=tuple(marks),
        )


def _shown(obj: TrackedObject, frame_index: int, size: tuple[int, int]) -> Tensor:
    """The latest mask of an object, (1, 1, *size), bool."""
    return enlarge(_output(obj, frame_index).mask_logits, size)


def _output(obj: TrackedObject, frame_index: int) -> ObjectOutput:
    output = obj.output(frame_index)
    if output is None:
        msg = f'Object {obj.object_id} was not tracked on frame {frame_index}'
        raise ValueError(msg)
    return output


def _truth_of(
    truth: FrameMasks | None,
    object_id: int,
    size: tuple[int, int],
    model: PromptableModel,
) -> GroundTruth | None:
    """Ground truth of one object, empty if it is absent; None if not annotated."""
    if truth is None:
        return None
    if object_id in truth.object_ids:
        alone = truth.select([object_id])
    else:
        empty = np.zeros((1, *size), dtype=bool)
        alone = replace(truth, object_ids=(object_id,), masks=empty)
    return GroundTruth.of(alone, model.data_preprocessor.mean.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorstFrame:
    """The frame with the lowest IoU of an object, and the object as it was there."""

    frame_index: int
    iou: float
    truth: GroundTruth
    obj: TrackedObject


@MODELS.register_module()
class SAM2OfflineRounds(SAM2VideoRounds):
    """A user who looks through the whole video and then corrects its worst frame.

    Each round tracks the video from its start, with each object conditioned on all
    frames on which it was annotated so far. Then the frame where its IoU with the
    ground truth is lowest is annotated. The arguments are those of
    :class:`SAM2VideoRounds`.
    """

    def run(
        self, model: PromptableModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Track the video once in every round."""
        frames = SourceFrames(source)
        session = open_session(model, frames)
        for number in range(1, self.num_frames + 1):
            worst: dict[int, _WorstFrame] = {}
            tracked = self._track_frames(session, frames, is_first=number == 1)
            for frame in until_final(session, frames, tracked):
                index, truth = frame.frame_index, frame.truth
                ids = frame.object_ids
                shown = {i: session.objects[i] for i in (*ids, *frame.new_ids)}
                yield self.prediction(model, shown, index, frame.size, truth, number)
                for object_id in ids:
                    object_truth = _truth_of(truth, object_id, frame.size, model)
                    self._update_worst(
                        worst, session.objects[object_id], index, object_truth
                    )
            if number < self.num_frames:
                for object_id, wrong in worst.items():
                    # The click attends to the memories that the pass had there.
                    session.objects[object_id] = wrong.obj
                    self.annotate(session, wrong.frame_index, object_id, wrong.truth)

    def _track_frames(
        self, session: VideoSession, frames: SourceFrames, *, is_first: bool
    ) -> Iterator[TrackedFrame]:
        """Track the video from its start; in the first round, objects appear."""
        for frame, size, truth in frames:
            objects = session.objects
            ids = tuple(i for i, obj in objects.items() if min(obj.prompts) <= frame)
            new = new_objects(truth, objects) if is_first else []
            if not ids and not new:
                continue
            session.step(frame, object_ids=ids)
            for object_id in new:
                object_truth = _truth_of(truth, object_id, size, session.model)
                if object_truth is not None:
                    self.annotate(session, frame, object_id, object_truth)
            yield TrackedFrame(
                frame_index=frame,
                size=size,
                truth=truth,
                object_ids=ids,
                new_ids=tuple(new),
            )

    def _update_worst(
        self,
        worst: dict[int, _WorstFrame],
        obj: TrackedObject,
        frame_index: int,
        truth: GroundTruth | None,
    ) -> None:
        """Replace the worst frame of an object if this frame is worse."""
        if truth is None or frame_index in obj.prompts:
            return
        iou = float(truth.ious(_shown(obj, frame_index, truth.size)))
        earlier = worst.get(obj.object_id)
        if iou < (1.0 if earlier is None else earlier.iou):
            worst[obj.object_id] = _WorstFrame(
                frame_index=frame_index, iou=iou, truth=truth, obj=obj.copy()
            )


@MODELS.register_module()
class SAM2OnlineRounds(SAM2VideoRounds):
    """A user who watches the video once and stops where an object is lost.

    An object is annotated on a frame where the IoU of its mask with the ground truth
    is too low, unless it has been annotated on ``num_frames`` frames already; tracking
    then continues. All rounds are computed in one pass: where an object is corrected, a
    copy of it continues without the correction.

    Args:
        num_frames: Number of rounds, and of frames on which an object is annotated in
            the last round.
        num_clicks: Number of clicks on each annotated frame.
        min_iou: Masks with a lower IoU are corrected.

    Raises:
        ValueError: If ``min_iou`` is not in (0, 1].
    """

    def __init__(self, *, num_frames: int, num_clicks: int, min_iou: float) -> None:
        super().__init__(num_frames=num_frames, num_clicks=num_clicks)
        if not 0 < min_iou <= 1:
            msg = f'min_iou is {min_iou}; give a number above 0, at most 1'
            raise ValueError(msg)
        self.min_iou = min_iou

    def run(
        self, model: PromptableModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Track the video once."""
        frames = SourceFrames(source)
        session = open_session(model, frames, live=True)
        # Ids in the session of the copies of an object with 1, 2, … annotated frames.
        copies: dict[int, list[int]] = {}
        new_ids = count()
        for frame, size, truth in frames:
            new = new_objects(truth, copies)
            if not copies and not new:
                continue
            session.step(frame)
            for object_id, ids in copies.items():
                object_truth = _truth_of(truth, object_id, size, model)
                latest = session.objects[ids[-1]]
                if object_truth is None or len(ids) == self.num_frames:
                    continue
                if float(object_truth.ious(_shown(latest, frame, size))) < self.min_iou:
                    ids.append(next(new_ids))
                    corrected = replace(latest.copy(), object_id=ids[-1])
                    session.objects[ids[-1]] = corrected
                    self.annotate(session, frame, ids[-1], object_truth)
            for object_id in new:
                object_truth = _truth_of(truth, object_id, size, model)
                if object_truth is not None:
                    copies[object_id] = [next(new_ids)]
                    self.annotate(session, frame, copies[object_id][0], object_truth)
            for number in range(1, self.num_frames + 1):
                shown = {
                    object_id: session.objects[ids[min(number, len(ids)) - 1]]
                    for object_id, ids in copies.items()
                }
                yield self.prediction(model, shown, frame, size, truth, number)
