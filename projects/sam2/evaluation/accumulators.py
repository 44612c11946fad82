"""J and F of a video, computed as its masks come in."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS, TASK_UTILS
from numpy.typing import NDArray

from ..ops import encode_masks
from ..structures import (
    FrameMasklets,
    FrameMasks,
    FramePrediction,
    Masklets,
    PromptMark,
    VideoRecord,
    VideoResult,
    VideoSource,
    marks_of_points,
)
from .jf import region_similarity, score_masks
from .protocol import (
    FrameObjects,
    JFProtocol,
    ScoreTracks,
    VideoScores,
    summarise,
)


@TASK_UTILS.register_module()
class JFAccumulator:
    """Scores the masks of a video frame by frame; keeps numbers, no masks.

    What was not predicted counts as empty: an object without a mask, and an
    annotated frame that was never handed on.

    Args:
        protocol: Config of which objects count on which frames, in ``TASK_UTILS``:
            ``JFDavisProtocol`` (default), ``JFAppearanceProtocol`` or
            ``JFSAVProtocol``.
    """

    def __init__(self, *, protocol: Mapping[str, Any] | None = None) -> None:
        self.protocol: JFProtocol = TASK_UTILS.build(
            dict(protocol or {'type': 'JFDavisProtocol'})
        )
        self._tracks = ScoreTracks(self.protocol)
        self._source: VideoSource | None = None
        self._pending: deque[int] = deque()

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        frames = record.source.annotated_frames()
        self._source = record.source
        self._pending = deque(frames)
        self._tracks.begin(frames)

    def add(self, prediction: FramePrediction) -> None:
        """Score a frame.

        Raises:
            ValueError: If the masks are not of the size of the truth, or no video
                was begun.
        """
        self._score_missed(prediction.frame_index)
        if self._pending and self._pending[0] == prediction.frame_index:
            self._pending.popleft()
        if prediction.truth is not None:
            masks = dict(zip(prediction.object_ids, prediction.masks, strict=True))
            self._score(prediction.frame_index, prediction.truth, masks)

    def finish(self, result: VideoResult) -> None:
        """Write the scores of the video.

        Args:
            result: Its field ``scores`` is set, to :class:`VideoScores`.
        """
        self._score_missed(None)
        result.set_field(self._tracks.finish(self._video.name), 'scores')

    @property
    def _video(self) -> VideoSource:
        """The video that was begun."""
        if self._source is None:
            msg = 'JFAccumulator was given a frame before a video; call begin() first'
            raise ValueError(msg)
        return self._source

    def _score_missed(self, before: int | None) -> None:
        """Score annotated frames that were passed over, all of them for None."""
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
        """Score the objects that count on a frame; None where it was passed over."""
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        frame = FrameObjects(
            frame_index=frame_index,
            frame_name=self._video.frame_name(frame_index),
            truth=_shown(true_masks),
            shown=_shown(masks or {}),
            predicted=None if masks is None else masks.keys(),
        )
        counted = self._tracks.choose(frame)
        if not counted:
            return
        masks = masks or {}
        empty = np.zeros(truth.masks.shape[1:], dtype=bool)
        pairs = [(masks.get(i, empty), true_masks.get(i, empty)) for i in counted]
        for mask, _ in pairs:
            if mask.shape != empty.shape:
                msg = (
                    f'{self._video.name}, frame {frame_index}: the predicted mask is '
                    f'{mask.shape}, the ground truth {empty.shape}; predict at the '
                    'size of the file'
                )
                raise ValueError(msg)
        pred, wanted = zip(*pairs, strict=True)
        scores = score_masks(pred, wanted, truth.void)
        self._tracks.add(frame_index, counted, scores)


def _shown(masks: Mapping[int, NDArray[np.bool_]]) -> Sequence[int]:
    """Ids of the masks with any pixel."""
    return [object_id for object_id, mask in masks.items() if mask.any()]


DECODER_STRIDE = 4


@TASK_UTILS.register_module()
class MaskletRecorder:
    """Keeps masks, run-length encoded, of the first videos of a dataset.

    Videos are chosen by their position in the dataset, so that the same ones are
    kept whatever the number of processes. Of a long video evenly spaced frames are
    kept, and those on which an object is prompted or, where few are, annotated.

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
        self._chosen = False
        self._stride = 1
        self._sparse = False
        self._frames: list[FrameMasklets] = []

    def begin(self, record: VideoRecord) -> None:
        """Start a video."""
        self._chosen = record.sample_index < self.max_videos
        self._stride = -(-record.source.num_frames // self.max_frames)
        self._sparse = len(record.source.annotated_frames()) <= self.max_frames
        self._frames = []

    def add(self, prediction: FramePrediction) -> None:
        """Keep the masks of a frame."""
        annotated = self._sparse and prediction.truth is not None
        on_stride = prediction.frame_index % self._stride == 0
        if not self._chosen or not (on_stride or annotated or prediction.prompted_ids):
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
        """Hand over what was kept of the video.

        Args:
            result: Its field ``masklets`` is set, to :class:`Masklets`; left unset
                where the video was not chosen.
        """
        if self._chosen:
            result.set_field(Masklets(frames=tuple(self._frames)), 'masklets')
        self._frames = []


def _prompt_marks(prediction: FramePrediction) -> Iterator[PromptMark]:
    """Points that led to the masks of a frame, in pixels of its file."""
    first = 0
    for output in prediction.outputs:
        logits = output.final.mask_logits  # (O, 1, H4, W4)
        ids = prediction.object_ids[first : first + len(logits)]
        first += len(logits)
        height, width = prediction.masks.shape[1:]
        scale = (
            width / (DECODER_STRIDE * logits.shape[3]),
            height / (DECODER_STRIDE * logits.shape[2]),
        )
        points = output.final.points
        if points is not None and set(ids) & set(prediction.prompted_ids):
            yield from marks_of_points(points, ids, scale)


def copy_first_masks(source: VideoSource) -> Iterator[FramePrediction]:
    """Predict each object where it was first seen."""
    first: dict[int, NDArray[np.bool_]] = {}
    for frame_index in source.annotated_frames():
        truth = source.read_masks(frame_index)
        if truth is None:
            continue
        new = {
            object_id: mask
            for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
            if object_id not in first and mask.any()
        }
        first.update(new)
        if not first:
            continue
        yield FramePrediction(
            frame_index=frame_index,
            object_ids=tuple(first),
            masks=np.stack(list(first.values())),
            truth=truth,
            prompted_ids=tuple(new),
        )


def score_copy_baseline(
    sources: Sequence[VideoSource], *, protocol: Mapping[str, Any] | None = None
) -> list[VideoScores]:
    """Score the copied masks of videos as the model's masks are scored.

    Args:
        protocol: Config of the protocol, as for :class:`JFAccumulator`.
    """
    accumulator = JFAccumulator(protocol=protocol)
    scores: list[VideoScores] = []
    for sample_index, source in enumerate(sources):
        record = VideoRecord(metainfo={'source': source, 'sample_index': sample_index})
        result = VideoResult(
            metainfo={'sample_index': sample_index, 'video_name': source.name}
        )
        accumulator.begin(record)
        for prediction in copy_first_masks(source):
            accumulator.add(prediction)
        accumulator.finish(result)
        scores.append(result.scores)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundIoUs:
    """IoU of the objects of one image after one round of prompts.

    Attributes:
        name: Of the round, such as ``3_clicks``.
        ious: One for each object on each frame, in [0, 1].
    """

    name: str
    ious: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundScores:
    """J and F of one video after one round of prompts.

    Attributes:
        name: Of the round, such as ``2_frames``.
        scores: Of the video.
    """

    name: str
    scores: VideoScores


@TASK_UTILS.register_module()
class ClipPromptIoUAccumulator:
    """IoU of the masks on prompted frames, round by round."""

    def __init__(self) -> None:
        self._ious: dict[str, list[float]] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start an image."""
        self._ious = {}

    def add_round(self, prediction: FramePrediction) -> None:
        """Score an answer."""
        truth = prediction.truth
        if truth is None:
            return
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        name = prediction.prompt_round.name
        masks = zip(prediction.object_ids, prediction.masks, strict=True)
        self._ious.setdefault(name, []).extend(
            region_similarity(mask, true_masks[object_id], truth.void)
            for object_id, mask in masks
            if object_id in prediction.prompted_ids
        )

    def finish(self, result: VideoResult) -> None:
        """Write the scores of the image.

        Args:
            result: Its field ``rounds`` is set, to :class:`RoundIoUs`.
        """
        rounds = tuple(
            RoundIoUs(name=name, ious=tuple(ious)) for name, ious in self._ious.items()
        )
        result.set_field(rounds, 'rounds')


@TASK_UTILS.register_module()
class JFRoundsAccumulator:
    """J and F of a video, round by round.

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
        """Score an answer.

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
        """Write the scores of the video.

        Args:
            result: Its field ``rounds`` is set, to :class:`RoundScores`.
        """
        rounds = []
        for name, accumulator in self._rounds.items():
            one = VideoResult()
            accumulator.finish(one)
            rounds.append(RoundScores(name=name, scores=one.scores))
        result.set_field(tuple(rounds), 'rounds')


class RoundsMetric(BaseMetric):
    """Gathers the rounds of all images or videos, each once, whoever scored it.

    So the figures are the same whatever the number of processes.

    Attributes:
        accumulator: What the model has to have, for the error.
    """

    # Without a prefix, MMEngine asks for one in the log; an empty one is none.
    default_prefix = ''
    accumulator = ''

    def __init__(self) -> None:
        # As JFMetric: through the process group, not through a shared folder.
        super().__init__(collect_device='gpu')

    def process(
        self,
        data_batch: Any,
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the rounds of images or videos.

        Args:
            data_samples: Results, as the dicts that MMEngine's evaluator makes of them.

        Raises:
            ValueError: If a result has no rounds.
        """
        for fields in data_samples:
            if 'rounds' not in fields:
                msg = (
                    f'{fields["video_name"]}: its result has no rounds; add '
                    f"dict(type='{self.accumulator}', …) to model.accumulators"
                )
                raise ValueError(msg)
            self.results.append((int(fields['sample_index']), fields['rounds']))


@METRICS.register_module()
class ClipPromptIoUMetric(RoundsMetric):
    """Mean IoU over the objects of all images, 0 to 100, after each round of prompts.

    Reports ``mIoU_box``, ``mIoU_1_click`` and so on, as ``model.val_prompt_simulator``
    (:class:`SAM2ImageRounds`) has them.
    """

    accumulator = 'ClipPromptIoUAccumulator'

    def compute_metrics(
        self, results: list[tuple[int, tuple[RoundIoUs, ...]]]
    ) -> dict[str, float]:
        """Average over the objects of all images.

        Returns:
            A mean for each round; nothing where no image shows an object.
        """
        ious: dict[str, list[float]] = {}
        # In one order, so that rounding does not depend on who scored what.
        for _, rounds in sorted(dict(results).items()):
            for one in rounds:
                ious.setdefault(one.name, []).extend(one.ious)
        return {f'mIoU_{name}': 100 * float(np.mean(v)) for name, v in ious.items()}


@METRICS.register_module()
class JFRoundsMetric(RoundsMetric):
    """Mean J&F over the objects of all videos, 0 to 100, by annotated frames.

    Reports ``J&F_1_frame``, ``J&F_2_frames`` and so on, as
    ``model.val_prompt_simulator`` (:class:`SAM2OfflineRounds`,
    :class:`SAM2OnlineRounds`) has them, and their mean ``J&F_mean``.
    """

    accumulator = 'JFRoundsAccumulator'

    def compute_metrics(
        self, results: list[tuple[int, tuple[RoundScores, ...]]]
    ) -> dict[str, float]:
        """Average over the objects of all videos.

        Returns:
            A mean for each round and the mean of these; nothing where no video shows
            an object.
        """
        videos: dict[str, list[VideoScores]] = {}
        for _, rounds in sorted(dict(results).items()):
            for one in rounds:
                videos.setdefault(one.name, []).append(one.scores)
        if not videos:
            return {}
        summaries = {name: summarise(scores) for name, scores in videos.items()}
        for name, summary in summaries.items():
            figures = f'J {summary.j:.2f}, F {summary.f:.2f}'
            print_log(f'{name}: {figures}', logger='current')
        means = {f'J&F_{name}': one.j_and_f for name, one in summaries.items()}
        return {**means, 'J&F_mean': float(np.mean(list(means.values())))}
