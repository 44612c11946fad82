"""Frames as JPEG, by their exact index in the user's own file.

Browsers keep what they got: a frame's address holds the key of its video, and never
changes its content. The server keeps the frames used last, within a limit of bytes, and
encodes the next ones in advance while somebody scrubs or plays.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

encode_jpeg: Any
try:  # optional, twice as fast as OpenCV
    from simplejpeg import encode_jpeg  # type: ignore[attr-defined]
except ImportError:
    encode_jpeg = None

JPEG_QUALITY = 92
THUMBNAIL_QUALITY = 80
THUMBNAIL_HEIGHT = 72  # pixels
MAX_CACHED_BYTES = 256 * 2**20
NUM_THREADS = 4
NUM_AHEAD = 12  # frames that are encoded before they are asked for
Address = tuple[str, int, bool]  # key of the video, frame, whether it is a thumbnail


class Frames(Protocol):
    """What is read of a video."""

    key: str

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""


def jpeg_bytes(frame: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Encode a frame (height, width, 3), RGB, as JPEG without loss of resolution."""
    if encode_jpeg is not None:
        frame = np.ascontiguousarray(frame)
        encoded: bytes = encode_jpeg(frame, quality, 'RGB', colorsubsampling='420')
        return encoded
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    is_encoded, content = cv2.imencode('.jpg', frame[..., ::-1], parameters)
    if not is_encoded:
        msg = f'A frame of {frame.shape[:2]} pixels cannot be encoded as JPEG'
        raise ValueError(msg)
    return content.tobytes()


def thumbnail_bytes(frame: NDArray[np.uint8]) -> bytes:
    """Encode a small version of a frame, 72 pixels high."""
    height, width = frame.shape[:2]
    small = cv2.resize(
        frame,
        (max(1, round(width * THUMBNAIL_HEIGHT / height)), THUMBNAIL_HEIGHT),
        interpolation=cv2.INTER_AREA,
    )
    return jpeg_bytes(small.astype(np.uint8, copy=False), THUMBNAIL_QUALITY)


class MediaCache:
    """Encodes frames in threads, once each, and keeps those used last.

    All methods are called from the event loop.

    Args:
        max_bytes: Limit of the frames that are kept.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._encoded: OrderedDict[Address, bytes] = OrderedDict()
        self._running: dict[Address, asyncio.Task[bytes]] = {}
        self._latest: dict[str, int] = {}  # frame asked for last, by key of the video
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix='frames')

    async def frame(self, video: Frames, frame_index: int) -> bytes:
        """Return a frame at its own size.

        Raises:
            ValueError: If it cannot be decoded.
        """
        before = self._latest.get(video.key)
        self._latest[video.key] = frame_index
        content = await self._get((video.key, frame_index, False), video)
        # A step forwards or backwards: the next frames on that way will be asked for.
        if before is not None and 0 < abs(step := frame_index - before) <= 4:
            self._encode_ahead(video, frame_index, 1 if step > 0 else -1)
        return content

    async def thumbnail(self, video: Frames, frame_index: int) -> bytes:
        """Return a small version of a frame.

        Raises:
            ValueError: If it cannot be decoded.
        """
        return await self._get((video.key, frame_index, True), video)

    def forget(self, video: Frames) -> None:
        """Drop the frames of a video that nobody looks at any more."""
        self._latest.pop(video.key, None)
        for address in [a for a in self._encoded if a[0] == video.key]:
            self.num_bytes -= len(self._encoded.pop(address))

    async def close(self) -> None:
        """Wait for the threads."""
        for task in self._running.values():
            task.cancel()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _get(self, address: Address, video: Frames) -> bytes:
        if address in self._encoded:
            self._encoded.move_to_end(address)
            return self._encoded[address]
        # Whoever asks for a frame that is being encoded waits for the same task, which
        # goes on if one of them leaves.
        return await asyncio.shield(self._start(address, video))

    def _start(self, address: Address, video: Frames) -> 'asyncio.Task[bytes]':
        if address not in self._running:
            task = asyncio.create_task(self._encode(address, video))
            self._running[address] = task
            task.add_done_callback(self._finish(address))
        return self._running[address]

    def _finish(self, address: Address) -> Callable[['asyncio.Task[bytes]'], None]:
        def finish(task: 'asyncio.Task[bytes]') -> None:
            self._running.pop(address, None)
            if not task.cancelled():
                task.exception()  # nobody may have asked for this frame yet

        return finish

    def _encode_ahead(self, video: Frames, frame_index: int, step: int) -> None:
        stop = frame_index + step * (NUM_AHEAD + 1)
        for index in range(frame_index + step, stop, step):
            address = (video.key, index, False)
            if 0 <= index < video.num_frames and address not in self._encoded:
                self._start(address, video)

    async def _encode(self, address: Address, video: Frames) -> bytes:
        loop = asyncio.get_running_loop()
        _, index, is_thumbnail = address

        def encode() -> bytes:
            frame = video.read(index)
            return thumbnail_bytes(frame) if is_thumbnail else jpeg_bytes(frame)

        content = await loop.run_in_executor(self._threads, encode)
        self._encoded[address] = content
        self.num_bytes += len(content)
        while self.num_bytes > self.max_bytes and len(self._encoded) > 1:
            self.num_bytes -= len(self._encoded.popitem(last=False)[1])
        return content
