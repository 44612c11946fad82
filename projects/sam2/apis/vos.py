"""Writes the masks of videos as PNG files, each video whole or not at all."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import ClipObjectFolderDataset, ClipPaletteDataset
from ..datasets.annotated_video import (
    read_objects,
    visible_objects,
    void_note,
)
from ..datasets.io.errors import ClipDataError
from ..datasets.io.images import VOID_LABEL
from ..datasets.io.listing import safe_join, scan_folder
from ..datasets.processing.davis_export import write_mask
from ..datasets.processing.worker_pool import (
    Heartbeat,
    StartMethod,
    TaskResult,
    run_tasks,
)
from ..datasets.sources.object_folders import ObjectFolderMasks
from ..engine.distributed import process_rank
from ..engine.samplers import balance_videos
from ..ops import atomic_write, write_atomically
from ..structures import FrameMasks, VideoSource
from .building import build_sam2_video_predictor, default_device
from .frame_readers import PrefetchReader, same_size
from .video_predictor import SAM2VideoPredictor
from .video_state import VideoState

SETTINGS_FILE = '.vos_inference.json'


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFolder:
    """Where the masks of a data set are written.

    ``<root>/<video>/<frame>.png`` with values that are object ids; or
    ``<root>/<video>/<object>/<frame>.png``, whose masks may overlap.

    Attributes:
        root: The folder.
        per_object: A folder for each object.
    """

    root: Path
    per_object: bool

    def has(self, name: str) -> bool:
        """Is a video done?

        Returns:
            True where all of its masks are there.
        """
        return safe_join(self.root, name).is_dir()

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Check that objects can be written, before they are tracked.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        if not self.per_object:
            for object_id in object_ids:
                _check_label(object_id)

    def write(
        self,
        name: str,
        frames: Iterable[tuple[str, FrameMasks]],
        folder_of: Mapping[int, str],
    ) -> int:
        """Write the masks of a video; it gets its name when the last one is there.

        Args:
            folder_of: How the folders of objects are called, by their ids; others by
                their three-digit ids. Read where each object has a folder.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        with atomic_write(safe_join(self.root, name)) as aside:
            aside.mkdir()
            writer = _ObjectWriter(folder=aside, folder_of=folder_of)
            done = 0
            for frame, masks in frames:
                if self.per_object:
                    writer.write(frame, masks)
                else:
                    _write_labels(aside / f'{frame}.png', masks)
                done += 1
        return done


def claim_folder(root: Path, settings: Mapping[str, Any], *, write: bool) -> None:
    """Make sure that a folder holds masks of these settings alone.

    A run that wrote no mask, for a misspelt path perhaps, leaves nothing to respect.

    Args:
        root: The folder; made where it is missing.

    Raises:
        FileExistsError: If it holds masks made otherwise.
    """
    path = root / SETTINGS_FILE
    wanted = {name: str(value) for name, value in settings.items()}
    if path.is_file() and _holds_masks(root):
        found = json.loads(path.read_text(encoding='utf-8'))
        if found == wanted:
            return
        names = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        told = ', '.join(f'{n} {found.get(n)}, not {wanted.get(n)}' for n in names)
        msg = (
            f'{root} holds masks made with other settings ({told}); remove it or '
            f'choose another'
        )
        raise FileExistsError(msg)
    if write:
        write_atomically(path, json.dumps(wanted, indent=1))


def _holds_masks(root: Path) -> bool:
    """Is anything there beside settings and what a killed process left?"""
    return bool(scan_folder(root))


def _write_labels(path: Path, masks: FrameMasks) -> None:
    """Write a frame as a map of ids; where masks overlap, the lowest id counts."""
    labels = np.zeros(masks.masks.shape[1:], np.uint8)
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    for object_id, mask in sorted(pairs, key=lambda pair: -pair[0]):
        _check_label(object_id)
        labels[mask] = object_id
    write_mask(path, labels)


def _check_label(object_id: int) -> None:
    """Raise where an id is no label of a palette PNG."""
    if not 0 < object_id < VOID_LABEL:
        msg = (
            f'Object {object_id} does not fit into a palette PNG, which holds 1 to '
            f'{VOID_LABEL - 1}; write a folder for each object (--per-object-png)'
        )
        raise ValueError(msg)


@dataclass(slots=True, kw_only=True)
class _ObjectWriter:
    """Writes a folder for each object of a video.

    An object that appears late gets empty masks for the frames before.

    Attributes:
        folder: Of the video.
        folder_of: Names of the objects' folders.
        earlier: Frames that were written.
    """

    folder: Path
    folder_of: Mapping[int, str]
    earlier: list[str] = field(default_factory=list)

    def write(self, frame: str, masks: FrameMasks) -> None:
        """Write a frame."""
        nothing = np.zeros(masks.masks.shape[1:], np.uint8)
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            folder = self.folder / self.folder_of.get(object_id, f'{object_id:03d}')
            if not folder.is_dir():
                folder.mkdir()
                for name in self.earlier:
                    write_mask(folder / f'{name}.png', nothing)
            write_mask(folder / f'{frame}.png', mask.astype(np.uint8))
        self.earlier.append(frame)


Size = tuple[int, int]


class GivenMasks(Enum):
    """Which of a video's masks are prompts."""

    FIRST_FRAME = 'first-frame'  # of the first frame that shows an object
    FIRST_SEEN = 'first-seen'  # the first one of each object
    ALL = 'all'


class SourceReader:
    """Frames of a data set's video, as a predictor reads them.

    Args:
        source: The video; its first frame is decoded, for the size.
    """

    def __init__(self, source: VideoSource) -> None:
        self._source = source
        first = source.read_frame(0)
        self.size: Size = (first.shape[0], first.shape[1])

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self._source.num_frames

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If it is of another size than the first.
        """
        name = f'{self._source.name}, frame {frame_index},'
        return same_size(self._source.read_frame(frame_index), self.size, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSegmenter:
    """Prompts a predictor with the masks of a video and tracks them.

    Attributes:
        predictor: Its options hold.
        given: Which masks are prompts.
        score_threshold: Masks are where logits exceed it.
        heartbeat: Called after each prompt and each frame: says that work goes on.
    """

    predictor: SAM2VideoPredictor
    given: GivenMasks
    score_threshold: float
    heartbeat: Callable[[], None]

    def segment(self, source: VideoSource) -> Iterator[FrameMasks]:
        """Segment a video.

        An object is tracked from the frame of its first mask on, as if it were alone,
        and all those of one batch at once.

        Raises:
            ValueError: If no mask shows an object.
        """
        frames = SourceReader(source)
        # Nobody comes back to a frame: what is passed need not be kept on disk.
        state = self.predictor.session.open(PrefetchReader(frames), revisits=False)
        annotated = set(source.annotated_frames())
        tracked = None
        for frame in range(source.num_frames):
            if frame in annotated and self._takes_more(state):
                self._prompt(state, source, frame)
            if not state.objects:
                yield FrameMasks(object_ids=(), masks=np.zeros((0, *frames.size), bool))
                continue
            if tracked is None:
                tracked = self.predictor.propagate_in_video(state, frame)
            shown = next(tracked)
            masks = shown.mask_logits[:, 0] > self.score_threshold
            yield FrameMasks(
                object_ids=tuple(shown.object_ids), masks=masks.cpu().numpy()
            )
            self.heartbeat()
        if not state.objects:
            msg = (
                f'{source.name}: no mask shows an object{void_note(source)}; give '
                f'a mask with objects, as labels from 1 to 254'
            )
            raise ValueError(msg)

    def _takes_more(self, state: VideoState) -> bool:
        """Are objects looked for on later frames, too?"""
        return not state.objects or self.given is not GivenMasks.FIRST_FRAME

    def _prompt(self, state: VideoState, source: VideoSource, frame: int) -> None:
        """Prompt the objects that a frame shows first."""
        masks = source.read_masks(frame)
        new = [i for i in visible_objects(masks) if i not in state.objects]
        if masks is None or not new:
            return
        self._add(state, frame, masks, tuple(new))
        if self.given is not GivenMasks.ALL:
            return
        for later in source.annotated_frames():
            if later > frame:
                more = read_objects(source, later, tuple(new))
                self._add(state, later, more, visible_objects(more))

    def _add(
        self,
        state: VideoState,
        frame: int,
        masks: FrameMasks | None,
        object_ids: tuple[int, ...],
    ) -> None:
        """Prompt some objects with their masks on a frame, and remember them."""
        if masks is None or not object_ids:
            return
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            if object_id in object_ids:
                self.predictor.add_new_mask(state, frame, object_id, mask)
                self.heartbeat()
        # While the features of the frame are at hand.
        self.predictor.propagate_in_video_preflight(state)


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
        """Build the predictor and open the data set, once."""
        if self._tools is None:
            self._tools = self._predictor(), self.plan.source()
        return self._tools

    def __call__(self, name: str, heartbeat: Heartbeat) -> int:
        """Segment a video, unless that is done.

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
            heartbeat=heartbeat,
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
    heartbeat: Heartbeat,
) -> Iterator[TaskResult[str, int]]:
    """Segment this rank's videos, the longest first.

    Args:
        launcher: What started this rank beside others: ``'pytorch'``, ``'slurm'``,
            ``'mpi'``, or ``'none'`` for one rank alone.
        heartbeat: Called after each frame where there is one process.

    Raises:
        ValueError: If there is no process.
    """
    if num_processes < 1:
        msg = f'num_processes is {num_processes}; give a positive number'
        raise ValueError(msg)
    process = process_rank(launcher)
    names = list(lengths)
    hands = balance_videos(list(lengths.values()), process.world_size)
    hand = [names[index] for index in hands[process.rank]]
    first_device = process.local_rank * num_processes
    if num_processes == 1:
        alone = VOSWorker(plan=plan, first_device=first_device)
        if not all(plan.out.has(name) for name in hand):
            alone.prepare()  # what is wrong with the checkpoint is so for all videos
        yield from (_attempt(alone, name, heartbeat) for name in hand)
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
    yield from run_tasks(
        hand,
        worker,
        num_workers=num_processes,
        time_limit=FRAME_SECONDS,
        start_method=start_method,
    )


def _attempt(
    worker: VOSWorker, name: str, heartbeat: Heartbeat
) -> TaskResult[str, int]:
    """Segment a video in this process."""
    try:
        return TaskResult(task=name, result=worker(name, heartbeat))
    except BAD_VIDEO as error:
        return TaskResult(task=name, error=f'{type(error).__name__}: {error}')


def _length(source: Videos, name: str) -> int:
    """Frames of a video; 0 where it cannot be opened, which is told in its turn."""
    try:
        return source.open_video(name).num_frames
    except ClipDataError:
        return 0
