"""Reads the next frame of a video while one is worked on."""

import threading
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis.frame_readers import FrameReader

__all__ = ['ReadAheadReader']


class ReadAheadReader:
    """Decodes the next frame while one is worked on, in the direction of reading.

    A thread lives only while it decodes a frame, so that idle videos hold none.

    Args:
        frames: Reads them, one at a time, in other threads.
    """

    def __init__(self, frames: FrameReader) -> None:
        self._frames = frames
        self.size = frames.size
        self._reading = threading.Lock()
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
        """Start to decode a frame."""
        future: Future[NDArray[np.uint8]] = Future()
        threading.Thread(
            target=self._decode, args=(frame_index, future), name='sam2-read-ahead'
        ).start()
        return future

    def _decode(self, frame_index: int, future: 'Future[NDArray[np.uint8]]') -> None:
        """Decode a frame; errors are raised by the ``read`` that waits for it."""
        try:
            with self._reading:
                frame = self._frames.read(frame_index)
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
            del self, future  # else a reference cycle through the error's traceback
        else:
            future.set_result(frame)
