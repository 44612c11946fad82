"""Reads any frame of a video file whose frames are not evenly spaced in time.

OpenCV seeks by time and rate, which finds other frames in such a file; to be exact, it
decodes from the first frame. Scrubbing must be faster, so here the display time of each
frame is read from the packets first, without decoding: a seek goes to the key frame
before, and decoding goes on until the time of the frame.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.io.errors import ClipDataError
from ...ops import import_optional

NUM_CACHED = 8  # frames before the latest one, for steps back
MAX_DECODED = 48  # frames; over longer gaps seeking is faster


class SeekableFrames:
    """Frames of a video file by index, decoded by PyAV; thread-safe.

    Args:
        path: The file; its container was checked before.

    Attributes:
        num_frames: Number of frames.

    Raises:
        ModuleNotFoundError: If PyAV is not installed.
        ValueError: If the packets do not say when each frame is shown.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._av: Any = import_optional('av', purpose='Seeking in this video')
        self._times, self._key_times = self._read_times()
        self.num_frames = len(self._times)
        self._lock = threading.Lock()
        self._container: Any = None
        self._decoder: Any = None
        self._next_index = 0
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB, rotated as the file says.

        Raises:
            ClipDataError: If it cannot be decoded.
        """
        with self._lock:
            if frame_index not in self._cache:
                try:
                    self._decode(frame_index)
                except Exception as error:
                    self._close()
                    problem = f'frame {frame_index} cannot be decoded ({error})'
                    remedy = 'the file is damaged; encode it again'
                    raise ClipDataError.at(self.path, problem, remedy) from error
            return self._cache[frame_index].copy()

    def _decode(self, frame_index: int) -> None:
        """Decode up to a frame; the frames before it are cached as well."""
        time = self._times[frame_index]
        if not 0 <= frame_index - self._next_index <= MAX_DECODED:
            keys = self._key_times
            self._seek(keys[max(bisect_right(keys, time) - 1, 0)])
        if self._decoder is None or not self._decode_until(time):
            # Some containers have no exact table of key frames.
            self._close()
            self._seek(None)
            if not self._decode_until(time):
                msg = f'there is none at time {time}'
                raise ValueError(msg)

    def _decode_until(self, time: int) -> bool:
        """Decode up to the frame of a time; False if there is none from here on."""
        last = bisect_right(self._times, time) - 1
        for frame in self._decoder:
            if frame.pts is None or frame.pts > time:
                return False
            index = bisect_right(self._times, frame.pts) - 1
            self._next_index = index + 1
            if index > last - NUM_CACHED:
                self._cache[index] = _pixels(frame)
                self._cache.move_to_end(index)
            while len(self._cache) > NUM_CACHED:
                self._cache.popitem(last=False)
            if frame.pts == time:
                return True
        return False

    def _seek(self, time: int | None) -> None:
        """Go to the key frame of a time, or open the file at its first frame."""
        if self._container is None:
            self._container = self._av.open(str(self.path))
            self._container.streams.video[0].thread_type = 'AUTO'
        stream = self._container.streams.video[0]
        if time is not None:
            self._container.seek(time, stream=stream, backward=True)
        self._decoder = self._container.decode(stream)

    def _read_times(self) -> tuple[list[int], list[int]]:
        """Times of all frames, and those of the key frames, in display order."""
        with self._av.open(str(self.path)) as container:
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(container.streams.video[0])
                if packet.size and not packet.is_discard
            ]
        times = [time for time, _ in packets]
        if not times or None in times or len(set(times)) < len(times):
            msg = f'{self.path}: frames have no times of their own'
            raise ValueError(msg)
        keys = sorted(time for time, is_key in packets if is_key)
        return sorted(times), keys or [min(times)]

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._decoder = None


def _pixels(frame: Any) -> NDArray[np.uint8]:
    pixels = frame.to_ndarray(format='rgb24')
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
