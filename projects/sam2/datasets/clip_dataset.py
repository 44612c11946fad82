"""Datasets of training clips, and the state of a clip on its way to a sample."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from numpy.typing import NDArray

from ..structures import FrameMasks, VideoSource
from ..structures.clip import EpochIndex
from .annotated_video import list_objects
from .io.errors import ClipDataError, ClipDrawError, ReadLimits, shorten
from .io.images import checked_intensity_range
from .io.listing import FindNames, find_videos, list_names

MAX_RETRIES = 11  # of a clip whose random draws lose every object
MAX_DRAWS = 20 * (1 + MAX_RETRIES)  # for one item, over all clips that replace it


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipState:
    """A clip on its way through the transforms, from the files to a ``ClipSample``.

    Attributes:
        source: Reads the video.
        sample_index: Position in the dataset.
        seed: Seed of the clip's simulated clicks.
        epoch: Epoch in which the clip is loaded.
        rng: Generator of all random choices of the transforms.
        frame_indices: Positions in the video of the T sampled frames.
        object_ids: The O sampled objects.
        hidden_ids: Sampled objects that the first frame does not show, on purpose.
        first_ids: All objects that the first sampled frame shows.
        first_masks: Masks of that frame, with at least the sampled objects.
        frames: T frames (H, W, 3), uint8, RGB.
        masklets: O masks per frame (O, H, W); None for a frame without annotation.
        original_size: Height and width of the files.
        size: Height and width after the geometry so far.
        is_multi_scale: The size was drawn from several, so the clip may have another
            size than the model works at.
        matrix: (3, 3), or (T, 3, 3) where frames move differently: the geometry so far,
            from ``(x, y, 1)`` of a file. The centre of the first pixel is (0, 0).
        colors: (T, 3, 4): the colour changes so far, from ``(r, g, b, 1)`` of a file;
            None for no change.
    """

    source: VideoSource
    sample_index: int
    seed: int
    rng: np.random.Generator
    epoch: int = 0
    frame_indices: tuple[int, ...] = ()
    object_ids: tuple[int, ...] = ()
    hidden_ids: tuple[int, ...] = ()
    first_ids: tuple[int, ...] = ()
    first_masks: FrameMasks | None = None
    frames: tuple[NDArray[np.uint8], ...] = ()
    masklets: tuple[FrameMasks | None, ...] = ()
    original_size: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    is_multi_scale: bool = False
    matrix: NDArray[np.float64] = field(default_factory=partial(np.eye, 3))
    colors: NDArray[np.float64] | None = None


class ClipDataset(BaseDataset):
    """Clips for training. A subclass lists the videos and opens them.

    An item depends only on the run's seed, the epoch and the position in its index,
    not on the rank or worker::

        dataset[index]
          _draw: seeds from (run seed, epoch, position, draw)
            open_video(name)            # the subclass: lists files, decodes nothing
            pipeline(ClipState)         # transforms: sample, load, augment, pack
          no object left (bad luck):    draw the clip again
          ClipDataError (corrupt clip): count it, draw another clip

    To add a source of data, register a subclass of :class:`ListedDataset` (files below
    a folder) or of this class::

        @DATASETS.register_module()
        class ClipNoiseDataset(ClipDataset):
            def __init__(self, *, num_clips, pipeline=()):
                self.num_clips = num_clips
                super().__init__(data_root=None, pipeline=pipeline)

            def list_videos(self):
                return [f'noise{i}' for i in range(self.num_clips)]

            def open_video(self, name):
                return NoiseVideo(name)  # a VideoSource

    Args:
        data_root: Folder of the data; None for clips that are not read from files.
        pipeline: Transforms, from a :class:`ClipState` to a ``ClipSample``.
        max_bad_share: Largest share of clips that may be skipped, 0 to 1; see
            :class:`CorruptClips`.

    Raises:
        FileNotFoundError: If ``data_root`` or a list in it is missing.
        ValueError: If no clip is left.
    """

    METAINFO = {'classes': ('object',)}  # noqa: RUF012  MMEngine's declaration
    is_generated = False  # whether clips are rendered, not read

    def __init__(
        self,
        *,
        data_root: str | None,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        if data_root is not None and not Path(data_root).is_dir():
            msg = (
                f'data_root {data_root} is no folder (working folder {Path.cwd()}); '
                f'give the folder of the data, e.g. --cfg-options data_root=<folder>'
            )
            raise FileNotFoundError(msg)
        # In shared memory, so that set_epoch reaches persistent workers.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._num_objects: dict[str, int] = {}
        super().__init__(data_root=data_root or '', pipeline=list(pipeline))
        self.corrupt_clips = CorruptClips(len(self), max_bad_share)

    @abstractmethod
    def list_videos(self) -> list[str]:
        """Return the names of the videos, without opening any."""

    @abstractmethod
    def open_video(self, name: str) -> VideoSource:
        """List the files of a video, without decoding any.

        Raises:
            ClipDataError: If files are missing.
        """

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the videos for MMEngine."""
        return [{'video_name': name} for name in self.list_videos()]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of plain indices, which do not carry their own."""
        self._epoch[0] = epoch

    def video_name(self, index: int) -> str:
        """Return the name of a video."""
        return str(self.get_data_info(index)['video_name'])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the number of objects, as the category of MMEngine's class balancing.

        Only the first annotated frame is looked at; a corrupt clip has no category.
        """
        name = self.video_name(idx)
        if name not in self._num_objects:
            try:
                source = self.open_video(name)
                ids, _ = list_objects(source, source.annotated_frames()[0])
            except (ClipDataError, IndexError):
                ids = ()  # reported when the clip is drawn
            self._num_objects[name] = len(ids)
        num_objects = self._num_objects[name]
        return [num_objects] if num_objects else []

    def run_pipeline(self, state: ClipState) -> Any:
        """Pass a clip through the transforms."""
        result: Any = state
        for transform in self.pipeline.transforms:
            result = transform(result)
        return result

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:
        """Load a clip, or another one if it is corrupt.

        Args:
            idx: An int, an :class:`EpochIndex` or a pair ``(epoch, index)``.

        Returns:
            The output of the pipeline, a ``ClipSample``.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If too many clips are corrupt.
        """
        index = self._epoch_index(idx)
        clip, num_retries = int(index) % len(self), 0
        for draw in range(MAX_DRAWS):
            name = self.video_name(clip)
            try:
                sample = self._draw(index, clip, draw)
            except ClipDataError as error:
                if isinstance(error, ClipDrawError) and num_retries < MAX_RETRIES:
                    num_retries += 1
                    continue
                self.corrupt_clips.reject(clip, name, error)
            else:
                self.corrupt_clips.accept(clip, name)
                return sample
            num_retries = 0
            *_, seed = self._seeds(index, draw)
            clip = int(np.random.default_rng(seed).integers(len(self)))
        raise ClipDataError(self.corrupt_clips.summary())

    def load_clip(self, idx: int | tuple[int, int]) -> Any:
        """Load a clip as training does, but never another one in its place.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If training cannot use the clip.
        """
        index = self._epoch_index(idx)
        clip = int(index) % len(self)
        for draw in range(MAX_RETRIES):
            with suppress(ClipDrawError):
                return self._draw(index, clip, draw)
        return self._draw(index, clip, MAX_RETRIES)

    def _epoch_index(self, idx: int | tuple[int, int]) -> EpochIndex:
        index = EpochIndex.of(idx, int(self._epoch))
        if not -len(self) <= index < len(self):
            msg = f'index {int(index)} is out of range for {len(self)} clips'
            raise IndexError(msg)
        return index

    @staticmethod
    def _seeds(index: EpochIndex, draw: int) -> list[np.random.SeedSequence]:
        """Return seeds for the transforms, the clicks and the replacing clip."""
        entropy = (index.seed, index.epoch, index.position % 2**32, draw)
        return np.random.SeedSequence(entropy).spawn(3)

    def _draw(self, index: EpochIndex, clip: int, draw: int) -> Any:
        transform_seed, click_seed, _ = self._seeds(index, draw)
        return self.run_pipeline(
            ClipState(
                source=self.open_video(self.video_name(clip)),
                sample_index=clip,
                seed=int(click_seed.generate_state(1)[0]),
                rng=np.random.default_rng(transform_seed),
                epoch=index.epoch,
            )
        )


@dataclass(kw_only=True, eq=False, repr=False)
class ListedDataset(ClipDataset):
    """Clips below a folder: all of them, or those of a list.

    A subclass is a dataclass as well. Its fields are the options of its config, beside
    those below; its ``list_videos`` returns ``self.names_in(folder)``; its
    ``open_video`` is decorated with ``reports_clip_errors`` and usually returns an
    ``AnnotatedVideo`` (``sources/object_folders.py`` is a short example).

    Attributes:
        data_root: Folder of the data.
        file_list: Text file with one clip per line, or a ``meta.json``, relative to
            ``data_root``; None for all clips.
        exclude_list: List of clips to leave out, likewise.
        limits: Largest sizes of files, see :class:`ReadLimits`.
        intensity_range: Values ``(low, high)`` that become black and white in images of
            more than 8 bits; without it such images are refused.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: Largest share of corrupt clips, see :class:`ClipDataset`.
        root: ``data_root`` as a path.
        read_limits: ``limits``, checked.
        read_range: ``intensity_range``, checked.

    Raises:
        FileNotFoundError: If ``data_root``, a folder in it or a list is missing.
        ValueError: If no clip is left, ``exclude_list`` names an unknown clip, or a
            limit or the range is invalid.
        TypeError: If a list is no path.
    """

    data_root: str
    file_list: str | None = None
    exclude_list: str | None = None
    limits: Mapping[str, int] | None = None
    intensity_range: Sequence[float] | None = None
    pipeline: InitVar[Sequence[dict[str, Any]]] = ()
    max_bad_share: float = 0.1

    def __post_init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Check the options and list the clips."""
        for key in ('file_list', 'exclude_list'):
            path = getattr(self, key)
            if not isinstance(path, str | Path | None):
                msg = (
                    f'{key} is {path!r}; write the names into a text file, a clip a '
                    f'line, and give its path relative to data_root'
                )
                raise TypeError(msg)
        self.root = Path(self.data_root)
        self.read_limits = ReadLimits.of(self.limits)
        self.read_range = checked_intensity_range(self.intensity_range)
        super().__init__(
            data_root=self.data_root,
            pipeline=pipeline,
            max_bad_share=self.max_bad_share,
        )

    def names_in(
        self,
        folder: str,
        find: FindNames = find_videos,
        beside: Sequence[tuple[str, FindNames]] = (),
    ) -> list[str]:
        """List the clips of a folder that the lists select.

        Args:
            folder: Relative to ``data_root``.
            find: Finds the names in the folder; by default sub-folders and mp4 files.
            beside: Other folders of the clips, each with its ``find``. A list may name
                a clip that is only there, such as an image without annotation.

        Raises:
            FileNotFoundError: If the folder or a list is missing.
            ValueError: If no clip is left, or a list names unknown clips.
        """
        return list_names(
            data_root=self.root,
            folder=self.root / folder,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
            find=find,
            beside=[(self.root / other, find_in) for other, find_in in beside],
        )


class CorruptClips:
    """Counts the clips that a worker skips, and stops a run with too many.

    Args:
        num_clips: Clips of the dataset.
        max_share: Largest share of skipped clips among the distinct clips tried, 0 to
            1. While few clips were tried, the share refers to at least 20 clips, and to
            so many that two may be skipped: a corrupt clip among the first ones does
            not stop a long run.
    """

    MIN_TRIED, MIN_TOLERATED = 20, 2
    MAX_REASONS = 20  # that are kept for the error message
    UNTRIED, USED, UNLUCKY, CORRUPT = range(4)

    def __init__(self, num_clips: int, max_share: float) -> None:
        self.max_share = max_share
        self.reasons: dict[str, str] = {}  # by name of the clip
        # A byte per clip: a set of names would fill the memory of a worker.
        self._status = bytearray(num_clips)

    @property
    def num_tried(self) -> int:
        """Number of distinct clips that were used or skipped."""
        return len(self._status) - self._status.count(self.UNTRIED)

    @property
    def num_rejected(self) -> int:
        """Number of distinct clips that were skipped and not used later."""
        return self._status.count(self.UNLUCKY) + self._status.count(self.CORRUPT)

    def accept(self, index: int, name: str) -> None:
        """Record that a clip was used; earlier unlucky draws no longer count."""
        if self._status[index] != self.CORRUPT:
            self._status[index] = self.USED
            self.reasons.pop(name, None)

    def reject(self, index: int, name: str, error: ClipDataError) -> None:
        """Record and log that a clip is skipped.

        An unlucky draw does not count against a clip that was used before.

        Raises:
            ClipDataError: If too many clips were skipped.
        """
        status = self._status[index]
        is_unlucky = isinstance(error, ClipDrawError)
        if status == self.CORRUPT or (is_unlucky and status != self.UNTRIED):
            return
        self._status[index] = self.UNLUCKY if is_unlucky else self.CORRUPT
        if len(self.reasons) < self.MAX_REASONS:
            self.reasons[name] = str(error)
        count = f'{self.num_rejected} bad of {self.num_tried} clips tried'
        # On ranks other than the first, MMEngine logs nothing below ERROR.
        print_log(
            f'Skipped {shorten(name)} ({count}): {error}', 'current', logging.ERROR
        )
        if self.num_rejected > self._max_rejected():
            raise ClipDataError(self.summary()) from error

    def _max_rejected(self) -> float:
        if self.max_share == 0:
            return 0
        least = max(self.MIN_TRIED, ceil(self.MIN_TOLERATED / self.max_share))
        return self.max_share * max(self.num_tried, min(len(self._status), least))

    def summary(self) -> str:
        """Return how many clips are corrupt, which, why, and what to do."""
        num_hidden = self.num_rejected - len(self.reasons)
        lines = [
            (
                f'{self.num_rejected} of {self.num_tried} clips tried cannot be used '
                f'(max_bad_share={self.max_share}); repair them, put them on the '
                f'exclude list, or raise max_bad_share:'
            ),
            *(f'  {reason}' for reason in self.reasons.values()),
            *([f'  and {num_hidden} more'] if num_hidden else []),
        ]
        return '\n'.join(lines)
