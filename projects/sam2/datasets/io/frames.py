"""Readers of the frames of a video: a folder of images, or a video file."""

import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ...ops import read_video_timing, seeks_exactly
from .errors import (
    COMPLETE_DATA,
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    check_file,
)
from .images import (
    IntensityRange,
    begins_as_image,
    image_size,
    read_frame,
)
from .listing import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    VIDEO_SUFFIX,
    find_file,
    list_files,
    safe_join,
    stem_of,
)

MAX_SKIP = 48  # frames; over shorter gaps decoding is faster than seeking
READ_BACK = 16  # frames decoded at once where a video file is read backwards
MAX_OPEN_VIDEOS = 16  # each has decoder threads of its own
# Frames per second that a file may claim; other values mean a damaged header.
MIN_RATE, MAX_RATE = 0.01, 1000.0
MAX_FRAMES = 2**22  # two days; FFmpeg allocates memory for each frame claimed
# The first bytes of an mp4 file, after four bytes of length.
MP4_BOXES = (b'ftyp', b'moov', b'mdat', b'free', b'skip', b'wide')
# The first bytes of other containers. FFmpeg also plays lists that name other files
# or addresses (HLS, concat); they begin with none of these and are refused.
OTHER_CONTAINERS = (
    b'\x1aE\xdf\xa3',  # Matroska, WebM
    b'\0\0\1\xba',  # MPEG program stream
    b'\0\0\1\xb3',  # MPEG-1 and MPEG-2 video
    b'FLV\1',
    b'0&\xb2u\x8ef\xcf\x11',  # ASF, WMV
    b'OggS',
    b'GIF8',
)
TS_PACKETS = ((0, 188), (4, 192))  # offset and length of MPEG transport packets


class StoredFrames(Protocol):
    """Reads the frames of one video on disk; small, picklable, thread-safe."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of a frame, without decoding it."""

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""


def open_frames(
    folder: Path,
    name: str,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
    *,
    masks: Path | None = None,
) -> 'ImageFrames | VideoFileFrames':
    """Open the frames of a video: ``<folder>/<name>/*.jpg`` or ``<folder>/<name>.mp4``.

    Args:
        intensity_range: See :class:`ImageFrames`.
        masks: Folder of the masks. If it is also the folder of the frames, only JPEG
            files are frames.

    Raises:
        ClipDataError: If there is neither, or the folder is empty or cannot be ordered.
    """
    images = safe_join(folder, name)
    if not images.is_dir():
        video = find_file(images, (VIDEO_SUFFIX,))
        if video.is_file():
            return VideoFileFrames(video, limits)
    is_shared = masks is not None and masks.resolve() == images.resolve()
    files = list_files(images, JPEG_SUFFIXES if is_shared else IMAGE_SUFFIXES)
    return ImageFrames(
        folder=images, files=files, limits=limits, intensity_range=intensity_range
    )


def open_image(
    folder: Path,
    name: str,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
    *,
    other_than: Path | None = None,
) -> 'ImageFrames':
    """Open an image ``<folder>/<name>.jpg`` (or PNG, …) as a video of one frame.

    Args:
        intensity_range: See :class:`ImageFrames`.
        other_than: A label image, which may lie beside it.

    Raises:
        ClipDataError: If there is none, or more than one.
    """
    stem = safe_join(folder, name)
    file = find_file(stem, IMAGE_SUFFIXES, other_than=other_than)
    if not file.is_file():
        problem = f'is missing (as {", ".join(IMAGE_SUFFIXES)})'
        raise ClipDataError.at(stem, problem, COMPLETE_DATA)
    return ImageFrames(
        folder=file.parent,
        files=(file.name,),
        limits=limits,
        intensity_range=intensity_range,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrames:
    """Frames that are image files.

    Attributes:
        folder: Where they are.
        files: Their names, in order.
        limits: Checked before decoding.
        intensity_range: Values of images of more than 8 bits that become black and
            white, see :func:`scale_intensities`.
    """

    folder: Path
    files: tuple[str, ...]
    limits: ReadLimits = DEFAULT_LIMITS
    intensity_range: IntensityRange | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.files)

    def path(self, frame_index: int) -> Path:
        """File of a frame."""
        return self.folder / self.files[frame_index]

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return stem_of(self.files[frame_index].rpartition('/')[2])

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of a frame, from its header."""
        return image_size(self.path(frame_index), self.limits)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        return read_frame(self.path(frame_index), self.limits, self.intensity_range)


class VideoFileFrames:
    """Frames of a video file, decoded by OpenCV.

    Reading forwards decodes each frame once, and seeks over long gaps. Reading
    backwards decodes a group of frames at a time and keeps them. Where frames are not
    evenly spaced in time, a seek would find other frames; such a file is decoded from
    its first frame. Only the readers used last keep their file open; the others reopen
    it when they are read again.

    Args:
        path: An mp4 file.
        limits: Its ``max_pixels`` counts.
        only_mp4: Whether to refuse the other containers that OpenCV reads: AVI,
            Matroska, WebM, MPEG, FLV, WMV, Ogg, GIF.

    Attributes:
        path: The file.
        num_frames: Number of frames, from the header.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
        frames_per_second: None where the file does not say.

    Raises:
        ClipDataError: If the file is missing, not a video, or its header claims too
            many frames or pixels.
    """

    def __init__(
        self, path: Path, limits: ReadLimits = DEFAULT_LIMITS, *, only_mp4: bool = True
    ) -> None:
        self.path = path
        self._only_mp4 = only_mp4
        max_frames = min(check_file(path).st_size, MAX_FRAMES)
        num_samples = _count_samples(path)
        if num_samples > max_frames:  # FFmpeg would allocate a table of as many entries
            raise _wrong_number(path, num_samples, max_frames)
        capture = _open_capture(path, only_mp4)
        self.num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        limits.check_pixels(path, self.height, self.width)
        if not 1 <= self.num_frames <= max_frames:
            raise _wrong_number(path, self.num_frames, max_frames)
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if MIN_RATE <= rate <= MAX_RATE else None
        self._reset(capture)

    def _reset(self, capture: cv2.VideoCapture | None = None) -> None:
        """Use a capture from its first frame on; open one on demand if None."""
        self._capture = capture
        self._next_index = 0  # of the frame that the capture decodes next
        self._decoded: dict[int, NDArray[np.uint8]] = {}  # BGR, by index
        self._seeks_exactly: bool | None = None  # unknown
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Copy to another process without the open file."""
        return {
            key: value
            for key, value in vars(self).items()
            if not key.startswith('_') or key == '_only_mp4'
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy; its file is opened when it is read."""
        vars(self).update(state)
        self._reset()

    def frame_name(self, frame_index: int) -> str:
        """Five digits, the names of extracted frames."""
        return f'{frame_index:05d}'

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.height, self.width

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Returns:
            (height, width, 3), RGB, rotated as the file says.

        Raises:
            ClipDataError: If the file is damaged, or shorter than its header says.
        """
        if self._process != os.getpid():  # forked since then
            self._close()
            self._reset()
        with self._lock:
            if frame_index not in self._decoded:
                self._decoded = self._decode(frame_index)
            frame = self._decoded[frame_index]
        if frame.shape != (self.height, self.width, 3):
            raise self._damage(frame_index)
        return np.ascontiguousarray(frame[..., ::-1])  # BGR to RGB; always a copy

    def _decode(self, frame_index: int) -> dict[int, NDArray[np.uint8]]:
        """Decode a frame, and those before it if the video is read backwards."""
        first = frame_index
        if frame_index < self._next_index:
            first = max(frame_index - READ_BACK + 1, 0)
        capture = self._seek(first)
        decoded = {}
        while self._next_index <= frame_index:
            success = capture.grab()
            if success and self._next_index >= first:
                success, frame = capture.retrieve()
                decoded[self._next_index] = frame.astype(np.uint8, copy=False)
            if not success:
                raise self._damage(frame_index)
            self._next_index += 1
        return decoded

    def _seek(self, first: int) -> cv2.VideoCapture:
        """Open the file if needed, and go to a frame or not far before it."""
        if self._capture is None:
            self._capture = _open_capture(self.path, self._only_mp4)
            self._next_index = 0
        _close_least_recently_used(self)
        if 0 <= first - self._next_index <= MAX_SKIP:
            return self._capture
        if self._seeks_exactly is None:
            rate = self._capture.get(cv2.CAP_PROP_FPS)
            self._seeks_exactly = seeks_exactly(self.path, rate)
        if self._seeks_exactly:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, first)
            self._next_index = first
        elif first < self._next_index:
            self._capture = _open_capture(self.path, self._only_mp4)
            self._next_index = 0
        return self._capture

    def _damage(self, frame_index: int) -> ClipDataError:
        problem = f'frame {frame_index} of {self.num_frames} cannot be decoded'
        remedy = (
            f'the file is damaged or shorter than its header says: encode it again, or '
            f'cut it to {frame_index} frames'
        )
        return ClipDataError.at(self.path, problem, remedy)

    def try_close(self) -> bool:
        """Close the file until it is read again; False if it is just being read."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._close()
            return True
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._capture is not None and self._process != os.getpid():
            # Closing it would wait for threads that the fork did not copy.
            _INHERITED.append(self._capture)
        self._capture = None
        self._decoded = {}


_INHERITED: list[cv2.VideoCapture] = []
# Readers of open files by their id, the most recently used last.
_OPEN_READERS: 'dict[int, weakref.ref[VideoFileFrames]]' = {}


def _close_least_recently_used(current: VideoFileFrames) -> None:
    """Note that a reader is used, and close the files of all but the latest readers."""
    _OPEN_READERS.pop(id(current), None)
    _OPEN_READERS[id(current)] = weakref.ref(current)
    for key, reference in tuple(_OPEN_READERS.items())[:-MAX_OPEN_VIDEOS]:
        reader = reference()
        if reader is None or reader.try_close():
            _OPEN_READERS.pop(key, None)


def _count_samples(path: Path) -> int:
    """Frames that the boxes of an mp4 file claim; 0 if they claim none."""
    try:
        return max((track.num_samples for track in read_video_timing(path)), default=0)
    except OSError:
        return 0  # reported when it is opened


def _wrong_number(path: Path, num_frames: int, max_frames: int) -> ClipDataError:
    problem = f'claims {num_frames} frames, expected 1 to {max_frames} for its size'
    return ClipDataError.at(path, problem, REPLACE_FILE)


def _open_capture(path: Path, only_mp4: bool) -> cv2.VideoCapture:
    """Let FFmpeg open a file if its first bytes are those of a video."""
    try:
        with path.open('rb') as file:
            begin = file.read(sum(TS_PACKETS[-1]) + 1)
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    is_mp4 = begin[4:8] in MP4_BOXES
    problem = 'is not an mp4 file' if only_mp4 else 'is not a video that OpenCV reads'
    if is_mp4 or (not only_mp4 and _is_other_container(begin)):
        # FFmpeg takes names like concat:a|b or frame_%03d.jpg for several files,
        # unless they are absolute paths.
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        if capture.isOpened():
            return capture
        problem = 'is not a video that OpenCV reads'
    elif begins_as_image(begin):
        problem = 'is an image, not a video'
    raise ClipDataError.at(path, problem, REPLACE_FILE)


def _is_other_container(begin: bytes) -> bool:
    return (
        begin.startswith(OTHER_CONTAINERS)
        or (begin[:4], begin[8:12]) == (b'RIFF', b'AVI ')
        or any(
            begin[first : first + 1] == begin[first + size : first + size + 1] == b'G'
            for first, size in TS_PACKETS
        )
    )
