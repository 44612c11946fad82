"""Segments all videos of a data set, in one process or several."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from projects.sam2.apis.building import default_device
from projects.sam2.apis.released_builders import build_sam2_video_predictor
from projects.sam2.apis.video_predictor import SAM2VideoPredictor
from projects.sam2.apis.vos_inference import GivenMasks, VideoSegmenter
from projects.sam2.apis.vos_writing import MaskFolder
from projects.sam2.datasets import ClipObjectFolderDataset, ClipPaletteDataset
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.object_folders import ObjectFolderMasks
from projects.sam2.datasets.processing.extraction_run import VideoOutcome
from projects.sam2.datasets.processing.supervised import (
    Beat,
    StartMethod,
    run_supervised,
)
from projects.sam2.engine.distributed import rank_of_process
from projects.sam2.engine.samplers.clip_video_sampler import deal_videos

__all__ = ['VOSPlan', 'VideoLengths', 'run_inference']

VideoLengths = dict[str, int]
Videos = ClipPaletteDataset | ClipObjectFolderDataset

FRAME_SECONDS = 3600.0  # after which a process counts as one that hangs
# What stops one video and not the others.
BAD_VIDEO = (ClipDataError, ValueError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class VOSPlan:
    """A data set, and how its videos are segmented.

    Attributes:
        config: As for :func:`build_sam2`.
        checkpoint: Likewise.
        frames: Has ``<video>/*.jpg`` or ``<video>.mp4``.
        masks: Has ``<video>/<frame>.png``, or ``<video>/<object>/<frame>.png``.
        out: Where the masks go.
        file_list: Names of the videos; None for all.
        masks_per_object: The given masks have a folder for each object.
        given: Which of them are prompts.
        score_threshold: Masks are where logits exceed it.
        build: Other arguments of :func:`build_sam2_video_predictor`.
    """

    config: str
    checkpoint: str
    frames: Path
    masks: Path
    out: MaskFolder
    file_list: Path | None = None
    masks_per_object: bool = False
    given: GivenMasks = GivenMasks.FIRST_SEEN
    score_threshold: float = 0.0
    build: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What the masks depend on."""
        return {
            'config': self.config,
            'checkpoint': self.checkpoint,
            'frames': self.frames,
            'masks': self.masks,
            'given': self.given.value,
            'score_threshold': self.score_threshold,
            'per_object': self.out.per_object,
            **{name: v for name, v in self.build.items() if name != 'device'},
        }

    def source(self) -> Videos:
        """Open the data set.

        Returns:
            Its videos.

        Raises:
            FileNotFoundError: If a folder or the list is missing.
            ValueError: If there is no video.
        """
        for folder in (self.frames, self.masks):
            if not folder.is_dir():
                msg = f'{folder} is no folder; check the path'
                raise FileNotFoundError(msg)
        kind = ClipObjectFolderDataset if self.masks_per_object else ClipPaletteDataset
        file_list = None if self.file_list is None else str(self.file_list.absolute())
        return kind(
            data_root=str(self.frames),
            frame_folder='.',
            mask_folder=str(self.masks.absolute()),
            file_list=file_list,
        )

    def lengths(self) -> VideoLengths:
        """Frames of each video; 0 of one that cannot be opened."""
        source = self.source()
        return {name: _length(source, name) for name in source.list_videos()}


@dataclass(slots=True, kw_only=True)
class VOSWorker:
    """Segments one video after another in a process.

    Attributes:
        plan: What to do.
        started: Number of processes that have begun, shared between them: each takes
            the next GPU. None for a process alone.
        first_device: GPU of the first process.
        num_threads: Of this process on the CPU; None leaves it to torch.
    """

    plan: VOSPlan
    started: Any = None  # multiprocessing's Value, whose type takes no argument
    first_device: int = 0
    num_threads: int | None = None
    _tools: 'tuple[SAM2VideoPredictor, Videos] | None' = field(default=None, init=False)

    def prepare(self) -> tuple[SAM2VideoPredictor, Videos]:
        """Build the predictor and open the data set, once.

        Returns:
            Both.
        """
        if self._tools is None:
            self._tools = self._predictor(), self.plan.source()
        return self._tools

    def __call__(self, name: str, beat: Beat) -> int:
        """Segment a video, unless that is done.

        Args:
            name: Of the video.
            beat: Called after each frame.

        Returns:
            Frames that were written; 0 where they were there.

        Raises:
            ClipDataError: If the video cannot be read.
            ValueError: If it shows no object, or one that cannot be written.
        """
        if self.plan.out.has(name):
            return 0
        predictor, source = self.prepare()
        video = source.open_video(name)
        masks = video.masks
        folder_of: Mapping[int, str] = {}
        if isinstance(masks, ObjectFolderMasks):  # names all objects without decoding
            folder_of = masks.folder_of
            if self.plan.given is not GivenMasks.FIRST_FRAME:
                self.plan.out.check_ids(folder_of)
        segmenter = VideoSegmenter(
            predictor=predictor,
            given=self.plan.given,
            score_threshold=self.plan.score_threshold,
            beat=beat,
        )
        names = map(video.frame_name, range(video.num_frames))
        frames = zip(names, segmenter.segment(video), strict=True)
        return self.plan.out.write(name, frames, folder_of)

    def _predictor(self) -> SAM2VideoPredictor:
        """Build the predictor on this process's device."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        index = self.first_device
        if self.started is not None:
            with self.started.get_lock():
                index += self.started.value
                self.started.value += 1
        build = dict(self.plan.build)
        device = build.pop('device', None) or default_device()
        if device == 'cuda':
            device = f'cuda:{index % max(torch.cuda.device_count(), 1)}'
        plan = self.plan
        overrides = [f'++model.non_overlap_masks={not plan.out.per_object}'.lower()]
        return build_sam2_video_predictor(
            plan.config,
            plan.checkpoint,
            device=device,
            hydra_overrides_extra=overrides,
            **build,
        )


def run_inference(
    plan: VOSPlan,
    lengths: VideoLengths,
    *,
    num_processes: int,
    launcher: str,
    beat: Beat,
) -> Iterator[VideoOutcome]:
    """Segment this rank's videos, the longest first.

    Args:
        plan: What to do.
        lengths: Frames of each video of the data set.
        num_processes: Processes of this rank. They take videos as they get done.
        launcher: What started this rank beside others: ``'pytorch'``, ``'slurm'``,
            ``'mpi'``, or ``'none'`` for one rank alone.
        beat: Called after each frame where there is one process.

    Yields:
        What became of each video, as they end.

    Raises:
        ValueError: If there is no process.
    """
    if num_processes < 1:
        msg = f'num_processes is {num_processes}; give a positive number'
        raise ValueError(msg)
    rank = rank_of_process(launcher)
    names = list(lengths)
    hands = deal_videos(list(lengths.values()), rank.count)
    hand = [names[index] for index in hands[rank.index]]
    first_device = rank.local_index * num_processes
    if num_processes == 1:
        alone = VOSWorker(plan=plan, first_device=first_device)
        if not all(plan.out.has(name) for name in hand):
            alone.prepare()  # what is wrong with the checkpoint is so for all videos
        yield from (_attempt(alone, name, beat) for name in hand)
        return
    # CUDA survives no fork; without it, there is no need to import all again.
    start_method: StartMethod = 'spawn' if torch.cuda.is_available() else 'fork'
    context = multiprocessing.get_context(start_method)
    worker = VOSWorker(
        plan=plan,
        started=context.Value('i', 0),
        first_device=first_device,
        num_threads=max((os.cpu_count() or 1) // num_processes, 1),
    )
    for outcome in run_supervised(
        hand,
        worker,
        num_workers=num_processes,
        time_limit=FRAME_SECONDS,
        start_method=start_method,
    ):
        yield VideoOutcome(
            name=outcome.task,
            num_written=outcome.result or 0,
            problem=outcome.problem,
        )


def _attempt(worker: VOSWorker, name: str, beat: Beat) -> VideoOutcome:
    """Segment a video in this process."""
    try:
        return VideoOutcome(name=name, num_written=worker(name, beat))
    except BAD_VIDEO as error:
        return VideoOutcome(name=name, problem=f'{type(error).__name__}: {error}')


def _length(source: Videos, name: str) -> int:
    """Frames of a video; 0 where it cannot be opened, which is told in its turn."""
    try:
        return source.open_video(name).num_frames
    except ClipDataError:
        return 0
