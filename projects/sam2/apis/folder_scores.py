"""Score a folder of predicted masks against a folder of ground truth: J&F.

``score_folder`` scores the videos in worker processes; ``score_video`` reads the frames
of a video and scores the objects that the protocol counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.registry import TASK_UTILS

from ..datasets.io.errors import ClipDataError
from ..datasets.io.mask_folders import MaskVideo, list_mask_videos, open_mask_video
from ..datasets.processing.worker_pool import Advance, Heartbeat, run_tasks
from ..evaluation import VideoScorer, VideoScores

FRAME_SECONDS = 120.0  # a worker that takes longer for one frame is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringTask:
    """What to score, and how.

    Attributes:
        pred: Folder with a folder of predicted masks for each video.
        truth: Folder of the ground truth, likewise. Label images may be compared with
            object folders, whose numbers are then the labels.
        protocol: Config of the protocol, see ``PROTOCOLS``.
        binary: All values except 0 are object 1, also 255 (DAVIS 2016).
        measure: How masks are compared: ``davis`` or ``mosev2``.
    """

    pred: Path
    truth: Path
    protocol: Mapping[str, Any]
    binary: bool = False
    measure: str = 'davis'


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderScores:
    """Scores of all videos.

    Attributes:
        videos: Scores of each video, by name.
        missing_videos: Videos without a prediction; their objects count as empty.
        extra_videos: Predicted videos that are not scored.
    """

    videos: tuple[VideoScores, ...]
    missing_videos: tuple[str, ...]
    extra_videos: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether no prediction is missing or extra."""
        gaps = any(video.gaps for video in self.videos)
        return not (gaps or self.missing_videos or self.extra_videos)


def score_folder(
    task: ScoringTask,
    *,
    names: Sequence[str] | None = None,
    num_workers: int = 1,
    advance: Advance = lambda _done, _total: None,
) -> FolderScores:
    """Score a folder.

    Args:
        task: What to score.
        names: Videos to score; None for all of the ground truth.
        num_workers: Number of processes; 1 scores in this process.
        advance: Called after each video.

    Raises:
        ClipDataError: If a folder or file is missing or damaged, or a prediction has
            another size than the ground truth.
    """
    predicted = set(list_mask_videos(task.pred))
    names = list_mask_videos(task.truth) if names is None else list(names)
    advance(0, len(names))
    scores: dict[str, VideoScores] = {}
    for video in _score_videos(task, names, num_workers):
        scores[video.video_name] = video
        advance(len(scores), len(names))
    return FolderScores(
        videos=tuple(scores[name] for name in names),
        missing_videos=tuple(name for name in names if name not in predicted),
        extra_videos=tuple(sorted(predicted - set(names))),
    )


def _score_videos(
    task: ScoringTask, names: Sequence[str], num_workers: int
) -> Iterator[VideoScores]:
    """Yield the scores of videos as they are ready."""
    score = partial(score_video, task)
    if num_workers == 1:
        yield from map(score, names)
        return
    for result in run_tasks(
        names, score, num_workers=num_workers, time_limit=FRAME_SECONDS
    ):
        if result.result is None:
            raise ClipDataError(f'{result.task}: {result.error}')
        yield result.result


def score_video(
    task: ScoringTask, name: str, heartbeat: Heartbeat = lambda: None
) -> VideoScores:
    """Score a video; without a prediction, all objects count as empty.

    Raises:
        ClipDataError: See :func:`score_folder`; or if one side has an object folder 0
            and the other label images, where 0 is the background; or if masks of 0 and
            255 are not read as ``binary``.
    """
    truth = open_mask_video(task.truth / name, binary=task.binary)
    truth.check_void()
    pred = None
    if (task.pred / name).is_dir():
        pred = open_mask_video(task.pred / name, binary=task.binary)
        pred.check_void()
        _refuse_object_0(truth, pred)
    protocol = TASK_UTILS.build(dict(task.protocol))
    scorer = VideoScorer(protocol, measure=task.measure)
    scorer.begin(range(len(truth.stems)))
    for index, stem in enumerate(truth.stems):
        frame_pred = pred if pred is not None and stem in pred.stems else None
        try:
            _score_frame(scorer, index, stem, truth, frame_pred)
        except ClipDataError:
            raise
        except ValueError as error:
            raise ClipDataError(f'{task.pred / name}, frame {stem}: {error}') from error
        heartbeat()
    return scorer.finish(name)


def _score_frame(
    scorer: VideoScorer, index: int, stem: str, truth: MaskVideo, pred: MaskVideo | None
) -> None:
    """Score a frame: label images in one scan, folders of objects mask by mask."""
    pred_by_object = pred is not None and pred.object_files is not None
    if truth.object_files is None and not pred_by_object:
        labels = None if pred is None else pred.read_labels(stem)
        scorer.add_labels(index, stem, truth=truth.read_labels(stem), pred=labels)
        return
    masks = None
    if pred is not None:
        frame = pred.read_masks(stem)
        masks = dict(zip(frame.object_ids, frame.masks, strict=True))
    scorer.add_masks(
        index, stem, truth=truth.read_masks(stem), pred=masks, by_object=pred_by_object
    )


def _refuse_object_0(truth: MaskVideo, pred: MaskVideo) -> None:
    """Object 0 of folders cannot be compared with label images."""
    by_object = [video for video in (truth, pred) if video.object_files is not None]
    if len(by_object) == 1 and 0 in (by_object[0].object_files or {}):
        problem = 'has a folder for object 0, which no label image can hold'
        remedy = (
            'compare it with folders of objects (vos_inference.py: --per-object-png)'
        )
        raise ClipDataError.at(by_object[0].folder, problem, remedy)
