"""Accumulators: what the model keeps of a video while it predicts, frame by frame.

The model calls ``begin(record)``, then ``add(prediction)`` for each frame in ascending
order (``add_round`` where a video is prompted in several rounds), then
``finish(result)``, which sets one field of the result. Masks are scored or encoded at
once and not kept.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from ..ops import encode_masks
from ..structures import (
    FrameMasklets,
    FrameMasks,
    FrameOutput,
    FramePrediction,
    Masklets,
    PromptMark,
    VideoRecord,
    VideoResult,
    VideoSource,
    marks_of_points,
)
from .jf import region_similarity
from .protocol import JFProtocol, VideoScorer
from .scores import VideoScores


@TASK_UTILS.register_module()
class JFAccumulator:
    """Scores the masks of a video by J and F.

    What was not predicted counts as empty: an object without a mask, and an annotated
    frame that was never added. Sets ``result.scores`` to :class:`VideoScores`.

    Args:
        protocol: Config of the protocol, which decides which objects count on which
            frames: ``JFDavisProtocol`` (default), ``JFAppearanceProtocol`` or
            ``JFSAVProtocol``.
    """

    field = 'scores'
    measure = 'davis'

    def __init__(self, *, protocol: Mapping[str, Any] | None = None) -> None:
        self.protocol: JFProtocol = TASK_UTILS.build(
            dict(protocol or {'type': 'JFDavisProtocol'})
        )
        self._scorer = VideoScorer(self.protocol, measure=self.measure)
        self._source: VideoSource | None = None
        self._pending: deque[int] = deque()  # annotated frames not scored yet

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        frames = record.source.annotated_frames()
        self._source = record.source
        self._pending = deque(frames)
        self._scorer.begin(frames)

    def add(self, prediction: FramePrediction) -> None:
        """Score a frame.

        Raises:
            ValueError: If the masks are not of the size of the ground truth, or no
                video was begun.
        """
        self._score_skipped(prediction.frame_index)
        if self._pending and self._pending[0] == prediction.frame_index:
            self._pending.popleft()
        if prediction.truth is not None:
            masks = dict(zip(prediction.object_ids, prediction.masks, strict=True))
            self._score(prediction.frame_index, prediction.truth, masks)

    def finish(self, result: VideoResult) -> None:
        """Set the field of the result."""
        self._score_skipped(None)
        result.set_field(self._scorer.finish(self._video.name), self.field)

    @property
    def _video(self) -> VideoSource:
        if self._source is None:
            name = type(self).__name__
            msg = f'{name} was given a frame before a video; call begin() first'
            raise ValueError(msg)
        return self._source

    def _score_skipped(self, before: int | None) -> None:
        """Score annotated frames that were never added, up to a frame or to the end."""
        while self._pending and (before is None or self._pending[0] < before):
            frame_index = self._pending.popleft()
            truth = self._video.read_masks(frame_index)
            if truth is not None:
                self._score(frame_index, truth, None)

    def _score(
        self,
        frame_index: int,
        truth: FrameMasks,
        masks: Mapping[int, NDArray[np.bool_]] | None,
    ) -> None:
        """Score a frame; without masks where it was not predicted."""
        name = self._video.frame_name(frame_index)
        try:
            self._scorer.add_masks(frame_index, name, truth=truth, pred=masks)
        except ValueError as error:
            msg = f'{self._video.name}, frame {frame_index}: {error}'
            raise ValueError(msg) from error


@TASK_UTILS.register_module()
class JFMosev2Accumulator(JFAccumulator):
    """Scores the masks of a video by the J and F of MOSEv2, beside those of DAVIS.

    Sets ``result.mosev2_scores`` to :class:`VideoScores`, see
    :func:`score_masks_mosev2`.

    Args:
        protocol: As for :class:`JFAccumulator`; MOSEv2 uses that of DAVIS.
    """

    field = 'mosev2_scores'
    measure = 'mosev2'


@TASK_UTILS.register_module()
class JFRoundsAccumulator:
    """Scores a video by J and F after each round of prompts.

    Sets ``result.rounds``: :class:`VideoScores` by the name of the round, such as
    ``2_frames``.

    Args:
        protocol: As for :class:`JFAccumulator`.
    """

    def __init__(self, *, protocol: Mapping[str, Any]) -> None:
        self.protocol = protocol
        self._record: VideoRecord | None = None
        self._rounds: dict[str, JFAccumulator] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        self._record = record
        self._rounds = {}

    def add_round(self, prediction: FramePrediction) -> None:
        """Score a frame of any round.

        Raises:
            ValueError: If no video was begun.
        """
        if self._record is None:
            msg = 'JFRoundsAccumulator has no video yet; call begin() first'
            raise ValueError(msg)
        name = prediction.prompt_round.name
        if name not in self._rounds:
            self._rounds[name] = JFAccumulator(protocol=self.protocol)
            self._rounds[name].begin(self._record)
        self._rounds[name].add(prediction)

    def finish(self, result: VideoResult) -> None:
        """Set ``result.rounds``."""
        rounds = {}
        for name, accumulator in self._rounds.items():
            round_result = VideoResult()
            accumulator.finish(round_result)
            rounds[name] = round_result.scores
        result.set_field(rounds, 'rounds')


@TASK_UTILS.register_module()
class ClipPromptIoUAccumulator:
    """Measures the IoU of the prompted objects after each round of prompts.

    Sets ``result.rounds``: a tuple of IoUs in [0, 1], one for each object on each
    frame, by the name of the round, such as ``3_clicks``.
    """

    def __init__(self) -> None:
        self._ious: dict[str, list[float]] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start an image."""
        self._ious = {}

    def add_round(self, prediction: FramePrediction) -> None:
        """Measure the masks of a frame of any round."""
        truth = prediction.truth
        if truth is None:
            return
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        pairs = zip(prediction.object_ids, prediction.masks, strict=True)
        self._ious.setdefault(prediction.prompt_round.name, []).extend(
            region_similarity(mask, true_masks[object_id], truth.void)
            for object_id, mask in pairs
            if object_id in prediction.prompted_ids
        )

    def finish(self, result: VideoResult) -> None:
        """Set ``result.rounds``."""
        rounds = {name: tuple(ious) for name, ious in self._ious.items()}
        result.set_field(rounds, 'rounds')


@TASK_UTILS.register_module()
class MaskletRecorder:
    """Keeps the masks of the first videos of a dataset, run-length encoded.

    Videos are chosen by their index in the dataset, so that the choice does not depend
    on the number of processes. For a long video it keeps evenly spaced frames, frames
    on which an object is prompted, and the annotated frames if there are few. Sets
    ``result.masklets`` to :class:`Masklets` for the chosen videos.

    Args:
        max_videos: Videos to keep.
        max_frames: Evenly spaced frames to keep of each.
    """

    def __init__(self, *, max_videos: int = 4, max_frames: int = 120) -> None:
        if max_videos < 0 or max_frames < 1:
            msg = (
                f'Expected max_videos of at least 0 and max_frames of at least 1, but '
                f'got {max_videos} and {max_frames}'
            )
            raise ValueError(msg)
        self.max_videos = max_videos
        self.max_frames = max_frames
        self._is_chosen = False
        self._stride = 1
        self._is_sparse = False  # so few frames are annotated that all are kept
        self._frames: list[FrameMasklets] = []

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        self._is_chosen = record.sample_index < self.max_videos
        self._stride = -(-record.source.num_frames // self.max_frames)
        self._is_sparse = len(record.source.annotated_frames()) <= self.max_frames
        self._frames = []

    def add(self, prediction: FramePrediction) -> None:
        """Keep the masks of a frame."""
        is_kept = (
            prediction.frame_index % self._stride == 0
            or (self._is_sparse and prediction.truth is not None)
            or prediction.prompted_ids
        )
        if not self._is_chosen or not is_kept:
            return
        marks = prediction.marks
        if prediction.prompted_ids and not marks:
            marks = tuple(_prompt_marks(prediction))
        encoded = encode_masks(prediction.masks) if prediction.object_ids else []
        self._frames.append(
            FrameMasklets(
                frame_index=prediction.frame_index,
                object_ids=prediction.object_ids,
                encoded=tuple(encoded),
                prompted_ids=prediction.prompted_ids,
                marks=marks,
            )
        )

    def finish(self, result: VideoResult) -> None:
        """Set ``result.masklets`` if the video was chosen."""
        if self._is_chosen:
            result.set_field(Masklets(frames=tuple(self._frames)), 'masklets')
        self._frames = []


def output_groups(
    prediction: FramePrediction,
) -> Iterator[tuple[FrameOutput, tuple[int, ...]]]:
    """Pair each output of the tracker with the ids of the objects in its batch."""
    first = 0
    for output in prediction.outputs:
        num_objects = len(output.final.mask_logits)
        yield output, prediction.object_ids[first : first + num_objects]
        first += num_objects


def _prompt_marks(prediction: FramePrediction) -> Iterator[PromptMark]:
    """Points that led to the masks of a frame, in pixels of its file."""
    height, width = prediction.masks.shape[1:]
    for output, object_ids in output_groups(prediction):
        points = output.final.points
        if points is not None and set(object_ids) & set(prediction.prompted_ids):
            low_height, low_width = output.final.mask_logits.shape[2:]  # H4, W4
            stride = prediction.low_res_stride
            scale = width / (stride * low_width), height / (stride * low_height)
            yield from marks_of_points(points, object_ids, scale)


def copy_first_masks(source: VideoSource) -> Iterator[FramePrediction]:
    """Predict each object's first mask on all annotated frames from that one on."""
    first_masks: dict[int, NDArray[np.bool_]] = {}
    for frame_index in source.annotated_frames():
        truth = source.read_masks(frame_index)
        if truth is None:
            continue
        new_masks = {
            object_id: mask
            for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
            if object_id not in first_masks and mask.any()
        }
        first_masks |= new_masks
        if first_masks:
            yield FramePrediction(
                frame_index=frame_index,
                object_ids=tuple(first_masks),
                masks=np.stack(list(first_masks.values())),
                truth=truth,
                prompted_ids=tuple(new_masks),
            )


def score_copy_baseline(
    sources: Sequence[VideoSource], *, protocol: Mapping[str, Any] | None = None
) -> list[VideoScores]:
    """Score :func:`copy_first_masks`, the baseline that a tracker must beat.

    Args:
        protocol: As for :class:`JFAccumulator`.
    """
    accumulator = JFAccumulator(protocol=protocol)
    scores: list[VideoScores] = []
    for sample_index, source in enumerate(sources):
        accumulator.begin(
            VideoRecord(metainfo={'source': source, 'sample_index': sample_index})
        )
        for prediction in copy_first_masks(source):
            accumulator.add(prediction)
        result = VideoResult()
        accumulator.finish(result)
        scores.append(result.scores)
    return scores
