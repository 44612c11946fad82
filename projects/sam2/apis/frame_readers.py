"""Reads the frames of a video one at a time, when they are asked for."""

import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.io.errors import ClipDataError
from ..datasets.io.frames import IMAGE_PROBLEM, open_capture
from ..datasets.io.images import IMAGE_SUFFIXES, read_frame
from ..datasets.io.listing import order_frames, scan_folder
from ..ops import seeks_exactly
from .inputs import ImageLike, Size, read_image, read_whole_number

MAX_SKIP = 48  # frames ahead up to which decoding on is faster than to seek
# Frames a second that a file may claim; beyond them its header is taken for damaged.
MIN_RATE, MAX_RATE = 0.01, 1000.0
MAX_OPEN_VIDEOS = 16  # each has decoder threads of its own
READ_BACK = 16  # frames decoded at once where a video file is read backwards


@runtime_checkable
class FrameReader(Protocol):
    """Frames of one video, all of one size."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""

    @property
    def size(self) -> Size:
        """Height and width of the frames."""

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""


VideoLike = str | Path | Sequence[ImageLike] | NDArray[np.uint8] | FrameReader


def open_frames(video: VideoLike) -> FrameReader:
    """Open a video; its first frame is decoded, for the size.

    Args:
        video: A folder of images named by numbers; a video file; or frames as an
            array (T, height, width, 3) or a list of images; or a reader of one's own.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        TypeError: If it is none of these.
        ValueError: If there is no frame, or the first cannot be read.
    """
    if isinstance(video, FrameReader):
        read_whole_number(video.num_frames, name='num_frames of the reader', least=1)
        return video
    if not isinstance(video, str | Path):
        if not hasattr(video, '__len__') or not hasattr(video, '__getitem__'):
            msg = (
                f'The video is a {type(video).__name__}; give a path, an array or a '
                f'list of frames, or give frames that come one at a time to SAM2Stream'
            )
            raise TypeError(msg)
        return ArrayReader(video)
    path = Path(video).expanduser()
    if not path.exists():
        msg = f'{path}: there is no such file or folder; check the path'
        raise FileNotFoundError(msg)
    return FolderReader(path) if path.is_dir() else VideoFileReader(path)


class ArrayReader:
    """Frames that are in memory.

    Args:
        frames: (T, height, width, 3) or a list of images, uint8, RGB.

    Raises:
        ValueError: If there is no frame, or the first is not RGB of 8 bits.
    """

    def __init__(self, frames: Sequence[ImageLike] | NDArray[np.uint8]) -> None:
        if not len(frames):
            msg = 'The video has no frame; give at least one'
            raise ValueError(msg)
        self._frames = frames
        first = read_image(frames[0], name='Frame 0')
        self.size: Size = (first.shape[0], first.shape[1])

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self._frames)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Check a frame and give it.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If it is not RGB of 8 bits, or of another size.
        """
        name = f'Frame {frame_index}'
        frame = read_image(self._frames[frame_index], name=name)
        return same_size(frame, self.size, name)


class FolderReader:
    """Frames in image files, in the order of the numbers in their names.

    Args:
        folder: The folder.

    Raises:
        ValueError: If it holds no image, a damaged one, or some that cannot be ordered.
    """

    def __init__(self, folder: Path) -> None:
        names = [entry.name for entry in scan_folder(folder) if not entry.is_dir()]
        files = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        if not files:
            others = sorted({Path(name).suffix for name in names} - {''})
            content = f'only {", ".join(others)}' if others else 'nothing'
            msg = (
                f'{folder} holds no frames: expected images, found {content}; write '
                f'the frames as 00000.jpg, 00001.jpg, … or give them as arrays'
            )
            raise ValueError(msg)
        self._files = [folder / name for name in order_frames(files, folder)]
        first = read_frame(self._files[0])
        self.size: Size = (first.shape[0], first.shape[1])

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self._files)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If the file is damaged or of another size.
        """
        path = self._files[frame_index]
        return same_size(read_frame(path), self.size, str(path))


class VideoFileReader:
    """Frames of a video file, decoded by OpenCV.

    Reading forwards decodes each frame once. Reading backwards decodes a group of
    frames at a time and holds them. For each group it seeks, or decodes from the first
    frame where seeking is not exact, as in videos of variable frame rate. Of many
    readers, only those used last keep their file open; the others reopen it when they
    are read again.

    Args:
        path: An mp4, or another container that OpenCV reads: AVI, Matroska, WebM, MPEG,
            FLV, WMV, Ogg, GIF.

    Attributes:
        frames_per_second: At which it was recorded; None where the file does not say.

    Raises:
        ValueError: If it is no video, if it claims more frames or pixels than its size
            allows, or if its first frame cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: cv2.VideoCapture | None = None
        self._reading = threading.Lock()
        self._next = 0
        self._seeks_exactly: bool | None = None  # not known yet
        self._held: dict[int, NDArray[np.uint8]] = {}
        with self._reading:
            capture = self._opened()
            self.num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            rate = capture.get(cv2.CAP_PROP_FPS)
            is_known = MIN_RATE <= rate <= MAX_RATE
            self.frames_per_second: float | None = rate if is_known else None
            first = self._decode_next()
            self._held = {0: first}
            self.size: Size = (first.shape[0], first.shape[1])

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If the video ends before it.
        """
        with self._reading:
            if frame_index not in self._held:
                self._held = self._decode(frame_index)
            return self._held[frame_index]

    def close(self) -> bool:
        """Close the file, unless it is read just now; the next read opens it again."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            if self._capture is not None:
                self._capture.release()
                self._capture = None
                self._held = {}
            return True
        finally:
            self._reading.release()

    def _decode(self, frame_index: int) -> dict[int, NDArray[np.uint8]]:
        """Decode a frame, and those before it where the video is read backwards."""
        self._opened()
        start = frame_index
        if frame_index < self._next:
            start = max(frame_index - READ_BACK + 1, 0)
        if frame_index < self._next or frame_index > self._next + MAX_SKIP:
            self._jump(start)
        held = {}
        while self._next <= frame_index:
            here = self._next
            frame = self._decode_next()
            if here >= start:
                held[here] = frame
        return held

    def _opened(self) -> cv2.VideoCapture:
        """Open the file if needed; close those of the least recently used readers."""
        if self._capture is None:
            self._capture = self._open()
            self._next = 0
        _LAST_READ.pop(id(self), None)
        _LAST_READ[id(self)] = weakref.ref(self)
        for key, reference in tuple(_LAST_READ.items())[:-MAX_OPEN_VIDEOS]:
            reader = reference()
            if reader is None or reader.close():
                _LAST_READ.pop(key, None)
        return self._capture

    def _open(self) -> cv2.VideoCapture:
        """Open the file at its first frame."""
        try:
            return open_capture(self._path, only_mp4=False)
        except ClipDataError as error:
            remedy = 'convert it to mp4 (h264)'
            if error.problem.endswith(IMAGE_PROBLEM):
                remedy = (
                    'give a folder of images whose names are numbers, or a list of '
                    'frames; for one image use SAM2ImagePredictor'
                )
            msg = f'{error.problem}; {remedy}'
            raise ValueError(msg) from error

    def _jump(self, start: int) -> None:
        """Seek to a frame, or reopen the file where seeking is not exact."""
        if self._seeks_exactly is None:
            rate = self._opened().get(cv2.CAP_PROP_FPS)
            self._seeks_exactly = seeks_exactly(self._path, rate)
        if self._seeks_exactly:
            self._opened().set(cv2.CAP_PROP_POS_FRAMES, start)
            self._next = start
        elif start < self._next:
            self._capture = self._open()
            self._next = 0

    def _decode_next(self) -> NDArray[np.uint8]:
        """Decode the frame that the file stands at."""
        is_frame, frame = self._opened().read()
        if not is_frame:
            msg = (
                f'{self._path} ends after {self._next} frames, though its header says '
                f'{self.num_frames}; encode it anew, or cut it to {self._next} frames'
            )
            raise ValueError(msg)
        self._next += 1
        return np.ascontiguousarray(frame[..., ::-1], dtype=np.uint8)


# Readers by their id, the most recently used last.
_LAST_READ: dict[int, weakref.ref[VideoFileReader]] = {}


def same_size(frame: NDArray[np.uint8], size: Size, name: str) -> NDArray[np.uint8]:
    """Check that a frame has the size of the video.

    Args:
        frame: (height, width, 3).

    Raises:
        ValueError: If the sizes differ.
    """
    if frame.shape[:2] != size:
        msg = (
            f'{name} is {frame.shape[:2]}, but the first frame is {size} (height, '
            f'width); bring all frames to one size'
        )
        raise ValueError(msg)
    return frame


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
