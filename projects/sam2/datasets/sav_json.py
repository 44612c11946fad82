"""Finds the frames of an SA-V annotation file: a later visit reads few bytes."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.json_files import (
    MEND_FILE,
    expect,
    parse_json,
    shown,
    take,
)
from projects.sam2.datasets.limits import (
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ReadLimits,
    check_file,
    read_bytes,
)

FRAME_KEYS = ('masklet', 'masks')
FRAMES_PER_SECOND = 24  # of SA-V's videos
ANNOTATIONS_PER_SECOND = 6.0  # where the file does not say
MAX_OPEN = 16  # files that stay open from one frame of a clip to the next
MAX_INDICES = 4096  # files whose places are kept; each takes two or three kilobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SAVIndex:
    """Where the masks of each annotated frame stand in a file.

    Attributes:
        path: The file.
        stamp: Time of its last change.
        spans: (annotated frames, 2), int64, first byte of each frame and the one after
            its last.
        complete: Positions among the annotated frames of those that have a mask for
            every object, ascending. The others count as not annotated.
        num_objects: Objects of the file.
        ann_every: Distance between annotated frames in frames of the video.
    """

    path: Path
    stamp: int
    spans: NDArray[np.int64]
    complete: tuple[int, ...]
    num_objects: int
    ann_every: int

    def read(self, position: int) -> list[Any]:
        """Read the encoded masks of a frame.

        Args:
            position: Among the annotated frames.

        Returns:
            One encoded mask for each object.

        Raises:
            ClipDataError: If the file was changed meanwhile.
        """
        begin, end = self.spans[position].tolist()
        try:
            file = _open_file(self.path, self.stamp)
            codes = orjson.loads(os.pread(file.number, end - begin, begin))
        except (OSError, orjson.JSONDecodeError) as error:
            problem = f'changed while it was read ({error})'
            raise ClipDataError.at(self.path, problem, REPLACE_FILE) from error
        return expect(codes, list, f'annotated frame {position}', self.path)


class _OpenFile:
    """A file that stays open as long as someone holds this; it has no position."""

    def __init__(self, path: Path, stamp: int) -> None:
        self.number = os.open(path, os.O_RDONLY)
        if os.fstat(self.number).st_mtime_ns != stamp:
            msg = 'it is newer than its index'
            raise OSError(msg)

    def __del__(self) -> None:
        if hasattr(self, 'number'):
            os.close(self.number)


@lru_cache(maxsize=MAX_OPEN)
def _open_file(path: Path, stamp: int) -> _OpenFile:
    return _OpenFile(path, stamp)


def close_files() -> None:
    """Close the files that stay open, as visits of many others would."""
    _open_file.cache_clear()


def index_sav(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> SAVIndex:
    """Find the frames of a file; where it was done before, nothing is read.

    Args:
        path: An annotation file: an object with a list ``masklet`` or ``masks``, or
            that list alone (then every frame is annotated). The list has an entry for
            each annotated frame, with a mask or null for each object.
        limits: Its ``max_file_size`` counts.

    Returns:
        The places.

    Raises:
        ClipDataError: If the file is missing, damaged or of another form.
    """
    status = check_file(path, limits.max_file_size)
    return _index(path, limits, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=MAX_INDICES)
def _index(path: Path, limits: ReadLimits, size: int, changed: int) -> SAVIndex:
    del size  # another content is another entry
    encoded = read_bytes(path, limits)
    content = parse_json(encoded, path)
    key = None
    if not isinstance(content, list):
        key = next((k for k in FRAME_KEYS if k in expect_object(content, path)), None)
        if key is None:
            problem = f'has no list {" or ".join(FRAME_KEYS)}'
            raise ClipDataError.at(path, problem, MEND_FILE)
    frames = content if key is None else take(content, key, list, path)
    counts = {len(codes) for codes in frames if isinstance(codes, list)}
    strange = [c for c in frames if c is not None and not isinstance(c, list)]
    if len(counts) != 1 or strange:
        problem = (
            f'has frame {shown(strange[0])}, expected a list of masks'
            if strange
            else f'has frames of {sorted(counts)} objects, expected one number'
        )
        raise ClipDataError.at(path, problem, MEND_FILE)
    spans = element_spans(encoded, key)
    if len(spans) != len(frames):
        problem = f'has {len(frames)} frames, of which {len(spans)} can be found'
        raise ClipDataError.at(path, problem, 'write its keys without escapes')
    return SAVIndex(
        path=path,
        stamp=changed,
        spans=spans,
        complete=tuple(
            position
            for position, codes in enumerate(frames)
            if codes is not None and None not in codes
        ),
        num_objects=counts.pop(),
        ann_every=1 if key is None else _annotation_distance(content, path),
    )


def expect_object(content: object, path: Path) -> dict[str, Any]:
    """Check that a file holds a JSON object."""
    return expect(content, dict, 'the content', path)


def _annotation_distance(content: dict[str, Any], path: Path) -> int:
    """Frames from one annotated frame to the next."""
    rate = content.get('fps', ANNOTATIONS_PER_SECOND)
    rate = rate[0] if isinstance(rate, list) and rate else rate
    rate = expect(rate, float, 'fps', path)
    if not 0 < rate <= FRAMES_PER_SECOND or FRAMES_PER_SECOND % rate:
        problem = f'has fps {rate}, which does not divide {FRAMES_PER_SECOND}'
        remedy = 'set ann_every, the distance between annotated frames'
        raise ClipDataError.at(path, problem, remedy)
    return int(FRAMES_PER_SECOND / rate)


def element_spans(encoded: bytes, key: str | None) -> NDArray[np.int64]:
    """Find the elements of a list in a valid JSON text.

    Args:
        encoded: The text.
        key: Name of the list in the outermost object; None if the text is the list.

    Returns:
        (elements, 2), int64, first byte of each and the one after its last; none where
        the name is written with escapes.
    """
    # The same text, in which no quote and no backslash is escaped.
    plain = encoded.replace(b'\\\\', b'..').replace(b'\\"', b'..')
    text = np.frombuffer(plain, np.uint8)
    of_interest = np.zeros(256, bool)
    of_interest[list(b'"[]{},')] = True
    places = np.flatnonzero(of_interest[text])
    marks = text[places]
    is_quote = marks == ord('"')
    outside = ~is_quote & (np.cumsum(is_quote) % 2 == 0)
    places, marks = places[outside], marks[outside]
    opens, closes = np.isin(marks, list(b'[{')), np.isin(marks, list(b']}'))
    depth = np.cumsum(opens.astype(np.int8), dtype=np.int32)
    depth -= np.cumsum(closes.astype(np.int8), dtype=np.int32)
    level = 1 if key is None else 2
    first = 0 if key is None else _find_list(plain, key, places, depth)
    if first is None:
        return np.zeros((0, 2), np.int64)
    inner = slice(first, first + 1 + int(np.argmax(depth[first:] < level)))
    places, marks, depth = places[inner], marks[inner], depth[inner]
    commas = places[(marks == ord(',')) & (depth == level)]
    begins = np.concatenate([places[:1], commas]) + 1
    ends = np.concatenate([commas, places[-1:]])
    return np.stack([begins, ends], axis=1).astype(np.int64)


def _find_list(
    plain: bytes, key: str, places: NDArray[np.int64], depth: NDArray[np.int32]
) -> int | None:
    """Index among the marks of the bracket that opens the list."""
    name = f'"{key}"'.encode()
    found = plain.rfind(name)
    while found >= 0:  # the last one counts, as for every JSON reader
        after = int(np.searchsorted(places, found))
        between = plain[found + len(name) : places[after]].strip()
        if depth[after] == 2 and between == b':':
            return after
        found = plain.rfind(name, 0, found)
    return None
