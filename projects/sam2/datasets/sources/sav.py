"""SA-V's training set: mp4 files, and a JSON file with the masks of all frames."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ..annotated_video import AnnotatedVideo, ObjectIds
from ..clip_dataset import ListedDataset
from ..io.errors import (
    COMPLETE_DATA,
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    check_file,
    read_bytes,
    reports_clip_errors,
)
from ..io.frames import StoredFrames, open_frames
from ..io.json_files import FIX_FILE, check_type, describe, get_field, parse_json
from ..io.listing import FindNames, find_file, find_stems, find_videos, safe_join
from .segmentations import EncodedMasks

KINDS = ('manual', 'auto')
FRAME_KEYS = ('masklet', 'masks')
FRAMES_PER_SECOND = 24  # of SA-V's videos
ANNOTATIONS_PER_SECOND = 6.0  # if the file does not say
MAX_OPEN = 16  # files that stay open from one frame of a clip to the next
MAX_INDEX_BYTES = 2**27  # of all indices that are kept; a video of SA-V takes 1 kB
INDEX_BYTES = 700  # of an index and its path, without its arrays
SMALL_FILE = 2**32  # bytes of a file whose offsets fit into 32 bits


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipSAVDataset(ListedDataset):
    """Videos of SA-V, from extracted frames or straight from its mp4 files.

    ``<data_root>/<frame_folder>/<clip>.mp4`` or ``<clip>/*.jpg``, named by the number
    of the frame; ``<data_root>/<annotation_folder>/<clip>_manual.json`` and
    ``<clip>_auto.json``. Clips may lie in sub-folders (``sav_000/sav_000001``).

    A frame counts as annotated if every object has a mask on it.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        frame_folder: Folder of the frames or videos, relative to ``data_root``.
        annotation_folder: Folder of the annotation files, likewise.
        kinds: Objects to read: ``manual``, ``auto`` or both. If one of the two files is
            missing, only the other is read.
        ann_every: Distance between annotated frames; None for what the file says.

    Raises:
        ValueError: If ``kinds`` or ``ann_every`` is invalid.
    """

    frame_folder: str = '.'
    annotation_folder: str = '.'
    kinds: Sequence[str] = ('manual',)
    ann_every: int | None = None

    def __post_init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Check the options, then list the videos."""
        is_known = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        if not is_known or (self.ann_every is not None and self.ann_every < 1):
            msg = (
                f'kinds={tuple(self.kinds)}, ann_every={self.ann_every}: give some of '
                f'{KINDS} and a positive number or None'
            )
            raise ValueError(msg)
        super().__post_init__(pipeline)

    def list_videos(self) -> list[str]:
        """Names of the videos, see :meth:`ClipDataset.list_videos`."""

        def suffixes(kinds: Sequence[str]) -> tuple[str, ...]:
            return tuple(f'_{kind}.json' for kind in kinds)

        find = partial(find_stems, suffixes=suffixes(self.kinds))
        find_any: FindNames = partial(find_stems, suffixes=suffixes(KINDS))
        beside = [(self.annotation_folder, find_any), (self.frame_folder, find_videos)]
        return self.names_in(self.annotation_folder, find, beside)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find the frames and masks of a video, without decoding any.

        Raises:
            ClipDataError: If a file is missing or damaged.
        """
        frames = open_frames(
            self.root / self.frame_folder, name, self.read_limits, self.read_range
        )
        stem = safe_join(self.root / self.annotation_folder, name)
        paths = [find_file(stem, (f'_{kind}.json',)) for kind in self.kinds]
        existing = [path for path in paths if path.is_file()]
        if not existing:
            raise ClipDataError.at(paths[0], 'is missing', COMPLETE_DATA)
        indices = tuple(index_sav(path, self.read_limits) for path in existing)
        masks = SAVMasks(
            indices=indices,
            position_of=self._match_frames(indices, frames),
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)

    def _match_frames(
        self, indices: Sequence['SAVIndex'], frames: StoredFrames
    ) -> dict[int, int]:
        """Position in the annotations of each annotated frame."""
        distances = {self.ann_every or index.ann_every for index in indices}
        if len(distances) > 1:
            problem = f'frames are annotated at the distances {sorted(distances)}'
            raise ClipDataError.at(indices[0].path, problem, 'set ann_every')
        every = distances.pop()
        complete = set.intersection(*({*index.complete} for index in indices))
        frame_of = {number: i for i, number in enumerate(frame_numbers(frames))}
        matched = {
            frame_of[position * every]: position
            for position in sorted(complete)
            if position * every in frame_of
        }
        if complete and not matched:
            problem = (
                f'annotates every {every}. frame from 0 on, of which none is among the '
                f'{len(frame_of)} frames of the video'
            )
            remedy = 'name the frames by their numbers in the video, or set ann_every'
            raise ClipDataError.at(indices[0].path, problem, remedy)
        return matched


def frame_numbers(frames: StoredFrames) -> list[int]:
    """Number of each frame in its video: its name, if all names are numbers."""
    names = [frames.frame_name(i) for i in range(frames.num_frames)]
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names]
    return list(range(len(names)))


@dataclass(frozen=True, kw_only=True)
class SAVMasks(EncodedMasks):
    """Reads the masks of a video from its annotation files.

    Attributes:
        indices: Indices of the files; objects of the second file are numbered after
            those of the first.
        position_of: Position among the annotated frames, by the frame of the video.
        limits: Checked before decoding.
    """

    indices: tuple['SAVIndex', ...]
    position_of: Mapping[int, int]
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames on which every object has a mask."""
        return tuple(self.position_of)

    def object_ids(self) -> ObjectIds:
        """Positions of the objects in the files."""
        return tuple(range(sum(index.num_objects for index in self.indices)))

    def codes(self, frame_index: int) -> Mapping[int, object]:
        """See :class:`EncodedMasks`."""
        codes: list[object] = []
        for index in self.indices:
            codes += index.read(self.position_of[frame_index])
        return dict(enumerate(codes))

    def where(self, frame_index: int) -> str:
        """See :class:`EncodedMasks`."""
        position = self.position_of[frame_index]
        return f'{self.indices[0].path} (annotated frame {position})'


# Index of a file: where each frame is, so that a frame is read without the others -----


@dataclass(frozen=True, slots=True, kw_only=True)
class SAVIndex:
    """Where the masks of each annotated frame are in a file.

    Attributes:
        path: The file.
        stamp: Time of its last change.
        marks: (annotated frames + 1,), uint32, or uint64 for large files; offset of the
            bracket or comma before each frame, and of the bracket after the last.
        incomplete: Positions among the annotated frames of those that lack the mask of
            an object. They count as not annotated.
        num_objects: Objects of the file.
        ann_every: Distance between annotated frames in frames of the video.
    """

    path: Path
    stamp: int
    marks: NDArray[np.unsignedinteger[Any]]
    incomplete: tuple[int, ...]
    num_objects: int
    ann_every: int

    @property
    def complete(self) -> tuple[int, ...]:
        """Positions of the annotated frames that lack no mask, ascending."""
        incomplete = frozenset(self.incomplete)
        return tuple(i for i in range(len(self.marks) - 1) if i not in incomplete)

    @property
    def num_bytes(self) -> int:
        """Approximate memory."""
        return INDEX_BYTES + self.marks.nbytes + 8 * len(self.incomplete)

    def read(self, position: int) -> list[Any]:
        """Read the encoded masks of a frame.

        Raises:
            ClipDataError: If the file has changed since it was indexed.
        """
        mark, end = self.marks[position : position + 2].tolist()
        begin = mark + 1
        try:
            file = _open_file(self.path, self.stamp)
            codes = orjson.loads(os.pread(file.descriptor, end - begin, begin))
        except (OSError, orjson.JSONDecodeError) as error:
            problem = f'changed while it was read ({error})'
            raise ClipDataError.at(self.path, problem, REPLACE_FILE) from error
        if codes is None:  # a frame that is not annotated
            return [None] * self.num_objects
        return check_type(codes, list, f'annotated frame {position}', self.path)


def index_sav(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> SAVIndex:
    """Index the frames of an annotation file; the index is kept until the file changes.

    Args:
        path: An object with a list ``masklet`` or ``masks``, or that list alone (then
            every frame is annotated). The list has an entry for each annotated frame,
            with a mask or null for each object.
        limits: Its ``max_file_size`` counts.

    Raises:
        ClipDataError: If the file is missing, damaged or of another form.
    """
    stamp = check_file(path, limits.max_file_size).st_mtime_ns
    index = _indices.find(path, stamp)
    if index is None:
        index = _index(path, limits, stamp)
        _indices.add(index)
    return index


def _index(path: Path, limits: ReadLimits, stamp: int) -> SAVIndex:
    encoded = read_bytes(path, limits)
    content = parse_json(encoded, path)
    key = None
    if not isinstance(content, list):
        keys = check_type(content, dict, 'the content', path)
        key = next((key for key in FRAME_KEYS if key in keys), None)
        if key is None:
            problem = f'has no list {" or ".join(FRAME_KEYS)}'
            raise ClipDataError.at(path, problem, FIX_FILE)
    frames = content if key is None else get_field(content, key, list, path)
    counts = {len(codes) for codes in frames if isinstance(codes, list)}
    invalid = [c for c in frames if c is not None and not isinstance(c, list)]
    if len(counts) != 1 or invalid:
        problem = (
            f'has frame {describe(invalid[0])}, expected a list of masks'
            if invalid
            else f'has frames of {sorted(counts)} objects, expected one number'
        )
        raise ClipDataError.at(path, problem, FIX_FILE)
    spans = element_spans(encoded, key)
    if len(spans) != len(frames):
        problem = f'has {len(frames)} frames, of which {len(spans)} can be found'
        raise ClipDataError.at(path, problem, 'write its keys without escapes')
    return SAVIndex(
        path=path,
        stamp=stamp,
        marks=np.append(spans[:1, 0] - 1, spans[:, 1]).astype(
            np.uint32 if len(encoded) < SMALL_FILE else np.uint64
        ),
        incomplete=tuple(
            position
            for position, codes in enumerate(frames)
            if codes is None or None in codes
        ),
        num_objects=counts.pop(),
        ann_every=1 if key is None else _annotation_distance(content, path),
    )


def _annotation_distance(content: dict[str, Any], path: Path) -> int:
    """Frames from one annotated frame to the next."""
    rate = content.get('fps', ANNOTATIONS_PER_SECOND)
    rate = rate[0] if isinstance(rate, list) and rate else rate
    rate = check_type(rate, float, 'fps', path)
    distance = FRAMES_PER_SECOND / rate if rate > 0 else 0.0
    if distance < 1 or not distance.is_integer():  # nor is infinity an integer
        problem = f'has fps {rate}, which does not divide {FRAMES_PER_SECOND}'
        remedy = 'set ann_every, the distance between annotated frames'
        raise ClipDataError.at(path, problem, remedy)
    return int(distance)


def element_spans(encoded: bytes, key: str | None) -> NDArray[np.int64]:
    """Find the elements of a list in a valid JSON text.

    Args:
        key: Name of the list in the outermost object; None if the text is the list.

    Returns:
        (elements, 2), int64, offset of the first byte of each and of the one after its
        last; empty if the name is written with escapes.
    """
    # The same text, in which no quote and no backslash is escaped.
    plain = encoded.replace(b'\\\\', b'..').replace(b'\\"', b'..')
    text = np.frombuffer(plain, np.uint8)
    is_mark = np.zeros(256, bool)
    is_mark[list(b'"[]{},')] = True
    offsets = np.flatnonzero(is_mark[text])
    marks = text[offsets]
    is_quote = marks == ord('"')
    in_string = is_quote | (np.cumsum(is_quote) % 2 == 1)
    offsets, marks = offsets[~in_string], marks[~in_string]
    opens, closes = np.isin(marks, list(b'[{')), np.isin(marks, list(b']}'))
    depth = np.cumsum(opens.astype(np.int8), dtype=np.int32)
    depth -= np.cumsum(closes.astype(np.int8), dtype=np.int32)
    level = 1 if key is None else 2
    first = 0 if key is None else _find_list(plain, key, offsets, depth)
    if first is None:
        return np.zeros((0, 2), np.int64)
    inner = slice(first, first + 1 + int(np.argmax(depth[first:] < level)))
    offsets, marks, depth = offsets[inner], marks[inner], depth[inner]
    commas = offsets[(marks == ord(',')) & (depth == level)]
    begins = np.concatenate([offsets[:1], commas]) + 1
    ends = np.concatenate([commas, offsets[-1:]])
    return np.stack([begins, ends], axis=1).astype(np.int64)


def _find_list(
    plain: bytes, key: str, offsets: NDArray[np.int64], depth: NDArray[np.int32]
) -> int | None:
    """Index among the marks of the bracket that opens the list."""
    name = f'"{key}"'.encode()
    begin = plain.rfind(name)
    while begin >= 0:  # of equal keys the last one counts, as for every JSON parser
        following = int(np.searchsorted(offsets, begin))
        between = plain[begin + len(name) : offsets[following]].strip()
        if depth[following] == 2 and between == b':':
            return following
        begin = plain.rfind(name, 0, begin)
    return None


class _IndexCache:
    """Indices of files; the oldest are evicted beyond a number of bytes."""

    def __init__(self) -> None:
        self._index_of: dict[str, SAVIndex] = {}
        self._num_bytes = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        """Replace the lock: at a fork, another thread may have held it."""
        self._lock = threading.Lock()

    def find(self, path: Path, stamp: int) -> SAVIndex | None:
        index = self._index_of.get(str(path))
        return index if index is not None and index.stamp == stamp else None

    def add(self, index: SAVIndex) -> None:
        key = str(index.path)
        with self._lock:
            self._evict(key)
            self._index_of[key] = index
            self._num_bytes += index.num_bytes
            while self._num_bytes > MAX_INDEX_BYTES:
                self._evict(next(iter(self._index_of)))

    def _evict(self, key: str) -> None:
        index = self._index_of.pop(key, None)
        self._num_bytes -= 0 if index is None else index.num_bytes


_indices = _IndexCache()
os.register_at_fork(after_in_child=_indices.renew_lock)


class _OpenFile:
    """A file that stays open while someone holds this object."""

    def __init__(self, path: Path, stamp: int) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        if os.fstat(self.descriptor).st_mtime_ns != stamp:
            msg = 'it is newer than its index'
            raise OSError(msg)

    def __del__(self) -> None:
        if hasattr(self, 'descriptor'):
            os.close(self.descriptor)


@lru_cache(maxsize=MAX_OPEN)
def _open_file(path: Path, stamp: int) -> _OpenFile:
    return _OpenFile(path, stamp)


def close_files() -> None:
    """Close the files that stay open, as reading many others would."""
    _open_file.cache_clear()
