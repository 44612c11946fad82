"""Reads from the boxes of an mp4 file when its frames are shown, without decoding.

A decoder that is asked for frame n seeks to the time n / rate. Where frames are not
shown at even distances, as in many films of telephones, another frame is there. Boxes
and their fields are those of ISO/IEC 14496-12.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error, unpack
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_DRIFT = 0.25  # of a frame; a seek rounds, and is wrong from a half on
MAX_BOXES = 100  # beside each other; a usual file has less than ten
MAX_RUNS = 2**20  # of frames with one duration
HEADER, LARGE_SIZE = Struct('>I4s'), Struct('>Q')
MEDIA, TABLE = (b'moov', b'trak', b'mdia'), (b'minf', b'stbl')


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTiming:
    """When the frames of a track are shown.

    Attributes:
        num_samples: Frames that the track claims.
        ticks_per_second: Unit of the durations.
        runs: (runs, 2), uint32; number of frames with one duration, and the duration.
    """

    num_samples: int
    ticks_per_second: int
    runs: NDArray[np.uint32]

    def is_even(self, rate: float) -> bool:
        """Whether frame n is shown at n / rate, with less error than a seek rounds.

        Args:
            rate: Frames a second.

        Returns:
            False also where the file does not say when frames are shown.
        """
        counts, durations = self.runs.astype(np.float64).T
        if self.ticks_per_second < 1 or not counts.sum() or not np.isfinite(rate):
            return False
        counts[-1] -= 1  # how long the last frame is shown does not matter
        # Within a run the drift grows evenly: it is largest at the end of one.
        shown = np.cumsum(counts * durations) / self.ticks_per_second
        drift = shown * rate - np.cumsum(counts)
        return bool(np.abs(drift).max() <= MAX_DRIFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A part of a file.

    Attributes:
        kind: Four letters.
        begin: First byte of its content.
        end: The one after the last.
    """

    kind: bytes
    begin: int
    end: int


def read_video_timing(path: Path) -> tuple[VideoTiming, ...]:
    """Find the video tracks of an mp4 file.

    Returns:
        One record for each; none where it is no mp4, or its boxes are damaged.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open('rb') as file:
        whole = _Box(kind=b'', begin=0, end=path.stat().st_size)
        try:
            found = [_timing(file, box) for box in _inside(file, whole, MEDIA)]
        except (error, ValueError):
            return ()
    return tuple(timing for timing in found if timing is not None)


def seeks_exactly(path: Path, rate: float) -> bool:
    """Whether a decoder that seeks by time finds every frame of a file.

    Args:
        rate: Frames a second, by which the decoder turns numbers into times.
    """
    timings = read_video_timing(path)
    return bool(timings) and all(timing.is_even(rate) for timing in timings)


def _timing(file: BinaryIO, media: _Box) -> VideoTiming | None:
    """Tables of a track; None where it is no video."""
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
    """First bytes of a box; ``ValueError`` where it, or so many of them, are not."""
    box = next(_inside(file, parent, path), None)
    if box is None or box.end - box.begin < num_bytes:
        raise ValueError(path)
    file.seek(box.begin)
    return file.read(num_bytes)


def _inside(file: BinaryIO, parent: _Box, path: tuple[bytes, ...]) -> Iterator[_Box]:
    """Boxes of a path of kinds below a box."""
    if not path:
        yield parent
        return
    for box in _children(file, parent):
        if box.kind == path[0]:
            yield from _inside(file, box, path[1:])


def _children(file: BinaryIO, parent: _Box) -> Iterator[_Box]:
    """Boxes directly in a box, as far as they are whole."""
    place = parent.begin
    for _ in range(MAX_BOXES):
        if place + HEADER.size > parent.end:
            return
        file.seek(place)
        size, kind = HEADER.unpack(file.read(HEADER.size))
        begin = place + HEADER.size
        if size == 1:  # the size did not fit
            size, begin = *LARGE_SIZE.unpack(file.read(LARGE_SIZE.size)), begin + 8
        end = parent.end if size == 0 else place + size
        if not begin <= end <= parent.end:
            return
        yield _Box(kind=kind, begin=begin, end=end)
        place = end
