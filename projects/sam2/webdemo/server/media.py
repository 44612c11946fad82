"""Frames as JPEG, by their exact index in the user's own file.

Browsers keep what they got: a frame's address holds the key of its video, and never
changes its content. The server keeps the frames used last, within a limit of bytes, and
encodes the next ones in advance while somebody scrubs or plays.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..session.video import AnnotatedVideo

encode_jpeg: Any
try:  # optional, twice as fast as OpenCV
    from simplejpeg import encode_jpeg  # type: ignore[attr-defined]
except ImportError:
    encode_jpeg = None

JPEG_QUALITY = 92
THUMBNAIL_QUALITY = 80
THUMBNAIL_HEIGHT = 72  # pixels
THUMBNAIL_WIDTH = 1024  # at most: a line of pixels would become an image of a gigabyte
MAX_CACHED_BYTES = 48 * 2**20  # browsers keep more
NUM_THREADS = 4  # that encode
NUM_AHEAD = 12  # frames that are encoded before they are asked for
MAX_STEP = 4  # frames from one that is shown to the next, while somebody scrubs
Address = tuple[str, int, bool]  # key of the video, frame, whether it is a thumbnail


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
    """Encode a small version of a frame, 72 pixels high; less where it is very wide."""
    height, width = frame.shape[:2]
    scale = min(THUMBNAIL_HEIGHT / height, THUMBNAIL_WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return jpeg_bytes(small.astype(np.uint8, copy=False), THUMBNAIL_QUALITY)


class _Reader:
    """Decodes the frames of a video in a thread of its own, in the order asked for.

    Several threads would ask for frames in any order, and each step back in a video
    file decodes a group of frames.

    Attributes:
        thread: The thread.
        latest: Frame that was asked for last.
        ahead: Frames that nobody has asked for yet.
    """

    def __init__(self, open_video: Callable[[], AnnotatedVideo]) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix='decode')
        self.latest: int | None = None
        self.ahead: dict[int, asyncio.Task[bytes]] = {}
        self._open_video = open_video
        self._video: AnnotatedVideo | None = None

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame, in the thread."""
        if self._video is None:
            self._video = self._open_video()
        return self._video.read(frame_index)


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
        self._readers: dict[tuple[str, bool], _Reader] = {}
        self._encoders = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix='encode')

    async def frame(self, video: AnnotatedVideo, frame_index: int) -> bytes:
        """Return a frame at its own size.

        Raises:
            ValueError: If it cannot be decoded.
        """
        reader = self._reader(video, is_thumbnail=False)
        before, reader.latest = reader.latest, frame_index
        reader.ahead.pop(frame_index, None)
        step = 0 if before is None else frame_index - before
        if abs(step) > MAX_STEP:
            # What was going to be shown before the jump is not needed any more.
            for index, ahead in reader.ahead.items():
                ahead.cancel()
                self._running.pop((video.key, index, False), None)
            reader.ahead.clear()
        task = self._start((video.key, frame_index, False), reader)
        if 0 < abs(step) <= MAX_STEP:
            self._encode_ahead(video, frame_index, 1 if step > 0 else -1)
        return await asyncio.shield(task)

    async def thumbnail(self, video: AnnotatedVideo, frame_index: int) -> bytes:
        """Return a small version of a frame.

        Raises:
            ValueError: If it cannot be decoded.
        """
        reader = self._reader(video, is_thumbnail=True)
        return await asyncio.shield(self._start((video.key, frame_index, True), reader))

    def forget(self, video: AnnotatedVideo) -> None:
        """Drop the frames of a video that nobody looks at any more."""
        for is_thumbnail in (False, True):
            reader = self._readers.pop((video.key, is_thumbnail), None)
            if reader is not None:
                reader.thread.shutdown(wait=False, cancel_futures=True)
        for address in [a for a in self._encoded if a[0] == video.key]:
            self.num_bytes -= len(self._encoded.pop(address))

    async def close(self) -> None:
        """Wait for the threads."""
        for task in self._running.values():
            task.cancel()
        threads = [reader.thread for reader in self._readers.values()]
        for pool in (*threads, self._encoders):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    def _reader(self, video: AnnotatedVideo, *, is_thumbnail: bool) -> _Reader:
        """Find the reader of a video; thumbnails, which jump, have one of their own."""
        key = (video.key, is_thumbnail)
        if key not in self._readers:
            self._readers[key] = _Reader(
                video.reopen if is_thumbnail else lambda: video
            )
        return self._readers[key]

    def _start(self, address: Address, reader: _Reader) -> 'asyncio.Task[bytes]':
        """Begin to encode a frame, unless that is done or under way."""
        if address not in self._running:
            task = asyncio.create_task(self._encode(address, reader))
            self._running[address] = task
            task.add_done_callback(partial(self._finish, address))
        return self._running[address]

    def _finish(self, address: Address, task: 'asyncio.Task[bytes]') -> None:
        if self._running.get(address) is task:
            del self._running[address]
        if not task.cancelled():
            task.exception()  # nobody may have asked for this frame yet

    def _encode_ahead(self, video: AnnotatedVideo, frame_index: int, step: int) -> None:
        reader = self._reader(video, is_thumbnail=False)
        reader.ahead = {i: t for i, t in reader.ahead.items() if not t.done()}
        for index in range(frame_index + step, frame_index + step * NUM_AHEAD, step):
            address = (video.key, index, False)
            is_known = address in self._encoded or address in self._running
            if 0 <= index < video.num_frames and not is_known:
                reader.ahead[index] = self._start(address, reader)

    async def _encode(self, address: Address, reader: _Reader) -> bytes:
        if address in self._encoded:
            self._encoded.move_to_end(address)
            return self._encoded[address]
        _, index, is_thumbnail = address
        loop = asyncio.get_running_loop()
        frame = await loop.run_in_executor(reader.thread, reader.read, index)
        encode = thumbnail_bytes if is_thumbnail else jpeg_bytes
        content = await loop.run_in_executor(self._encoders, encode, frame)
        self._encoded[address] = content
        self.num_bytes += len(content)
        while self.num_bytes > self.max_bytes and len(self._encoded) > 1:
            self.num_bytes -= len(self._encoded.popitem(last=False)[1])
        return content
