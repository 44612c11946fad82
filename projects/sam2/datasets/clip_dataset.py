"""Counts clips that had to be skipped, and says when there are too many."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from numpy.typing import NDArray

from ..structures import VideoSource
from ..structures.clip import EpochIndex
from .annotated_video import list_objects
from .io.errors import (
    ClipDataError,
    ClipDrawError,
    ReadLimits,
    shorten,
)
from .io.images import checked_intensity_range
from .io.listing import FindNames, find_videos, list_names
from .transforms.base import ClipState

NUM_NAMED = 20
MIN_ATTEMPTS = 20
NUM_TOLERATED = 2  # bad clips that may be chance, where the dataset is large enough


class ClipMarks:
    """Distinct clips, a bit each: sets of names would fill the memory of a worker.

    Args:
        num_clips: Clips of the dataset.
    """

    def __init__(self, num_clips: int) -> None:
        self._bits: NDArray[np.uint8] = np.zeros(num_clips // 8 + 1, np.uint8)
        self._count = 0

    def __len__(self) -> int:
        """Clips that are marked."""
        return self._count

    def __contains__(self, index: int) -> bool:
        """Whether a clip is marked."""
        return bool(self._bits[index // 8] & 1 << index % 8)

    def discard(self, index: int) -> None:
        """Take the mark from a clip, if it has one."""
        if index in self:
            self._bits[index // 8] ^= 1 << index % 8
            self._count -= 1

    def add(self, index: int) -> bool:
        """Mark a clip."""
        is_new = index not in self
        self._bits[index // 8] |= 1 << index % 8
        self._count += is_new
        return is_new


@dataclass(slots=True, kw_only=True)
class BadClipLedger:
    """Distinct clips that a worker tried and those that it had to skip.

    Attributes:
        num_clips: Clips of the dataset.
        max_share: Largest share of bad ones among the distinct clips tried. It is
            taken of at least 20 clips, and of as many as make it two clips (of all,
            where the dataset has fewer), so that one bad clip among the first does
            not end a long run.
        attempted: The clips tried.
        rejected: Those that were skipped. A clip that only had unlucky draws is taken
            off as soon as a draw of it succeeds.
        used: Clips of which a sample was made.
        lost: Rejected clips that only had unlucky draws.
        reasons: Why a clip was skipped, by its name; of the first 20.
    """

    num_clips: int
    max_share: float
    attempted: ClipMarks = field(init=False)
    rejected: ClipMarks = field(init=False)
    used: ClipMarks = field(init=False)
    lost: ClipMarks = field(init=False)
    reasons: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing was tried yet."""
        self.attempted = ClipMarks(self.num_clips)
        self.rejected = ClipMarks(self.num_clips)
        self.used = ClipMarks(self.num_clips)
        self.lost = ClipMarks(self.num_clips)

    def attempt(self, index: int) -> None:
        """Note that a clip is tried."""
        self.attempted.add(index)

    def accept(self, index: int, name: str) -> None:
        """Note that a clip was used; earlier unlucky draws do not make it bad."""
        self.used.add(index)
        if index in self.lost:
            self.lost.discard(index)
            self.rejected.discard(index)
            self.reasons.pop(name, None)

    def reject(self, index: int, name: str, error: ClipDataError) -> None:
        """Note and log that a clip is skipped; an unlucky draw of a used clip is not.

        Raises:
            ClipDataError: If the share of bad clips is exceeded.
        """
        if isinstance(error, ClipDrawError):
            if index in self.used:
                return
            if index not in self.rejected:
                self.lost.add(index)
        else:
            self.lost.discard(index)
        if self.rejected.add(index):
            if len(self.reasons) < NUM_NAMED:
                self.reasons[name] = str(error)
            count = f'{len(self.rejected)} bad of {len(self.attempted)} clips tried'
            # MMEngine prints nothing less than an error of processes but the first.
            print_log(
                f'Skipped {shorten(name)} ({count}): {error}',
                'current',
                logging.ERROR,
            )
        if len(self.rejected) > self._num_allowed():
            raise ClipDataError(self.summary()) from error

    def _num_allowed(self) -> float:
        """Bad clips that the share allows so far."""
        if self.max_share == 0:
            return 0
        floor = max(MIN_ATTEMPTS, ceil(NUM_TOLERATED / self.max_share))
        tried = max(len(self.attempted), min(self.num_clips, floor))
        return self.max_share * tried

    def summary(self) -> str:
        """Say how many clips are bad, which, why, and what to do."""
        named = [f'  {reason}' for reason in self.reasons.values()]
        unnamed = len(self.rejected) - len(named)
        count = (
            f'{len(self.rejected)} of {len(self.attempted)} clips tried cannot be used '
            f'(max_bad_share={self.max_share}); mend them, put them on the exclude '
            f'list, or raise max_bad_share:'
        )
        lines = [count, *named]
        return '\n'.join([*lines, f'  and {unnamed} more'] if unnamed else lines)


MAX_RETRIES = 11  # of a clip of which random choices left nothing
MAX_DRAWS = 20 * (1 + MAX_RETRIES)  # for one item


class ClipDataset(BaseDataset):
    """Clips for training. A source of videos says which there are and opens them.

    An item depends on the run's seed, the epoch and the position that its index
    carries, never on a rank or worker. Where random choices leave nothing of a clip,
    it is drawn again. A clip that cannot be used is logged and counted, and another
    is drawn from the item's own random numbers.

    Args:
        data_root: Folder of the data; None for clips that are not read from files.
        pipeline: Transforms, from a :class:`ClipState` to a ``ClipSample``.
        max_bad_share: Largest share of clips that may be skipped (see
            :class:`BadClipLedger`); past it the run stops.

    Raises:
        FileNotFoundError: If ``data_root`` or a list of it is missing.
        ValueError: If no clip is left.
    """

    METAINFO = {'classes': ('object',)}  # noqa: RUF012  MMEngine's declaration
    is_generated = False  # whether the clips are made by the program, not read

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
                f"give the data's place, e.g. --cfg-options data_root=<folder>"
            )
            raise FileNotFoundError(msg)
        # Shared with the workers, so that set_epoch reaches persistent ones as well.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._num_objects: dict[str, int] = {}
        super().__init__(data_root=data_root or '', pipeline=list(pipeline))
        self.bad_clips = BadClipLedger(num_clips=len(self), max_share=max_bad_share)

    @abstractmethod
    def list_videos(self) -> list[str]:
        """Names of the videos, without opening any."""

    @abstractmethod
    def open_video(self, name: str) -> VideoSource:
        """List the files of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If files are missing.
        """

    def load_data_list(self) -> list[dict[str, Any]]:
        """Index the videos for MMEngine."""
        return [{'video_name': name} for name in self.list_videos()]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of plain indices, those that do not carry their own."""
        self._epoch[0] = epoch

    def video_name(self, index: int) -> str:
        """Name of a video."""
        return str(self.get_data_info(index)['video_name'])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Category of a clip for balancing: its number of objects."""
        name = self.video_name(idx)
        if name not in self._num_objects:
            self._num_objects[name] = self._count_objects(name)
        count = self._num_objects[name]
        return [count] if count else []

    def _count_objects(self, name: str) -> int:
        try:
            source = self.open_video(name)
            seen, _ = list_objects(source, source.annotated_frames()[0])
        except (ClipDataError, IndexError):
            return 0  # it is reported when it is drawn
        return len(seen)

    def run_pipeline(self, state: ClipState) -> Any:
        """Pass a clip through the transforms."""
        passed: Any = state
        for transform in self.pipeline.transforms:
            passed = transform(passed)
        return passed

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:
        """Load a clip.

        Args:
            idx: An int, an :class:`EpochIndex` or a pair ``(epoch, index)``.

        Returns:
            What the pipeline makes of it, a ``ClipSample``.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If too many clips are bad.
        """
        index = self._index(idx)
        clip, retries = int(index) % len(self), 0
        for draw in range(MAX_DRAWS):
            name = self.video_name(clip)
            self.bad_clips.attempt(clip)
            try:
                sample = self._draw(index, clip, draw)
            except ClipDataError as error:
                if isinstance(error, ClipDrawError) and retries < MAX_RETRIES:
                    retries += 1
                    continue
                self.bad_clips.reject(clip, name, error)
            else:
                self.bad_clips.accept(clip, name)
                return sample
            retries = 0
            *_, replacing = self._seeds(index, draw)
            clip = int(np.random.default_rng(replacing).integers(len(self)))
        raise ClipDataError(self.bad_clips.summary())

    def load_clip(self, idx: int | tuple[int, int]) -> Any:
        """Load a clip as training does, but never another in its place.

        Args:
            idx: As of ``dataset[idx]``.

        Returns:
            What the pipeline makes of it, a ``ClipSample``.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If training cannot use the clip.
        """
        index = self._index(idx)
        clip = int(index) % len(self)
        for draw in range(MAX_RETRIES):
            with suppress(ClipDrawError):
                return self._draw(index, clip, draw)
        return self._draw(index, clip, MAX_RETRIES)

    def _index(self, idx: int | tuple[int, int]) -> EpochIndex:
        """The index with its epoch, checked."""
        index = EpochIndex.of(idx, int(self._epoch))
        if not -len(self) <= index < len(self):
            msg = f'index {int(index)} is out of range for {len(self)} clips'
            raise IndexError(msg)
        return index

    @staticmethod
    def _seeds(index: EpochIndex, draw: int) -> list[np.random.SeedSequence]:
        """Seeds of a draw: for the transforms, the clicks, and the replacing clip."""
        entropy = (index.seed, index.epoch, index.position % 2**32, draw)
        return np.random.SeedSequence(entropy).spawn(3)

    def _draw(self, index: EpochIndex, clip: int, draw: int) -> Any:
        """Pass a clip through the pipeline with the random numbers of a draw."""
        drawing, clicking, _ = self._seeds(index, draw)
        return self.run_pipeline(
            ClipState(
                source=self.open_video(self.video_name(clip)),
                sample_index=clip,
                seed=int(clicking.generate_state(1)[0]),
                rng=np.random.default_rng(drawing),
                epoch=index.epoch,
            )
        )


@dataclass(kw_only=True, eq=False, repr=False)
class ListedDataset(ClipDataset):
    """Clips below a folder: all that are found, or those of a list.

    A source declares its own options as fields beside these; ``dataclass`` makes the
    constructor, whose arguments have to be named.

    Attributes:
        data_root: Folder of the data.
        file_list: Text file with one clip a line, or a ``meta.json``, relative to
            ``data_root``; without it, all clips that are found.
        exclude_list: List of clips to leave out, likewise.
        limits: What a file may ask for, see :class:`ReadLimits`.
        intensity_range: Values ``(low, high)`` of pictures of more than 8 bits that
            become black and white, see :func:`scale_intensities`; without it such a
            picture is refused.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: Largest share of bad clips, see :class:`ClipDataset`.
        root: ``data_root`` as a path.
        read_limits: ``limits``, checked.
        read_range: ``intensity_range``, checked.

    Raises:
        FileNotFoundError: If ``data_root``, a folder in it or a list is missing.
        ValueError: If no clip is left, ``exclude_list`` names one that is not there, a
            limit is not positive, or the range is none.
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
        """List the clips."""
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
        """Name the clips of a folder that the lists leave.

        Args:
            folder: Relative to ``data_root``.
            find: Names what the folder holds; by default sub-folders and mp4 files.
            beside: Other folders of the clips, and what names their content. A list may
                name what is there alone, such as an image without annotation.

        Raises:
            FileNotFoundError: If the folder or a list is missing.
            ValueError: If no clip is left, or ``exclude_list`` names one that is not
                there, or all of ``file_list`` are not there.
        """
        return list_names(
            data_root=self.root,
            folder=self.root / folder,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
            find=find,
            beside=[(self.root / place, find_in) for place, find_in in beside],
        )
