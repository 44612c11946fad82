"""Reads the next frame of a video while one is worked on."""

import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis.frame_readers import FrameReader

__all__ = ['ReadAheadReader']


class ReadAheadReader:
    """Decodes the next frame while one is worked on, in the direction of reading.

    Args:
        frames: Reads them, in one other thread.
    """

    def __init__(self, frames: FrameReader) -> None:
        self._frames = frames
        self.size = frames.size
        self._thread = ThreadPoolExecutor(max_workers=1)
        weakref.finalize(self, self._thread.shutdown, wait=False)
        self._ahead: dict[int, Future[NDArray[np.uint8]]] = {}
        self._latest = -1

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self._frames.num_frames

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Wait for a frame, and have the next one decoded.

        Args:
            frame_index: Position in the video.

        Returns:
            (height, width, 3), RGB.
        """
        awaited = self._ahead.pop(frame_index, None) or self._submit(frame_index)
        following = frame_index + (1 if frame_index > self._latest else -1)
        self._latest = frame_index
        frame = awaited.result()
        self._ahead.clear()
        if 0 <= following < self.num_frames:
            self._ahead[following] = self._submit(following)
        return frame

    def _submit(self, frame_index: int) -> 'Future[NDArray[np.uint8]]':
        return self._thread.submit(self._frames.read, frame_index)
