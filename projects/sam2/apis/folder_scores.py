"""J&F of a folder of predicted masks against a folder of true ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from ..datasets.io.errors import ClipDataError
from ..datasets.io.mask_folders import (
    MaskVideo,
    list_mask_videos,
    open_mask_video,
)
from ..datasets.processing.worker_pool import Heartbeat, run_tasks
from ..evaluation import (
    FrameObjects,
    ScoreTracks,
    VideoScores,
    scan_labels,
    score_masks,
)
from ..structures import FrameMasks

TIME_LIMIT = 120.0  # seconds that a frame may take

Advance = Callable[[int, int], None]  # called with what is done and what there is


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringTask:
    """What to score, and how.

    Attributes:
        pred: Folder with a folder of predicted masks for each video.
        truth: Folder of the ground truth, likewise. Label images and folders of objects
            may be compared; the number of a folder is then the label.
        protocol: Config of the protocol, see ``PROTOCOLS``.
        binary: Every value but 0 is object 1, 255 among them (DAVIS 2016).
    """

    pred: Path
    truth: Path
    protocol: Mapping[str, Any]
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderScores:
    """Scores of all videos.

    Attributes:
        videos: Scores of each video, by name.
        missing_videos: Those without a prediction; all their objects count as empty.
        extra_videos: Predicted ones that are not scored.
    """

    videos: tuple[VideoScores, ...]
    missing_videos: tuple[str, ...]
    extra_videos: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing and nothing is too much."""
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
        names: Videos to score; None for all of the ground truth.
        num_workers: Processes; with 1 all is done in this one.

    Raises:
        ClipDataError: If a folder or file is missing or damaged, or a prediction has
            another size than the ground truth.
    """
    predicted = set(list_mask_videos(task.pred))
    wanted = list_mask_videos(task.truth) if names is None else list(names)
    advance(0, len(wanted))
    scores: dict[str, VideoScores] = {}
    for video in _score_all(task, wanted, num_workers):
        scores[video.video_name] = video
        advance(len(scores), len(wanted))
    return FolderScores(
        videos=tuple(scores[name] for name in wanted),
        missing_videos=tuple(name for name in wanted if name not in predicted),
        extra_videos=tuple(sorted(predicted - set(wanted))),
    )


def score_video(
    task: ScoringTask, name: str, heartbeat: Heartbeat = lambda: None
) -> VideoScores:
    """Score a video.

    Returns:
        Its scores; where there is no prediction all objects count as empty.

    Raises:
        ClipDataError: See :func:`score_folder`; or if a folder is called 0 on one side
            and the other has label images, where 0 is the background; or if one side
            has masks of 0 and 255 and is not read as ``binary``.
    """
    truth = open_mask_video(task.truth / name, binary=task.binary)
    truth.refuse_void_alone()
    pred = None
    if (task.pred / name).is_dir():
        pred = open_mask_video(task.pred / name, binary=task.binary)
        pred.refuse_void_alone()
        _check_numbers(truth, pred)
    tracks = ScoreTracks(TASK_UTILS.build(dict(task.protocol)))
    tracks.begin(range(len(truth.stems)))
    as_maps = truth.object_files is None and (pred is None or pred.object_files is None)
    score = _score_maps if as_maps else _score_objects
    for index, stem in enumerate(truth.stems):
        there = pred if pred is not None and stem in pred.stems else None
        try:
            score(tracks, (index, stem), truth, there)
        except ClipDataError:
            raise
        except ValueError as error:
            raise ClipDataError(f'{task.pred / name}, frame {stem}: {error}') from error
        heartbeat()
    return tracks.finish(name)


def _check_numbers(truth: MaskVideo, pred: MaskVideo) -> None:
    """Check that the numbers of folders and labels can mean the same."""
    sides = [one for one in (truth, pred) if one.object_files is not None]
    if len(sides) == 1 and 0 in (sides[0].object_files or {}):
        problem = 'has a folder for object 0, which no label image can hold'
        remedy = (
            'compare it with folders of objects (vos_inference.py: --per-object-png)'
        )
        raise ClipDataError.at(sides[0].folder, problem, remedy)


def _score_all(
    task: ScoringTask, names: Sequence[str], num_workers: int
) -> Iterable[VideoScores]:
    """Scores of videos, in the order in which they are ready."""
    if num_workers == 1:
        for name in names:
            yield score_video(task, name)
        return
    work = partial(score_video, task)
    for outcome in run_tasks(
        names, work, num_workers=num_workers, time_limit=TIME_LIMIT
    ):
        if outcome.result is None:
            raise ClipDataError(f'{outcome.task}: {outcome.error}')
        yield outcome.result


def _score_maps(
    tracks: ScoreTracks,
    place: tuple[int, str],
    truth: MaskVideo,
    pred: MaskVideo | None,
) -> None:
    """Score a frame of label images."""
    index, stem = place
    true_map = truth.read_labels(stem)
    pred_map = np.zeros_like(true_map) if pred is None else pred.read_labels(stem)
    scan = scan_labels(pred_map, true_map)
    frame = FrameObjects(
        frame_index=index,
        frame_name=stem,
        truth=scan.truth_ids,
        shown=scan.pred_ids,
        predicted=None if pred is None else scan.pred_ids,
    )
    chosen = tracks.choose(frame)
    tracks.add(index, chosen, scan.score(chosen))


def _score_objects(
    tracks: ScoreTracks,
    place: tuple[int, str],
    truth: MaskVideo,
    pred: MaskVideo | None,
) -> None:
    """Score a frame of which at least one side has a folder for each object."""
    index, stem = place
    true_masks = truth.read_masks(stem)
    empty = np.zeros(true_masks.masks.shape[1:], np.bool_)
    pred_masks = FrameMasks(object_ids=(), masks=empty[None][:0])
    if pred is not None:
        pred_masks = pred.read_masks(stem)
    frame = FrameObjects(
        frame_index=index,
        frame_name=stem,
        truth=_shown(true_masks),
        shown=_shown(pred_masks),
        predicted=None if pred is None else pred_masks.object_ids,
        by_object=pred is not None and pred.object_files is not None,
    )
    chosen = tracks.choose(frame)
    pairs = [
        [_mask_of(masks, object_id, empty) for object_id in chosen]
        for masks in (pred_masks, true_masks)
    ]
    tracks.add(index, chosen, score_masks(pairs[0], pairs[1], true_masks.void))


def _mask_of(
    masks: FrameMasks, object_id: int, empty: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mask of an object, empty where there is none."""
    if object_id not in masks.object_ids:
        return empty
    mask: NDArray[np.bool_] = masks.masks[masks.object_ids.index(object_id)]
    return mask


def _shown(masks: FrameMasks) -> list[int]:
    """Objects with a pixel."""
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    return [object_id for object_id, mask in pairs if mask.any()]
