"""Segments the videos of a dataset from given masks, for ``tools/vos_inference.py``.

:func:`run_inference` distributes the videos over ranks and processes; a
:class:`VOSWorker` prompts the predictor with the masks of one video after another
(:func:`segment_video`), and a :class:`MaskFolder` writes each video completely or not
at all. A run that was interrupted continues with the videos that are missing.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
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
from ..installation import NAME
from ..ops import atomic_write, write_atomically
from ..structures import VOID_LABEL, FrameMasks, VideoSource
from .building import build_sam2_video_predictor, default_device
from .frame_readers import PrefetchReader, same_size
from .video_predictor import SAM2VideoPredictor, VideoFrameResult

FRAME_SECONDS = 3600.0  # without a frame, after which a process counts as hanging
SETTINGS_FILE = '.vos_inference.json'
Dataset = ClipPaletteDataset | ClipObjectFolderDataset


class GivenMasks(Enum):
    """Which masks of a video are prompts."""

    FIRST_FRAME = 'first-frame'  # of the first frame that shows an object
    FIRST_SEEN = 'first-seen'  # the first mask of each object
    ALL = 'all'


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFolder:
    """Folder of predicted masks, complete videos only.

    ``<root>/<video>/<frame>.png`` with object ids; or
    ``<root>/<video>/<object>/<frame>.png``, whose masks may overlap.

    Attributes:
        root: The folder.
        per_object: Write a folder for each object.
    """

    root: Path
    per_object: bool

    def has(self, name: str) -> bool:
        """Whether all masks of a video are there."""
        return safe_join(self.root, name).is_dir()

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Check that objects can be written.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        for object_id in object_ids:
            if not self.per_object and not 0 < object_id < VOID_LABEL:
                msg = (
                    f'Object {object_id} does not fit into a palette PNG, which holds '
                    f'1 to {VOID_LABEL - 1}; write a folder for each object '
                    f'(--per-object-png)'
                )
                raise ValueError(msg)

    def write(
        self,
        name: str,
        frames: Iterable[tuple[str, FrameMasks]],
        folder_of: Mapping[int, str],
    ) -> int:
        """Write the masks of a video; the folder gets its name after the last one.

        Args:
            name: Name of the video.
            frames: Name and masks of each frame.
            folder_of: Name of each object's folder, by its id; by default the id with
                three digits.

        Returns:
            The number of frames.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        with atomic_write(safe_join(self.root, name)) as folder:
            folder.mkdir()
            written: list[str] = []
            for frame_name, masks in frames:
                if self.per_object:
                    _write_objects(folder, frame_name, masks, folder_of, written)
                else:
                    self.check_ids(masks.object_ids)
                    _write_labels(folder / f'{frame_name}.png', masks)
                written.append(frame_name)
        return len(written)


def _write_labels(path: Path, masks: FrameMasks) -> None:
    """Write a frame as a map of ids, the lowest id of overlapping objects."""
    labels = np.zeros(masks.masks.shape[1:], np.uint8)
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    for object_id, mask in sorted(pairs, key=lambda pair: -pair[0]):
        labels[mask] = object_id
    write_mask(path, labels)


def _write_objects(
    folder: Path,
    frame_name: str,
    masks: FrameMasks,
    folder_of: Mapping[int, str],
    earlier: list[str],
) -> None:
    """Write a mask for each object; earlier frames of a new object get empty masks."""
    for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
        object_folder = folder / folder_of.get(object_id, f'{object_id:03d}')
        if not object_folder.is_dir():
            object_folder.mkdir()
            for name in earlier:
                empty = np.zeros(mask.shape, np.uint8)
                write_mask(object_folder / f'{name}.png', empty)
        write_mask(object_folder / f'{frame_name}.png', mask.astype(np.uint8))


def claim_folder(root: Path, settings: Mapping[str, Any], *, write: bool) -> None:
    """Check that a folder holds masks of these settings only, and store the settings.

    Args:
        root: The folder; created if it is missing.
        settings: Everything that the masks depend on.
        write: Write the settings; only one process does.

    Raises:
        FileExistsError: If it holds masks of other settings.
    """
    path = root / SETTINGS_FILE
    new = {name: str(value) for name, value in settings.items()}
    # A run that wrote no mask, for a misspelt path perhaps, may be repeated.
    if path.is_file() and scan_folder(root):
        old = json.loads(path.read_text(encoding='utf-8'))
        if old == new:
            return
        differing = sorted(n for n in {*old, *new} if old.get(n) != new.get(n))
        listed = ', '.join(f'{n} {old.get(n)}, not {new.get(n)}' for n in differing)
        msg = (
            f'{root} holds masks made with other settings ({listed}); remove it or '
            f'choose another'
        )
        raise FileExistsError(msg)
    if write:
        write_atomically(path, json.dumps(new, indent=1))


class _SourceFrames:
    """Reads the frames of a dataset's video for a predictor, all of one size."""

    def __init__(self, source: VideoSource) -> None:
        self._source = source
        self.num_frames = source.num_frames
        first = source.read_frame(0)
        self.size = (first.shape[0], first.shape[1])

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        name = f'{self._source.name}, frame {frame_index},'
        return same_size(self._source.read_frame(frame_index), self.size, name)


def segment_video(
    predictor: SAM2VideoPredictor,
    source: VideoSource,
    *,
    given: GivenMasks = GivenMasks.FIRST_SEEN,
    score_threshold: float = 0.0,
    heartbeat: Callable[[], None] = lambda: None,
) -> Iterator[FrameMasks]:
    """Prompt a predictor with the masks of a video and track them.

    Each object is tracked from the frame of its first mask on. All objects are tracked
    together, independently of each other.

    Args:
        predictor: The predictor.
        source: The video.
        given: Which masks are prompts.
        score_threshold: Logits above it belong to a mask.
        heartbeat: Called after each prompt and each frame.

    Yields:
        Masks of each frame of the video; none before the first object.

    Raises:
        ValueError: If no mask shows an object, or a frame has another size.
    """
    frames = _SourceFrames(source)
    # The video is not revisited, so old memories are not offloaded, unless their masks
    # are not final yet.
    state = predictor.open(PrefetchReader(frames), revisits=predictor.is_delayed)
    annotated = source.annotated_frames()
    annotated_set = set(annotated)

    def add_masks(frame_index: int, masks: FrameMasks | None, new: list[int]) -> None:
        visible = [i for i in visible_objects(masks) if i in new]
        if masks is None or not visible:
            return
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            if object_id in visible:
                predictor.add_new_mask(state, frame_index, object_id, mask)
                heartbeat()
        # Encode the memories now, while the features of the frame are cached.
        predictor.propagate_in_video_preflight(state)

    def track() -> Iterator[VideoFrameResult]:
        tracked = None
        for frame_index in range(source.num_frames):
            if frame_index in annotated_set and (
                not state.objects or given is not GivenMasks.FIRST_FRAME
            ):
                masks = source.read_masks(frame_index)
                new = [i for i in visible_objects(masks) if i not in state.objects]
                add_masks(frame_index, masks, new)
                if new and given is GivenMasks.ALL:
                    for later in annotated:
                        if later > frame_index:
                            objects = read_objects(source, later, tuple(new))
                            add_masks(later, objects, new)
            if not state.objects:
                yield state.show(frame_index)
                continue
            if tracked is None:
                tracked = predictor.propagate_in_video(state, frame_index)
            yield next(tracked)
            heartbeat()

    for result in state.until_final(track()):
        binary = result.mask_logits[:, 0] > score_threshold
        yield FrameMasks(
            object_ids=tuple(result.object_ids), masks=binary.cpu().numpy()
        )
    if not state.objects:
        msg = (
            f'{source.name}: no mask shows an object{void_note(source)}; give a mask '
            f'with objects, as labels from 1 to 254'
        )
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class VOSPlan:
    """A dataset, and how its videos are segmented.

    Attributes:
        config: As for :func:`build_sam2`.
        checkpoint: As for :func:`build_sam2`; None for an exported model.
        frames: Folder with ``<video>/*.jpg`` or ``<video>.mp4``.
        masks: Folder with ``<video>/<frame>.png``, or
            ``<video>/<object>/<frame>.png``.
        out: Folder of the predicted masks.
        file_list: File with the names of the videos; None for all.
        masks_per_object: The given masks have a folder for each object.
        given: Which of them are prompts.
        score_threshold: Logits above it belong to a mask.
        build: Other arguments of :func:`build_sam2_video_predictor`.
    """

    config: str
    checkpoint: str | None
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
        """Everything that the masks depend on."""
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

    def open_dataset(self) -> Dataset:
        """Open the dataset.

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

    def lengths(self) -> dict[str, int]:
        """Number of frames of each video; 0 if it cannot be opened."""
        dataset = self.open_dataset()
        return {name: _num_frames(dataset, name) for name in dataset.list_videos()}


def _num_frames(dataset: Dataset, name: str) -> int:
    try:
        return dataset.open_video(name).num_frames
    except ClipDataError:  # reported when the video is segmented
        return 0


@dataclass(slots=True, kw_only=True)
class VOSWorker:
    """Segments one video after another in a process.

    Attributes:
        plan: The dataset, and how to segment it.
        num_started: Number of processes that have started, shared between them: each
            uses the next GPU. None for a single process.
        first_device: GPU of the first process.
        num_threads: CPU threads of this process; None leaves the choice to torch.
    """

    plan: VOSPlan
    num_started: Any = None  # multiprocessing's Value has no generic type
    first_device: int = 0
    num_threads: int | None = None
    _prepared: 'tuple[SAM2VideoPredictor, Dataset] | None' = field(
        default=None, init=False
    )

    def prepare(self) -> tuple[SAM2VideoPredictor, Dataset]:
        """Build the predictor on this process's device and open the dataset, once."""
        if self._prepared is None:
            # The model's config may name any part, and a tool registers none.
            import_module(f'{NAME}.registration')
            if self.num_threads is not None:
                torch.set_num_threads(self.num_threads)
            index = self.first_device
            if self.num_started is not None:
                with self.num_started.get_lock():
                    index += self.num_started.value
                    self.num_started.value += 1
            plan, build = self.plan, dict(self.plan.build)
            device = build.pop('device', None) or default_device()
            if device == 'cuda':
                device = f'cuda:{index % max(torch.cuda.device_count(), 1)}'
            overlap = f'++model.non_overlap_masks={not plan.out.per_object}'.lower()
            predictor = build_sam2_video_predictor(
                plan.config,
                plan.checkpoint,
                device=device,
                hydra_overrides_extra=[overlap],
                **build,
            )
            self._prepared = predictor, plan.open_dataset()
        return self._prepared

    def __call__(self, name: str, heartbeat: Heartbeat) -> int:
        """Segment a video unless its masks are there.

        Returns:
            The number of frames that were written; 0 if the masks were there.

        Raises:
            ClipDataError: If the video cannot be read.
            ValueError: If it shows no object, or one that cannot be written.
        """
        plan = self.plan
        if plan.out.has(name):
            return 0
        predictor, dataset = self.prepare()
        video = dataset.open_video(name)
        folder_of: Mapping[int, str] = {}
        if isinstance(video.masks, ObjectFolderMasks):
            # Its folders name all objects before any is tracked.
            folder_of = video.masks.folder_of
            if plan.given is not GivenMasks.FIRST_FRAME:
                plan.out.check_ids(folder_of)
        masks = segment_video(
            predictor,
            video,
            given=plan.given,
            score_threshold=plan.score_threshold,
            heartbeat=heartbeat,
        )
        names = map(video.frame_name, range(video.num_frames))
        return plan.out.write(name, zip(names, masks, strict=True), folder_of)


def run_inference(
    plan: VOSPlan,
    lengths: Mapping[str, int],
    *,
    num_processes: int,
    launcher: str,
    heartbeat: Heartbeat,
) -> Iterator[TaskResult[str, int]]:
    """Segment the videos of this rank, the longest first.

    Args:
        plan: The dataset, and how to segment it.
        lengths: Number of frames of each video.
        num_processes: Number of processes on this rank.
        launcher: Launcher of the ranks: ``'pytorch'``, ``'slurm'``, ``'mpi'``, or
            ``'none'`` for a single rank.
        heartbeat: Called after each frame if there is one process.

    Yields:
        The number of frames written for each video, or what went wrong.

    Raises:
        ValueError: If there is no process.
    """
    if num_processes < 1:
        msg = f'num_processes is {num_processes}; give a positive number'
        raise ValueError(msg)
    process = process_rank(launcher)
    names = list(lengths)
    shares = balance_videos(list(lengths.values()), process.world_size)
    names_of_rank = [names[index] for index in shares[process.rank]]
    first_device = process.local_rank * num_processes
    if num_processes == 1:
        worker = VOSWorker(plan=plan, first_device=first_device)
        if not all(plan.out.has(name) for name in names_of_rank):
            worker.prepare()  # a wrong checkpoint stops the run, not each video
        yield from (_attempt(worker, name, heartbeat) for name in names_of_rank)
        return
    # CUDA does not survive a fork; without it, a fork saves importing everything.
    start_method: StartMethod = 'spawn' if torch.cuda.is_available() else 'fork'
    context = multiprocessing.get_context(start_method)
    worker = VOSWorker(
        plan=plan,
        num_started=context.Value('i', 0),
        first_device=first_device,
        num_threads=max((os.cpu_count() or 1) // num_processes, 1),
    )
    yield from run_tasks(
        names_of_rank,
        worker,
        num_workers=num_processes,
        time_limit=FRAME_SECONDS,
        start_method=start_method,
    )


def _attempt(
    worker: VOSWorker, name: str, heartbeat: Heartbeat
) -> TaskResult[str, int]:
    """Segment a video in this process; an error does not stop the other videos."""
    try:
        return TaskResult(task=name, result=worker(name, heartbeat))
    except (ValueError, OSError) as error:
        return TaskResult(task=name, error=f'{type(error).__name__}: {error}')
