"""Reads the display times of the frames of an mp4 file, without decoding it.

A decoder that seeks frame n seeks to the time n / rate. If frames are not evenly
spaced, as in many videos of phones, it returns another frame. Boxes and their fields
are those of ISO/IEC 14496-12.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error, unpack
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_DRIFT = 0.25  # of a frame; a seek rounds, so it goes wrong from 0.5 on
MAX_BOXES = 100  # in one box; most files have fewer than ten
MAX_RUNS = 2**20  # of frames of equal duration
HEADER, LARGE_SIZE = Struct('>I4s'), Struct('>Q')
MEDIA, TABLE = (b'moov', b'trak', b'mdia'), (b'minf', b'stbl')


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTiming:
    """When the frames of a track are shown.

    Attributes:
        num_samples: Number of frames according to the track.
        ticks_per_second: Unit of the durations.
        runs: (runs, 2), uint32; number of frames of equal duration, and the duration.
    """

    num_samples: int
    ticks_per_second: int
    runs: NDArray[np.uint32]

    def is_even(self, rate: float) -> bool:
        """Whether frame n is shown at about n / rate; False if the file does not say.

        Args:
            rate: Frames per second.
        """
        counts, durations = self.runs.astype(np.float64).T
        if self.ticks_per_second < 1 or not counts.sum() or not np.isfinite(rate):
            return False
        counts[-1] -= 1  # how long the last frame is shown does not matter
        # Within a run the drift changes linearly, so it is largest at the end of one.
        seconds = np.cumsum(counts * durations) / self.ticks_per_second
        drift = seconds * rate - np.cumsum(counts)
        return bool(np.abs(drift).max() <= MAX_DRIFT)


def seeks_exactly(path: Path, rate: float) -> bool:
    """Whether a decoder that seeks by time finds every frame of a file.

    Args:
        rate: Frames per second, by which the decoder turns indices into times.
    """
    timings = read_video_timing(path)
    return bool(timings) and all(timing.is_even(rate) for timing in timings)


def read_video_timing(path: Path) -> tuple[VideoTiming, ...]:
    """Read the timing of each video track; empty if the file is no intact mp4.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open('rb') as file:
        whole_file = _Box(b'', 0, path.stat().st_size)
        try:
            tracks = [_read_track(file, box) for box in _find(file, whole_file, MEDIA)]
        except (error, ValueError):
            return ()
    return tuple(timing for timing in tracks if timing is not None)


class _Box(NamedTuple):
    """A box of a file: its type, and the range of bytes of its content."""

    kind: bytes
    begin: int
    end: int


def _read_track(file: BinaryIO, media: _Box) -> VideoTiming | None:
    """Timing of a track; None if it is not a video."""
    handler = _content(file, media, (b'hdlr',), 12)
    if handler[8:] != b'vide':
        return None
    header = _content(file, media, (b'mdhd',), 24)
    ticks: int = unpack('>I', header[20:] if header[0] else header[12:16])[0]
    (num_samples,) = unpack('>8xI', _content(file, media, (*TABLE, b'stsz'), 12))
    (num_runs,) = unpack('>4xI', _content(file, media, (*TABLE, b'stts'), 8))
    if num_runs > MAX_RUNS:
        raise ValueError(num_runs)
    runs = _content(file, media, (*TABLE, b'stts'), 8 + 8 * num_runs)[8:]
    return VideoTiming(
        num_samples=num_samples,
        ticks_per_second=ticks,
        runs=np.frombuffer(runs, '>u4').reshape(-1, 2).astype(np.uint32),
    )


def _content(
    file: BinaryIO, parent: _Box, path: tuple[bytes, ...], num_bytes: int
) -> bytes:
    """First bytes of a box; ``ValueError`` if it is missing or shorter."""
    box = next(_find(file, parent, path), None)
    if box is None or box.end - box.begin < num_bytes:
        raise ValueError(path)
    file.seek(box.begin)
    return file.read(num_bytes)


def _find(file: BinaryIO, parent: _Box, path: tuple[bytes, ...]) -> Iterator[_Box]:
    """Boxes below a box whose types, from the outermost, are those of a path."""
    if not path:
        yield parent
        return
    for box in _children(file, parent):
        if box.kind == path[0]:
            yield from _find(file, box, path[1:])


def _children(file: BinaryIO, parent: _Box) -> Iterator[_Box]:
    """Boxes directly in a box, up to the first damaged one."""
    offset = parent.begin
    for _ in range(MAX_BOXES):
        if offset + HEADER.size > parent.end:
            return
        file.seek(offset)
        size, kind = HEADER.unpack(file.read(HEADER.size))
        begin = offset + HEADER.size
        if size == 1:  # the size needs 64 bits, which follow
            size, begin = *LARGE_SIZE.unpack(file.read(LARGE_SIZE.size)), begin + 8
        end = parent.end if size == 0 else offset + size
        if not begin <= end <= parent.end:
            return
        yield _Box(kind, begin, end)
        offset = end
