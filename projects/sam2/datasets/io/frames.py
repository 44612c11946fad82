"""Reads the frames of a video: a folder of images, or a video file."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ...ops import read_video_timing, seeks_exactly
from .errors import (
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    check_file,
)
from .images import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    IntensityRange,
    begins_as_image,
    image_size,
    read_frame,
)
from .listing import (
    VIDEO_SUFFIX,
    child,
    find_file,
    list_files,
    stem_of,
)

MAX_FORWARD = 48  # frames that are passed over before a seek is quicker
MAX_FRAMES = 2**22  # of a video: two days; FFmpeg takes memory for each that is claimed
IMAGE_PROBLEM = 'is an image, no video'  # of a file
# How an mp4 begins, after four bytes of length.
FIRST_BOXES = (b'ftyp', b'moov', b'mdat', b'free', b'skip', b'wide')
# How files of other containers begin. FFmpeg would also play lists that name other
# files or addresses (HLS, concat); these begin otherwise and are refused.
OTHER_CONTAINERS = (
    b'\x1aE\xdf\xa3',  # Matroska, WebM
    b'\0\0\1\xba',  # MPEG program stream
    b'\0\0\1\xb3',  # MPEG-1 and MPEG-2 video
    b'FLV\1',
    b'0&\xb2u\x8ef\xcf\x11',  # ASF, WMV
    b'OggS',
    b'GIF8',
)
TS_PACKETS = ((0, 188), (4, 192))  # where MPEG transport streams have their first G


class FrameReader(Protocol):
    """Reads the frames of one video; small, picklable, thread-safe."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of a frame, without decoding it."""

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrames:
    """Frames that are image files.

    Attributes:
        folder: Where they are.
        files: Their names, in their order.
        limits: Checked before decoding.
        intensity_range: Values of pictures of more than 8 bits that become black and
            white, see :func:`scale_intensities`.
    """

    folder: Path
    files: tuple[str, ...]
    limits: ReadLimits = DEFAULT_LIMITS
    intensity_range: IntensityRange | None = None

    @property
    def num_frames(self) -> int:
        """Number of the files."""
        return len(self.files)

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return stem_of(Path(self.files[frame_index]).name)

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of a frame, from its header."""
        return image_size(self.folder / self.files[frame_index], self.limits)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        path = self.folder / self.files[frame_index]
        return read_frame(path, self.limits, self.intensity_range)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFileFrames:
    """Frames of an mp4 file, decoded in turn: one seek, then forward.

    Where the frames are not shown at even distances a seek would find others: such a
    file is decoded from its beginning.

    Attributes:
        path: The file.
        num_frames: Frames, as its header says.
        height: Height of a frame in pixels.
        width: Width likewise.
    """

    path: Path
    num_frames: int
    height: int
    width: int

    @classmethod
    def open(cls, path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> 'VideoFileFrames':
        """Read the header of a video file.

        Args:
            path: An mp4 file.
            limits: Its ``max_pixels`` counts.

        Raises:
            ClipDataError: If the file is missing, no mp4, or its frames are too large.
        """
        capture = open_capture(path, limits)
        count, height, width = _claimed_shape(capture)
        capture.release()
        return cls(path=path, num_frames=count, height=height, width=width)

    def frame_name(self, frame_index: int) -> str:
        """Five digits, as the frames are called once they are extracted."""
        return f'{frame_index:05d}'

    def size(self, frame_index: int) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.height, self.width

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Returns:
            (height, width, 3), RGB, turned as the file says.

        Raises:
            ClipDataError: If the file is damaged, or shorter than its header says.
        """
        frame = _playheads.of_this_thread(self.path).read(frame_index)
        if frame is None or frame.shape != (self.height, self.width, 3):
            problem = f'frame {frame_index} of {self.num_frames} cannot be decoded'
            raise ClipDataError.at(self.path, problem, REPLACE_FILE)
        rgb: NDArray[np.uint8] = np.ascontiguousarray(frame[..., ::-1])
        return rgb


class _Playhead:
    """An open video file and the frame that comes next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        self._capture = _open_capture(path)
        self._next = 0
        self._seeks_exactly: bool | None = None  # not known yet

    def read(self, frame_index: int) -> NDArray[np.uint8] | None:
        """Go to a frame and decode it; None where the file has none."""
        if not 0 <= frame_index - self._next <= MAX_FORWARD:
            self._jump(frame_index)
        while self._next < frame_index:
            if not self._capture.grab():
                return None
            self._next += 1
        ok, frame = self._capture.read()
        self._next += 1
        return frame.astype(np.uint8, copy=False) if ok else None

    def _jump(self, frame_index: int) -> None:
        """Seek; where that is not exact, go no further than to the beginning."""
        if self._seeks_exactly is None:
            rate = self._capture.get(cv2.CAP_PROP_FPS)
            self._seeks_exactly = seeks_exactly(self.path, rate)
        if self._seeks_exactly:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame_index)
            self._next = frame_index
        elif frame_index < self._next:
            self._capture = _open_capture(self.path)
            self._next = 0


class _Playheads(threading.local):
    """The video file that a thread reads at the moment."""

    current: _Playhead | None = None
    # To close what was opened before a fork would wait for threads that are not here.
    inherited: tuple[_Playhead, ...] = ()

    def of_this_thread(self, path: Path) -> _Playhead:
        """Open a file, unless it is open."""
        current = self.current
        if current is not None and current.process != os.getpid():
            self.inherited = (*self.inherited, current)
            current = None
        if current is None or current.path != path:
            current = self.current = _Playhead(path)
        return current


_playheads = _Playheads()


def open_capture(
    path: Path, limits: ReadLimits = DEFAULT_LIMITS, *, only_mp4: bool = True
) -> cv2.VideoCapture:
    """Open a video file after checking what its header claims.

    Args:
        limits: Its ``max_pixels`` counts.

    Raises:
        ClipDataError: If the file is missing, no video, or claims too many frames or
            pixels.
    """
    max_frames = min(check_file(path).st_size, MAX_FRAMES)
    _check_claims(path, max_frames)
    capture = _open_capture(path, only_mp4=only_mp4)
    count, height, width = _claimed_shape(capture)
    limits.check_pixels(path, height, width)
    if not 0 < count <= max_frames:
        problem = f'claims {count} frames, expected 1 to {max_frames} of its size'
        raise ClipDataError.at(path, problem, REPLACE_FILE)
    return capture


def _check_claims(path: Path, max_frames: int) -> None:
    """Refuse a video of too many frames before FFmpeg makes a table of them."""
    try:
        claims = [timing.num_samples for timing in read_video_timing(path)]
    except OSError:
        return  # said where it is opened
    if max(claims, default=0) > max_frames:
        problem = f'claims {max(claims)} frames, expected 1 to {max_frames} of its size'
        raise ClipDataError.at(path, problem, REPLACE_FILE)


def _open_capture(path: Path, *, only_mp4: bool = True) -> cv2.VideoCapture:
    """Have FFmpeg open a file, if it begins like a video."""
    try:
        with path.open('rb') as file:
            begin = file.read(sum(TS_PACKETS[-1]) + 1)
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if begin[4:8] not in FIRST_BOXES and (only_mp4 or not _is_other_video(begin)):
        problem = 'is no mp4 file' if only_mp4 else 'is no video that OpenCV reads'
        if begins_as_image(begin):
            problem = IMAGE_PROBLEM
        raise ClipDataError.at(path, problem, REPLACE_FILE)
    # FFmpeg takes names like concat:a|b or frame_%03d.jpg for several files, unless
    # they are absolute paths.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise ClipDataError.at(path, 'is no video that OpenCV reads', REPLACE_FILE)
    return capture


def _is_other_video(begin: bytes) -> bool:
    """Whether a file begins like a video in another container than mp4."""
    return (
        begin.startswith(OTHER_CONTAINERS)
        or (begin[:4], begin[8:12]) == (b'RIFF', b'AVI ')
        or any(
            begin[first : first + 1] == begin[first + size : first + size + 1] == b'G'
            for first, size in TS_PACKETS
        )
    )


def _claimed_shape(capture: cv2.VideoCapture) -> tuple[int, int, int]:
    """Frames, height and width of a video, as its header says."""
    properties = (
        cv2.CAP_PROP_FRAME_COUNT,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FRAME_WIDTH,
    )
    count, height, width = (int(capture.get(number)) for number in properties)
    return count, height, width


def open_frames(
    folder: Path,
    name: str,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
    *,
    masks: Path | None = None,
) -> ImageFrames | VideoFileFrames:
    """Open the frames of a video, whichever way they are stored.

    Args:
        folder: Has ``<name>/*.jpg``, or other images, or ``<name>.mp4``.
        intensity_range: Of images of more than 8 bits.
        masks: Folder of its masks. Where it is the folder of the frames, only JPEG
            files are frames.

    Raises:
        ClipDataError: If there is neither, or the folder is empty or cannot be ordered.
    """
    images = child(folder, name)
    if not images.is_dir():
        video = find_file(images, (VIDEO_SUFFIX,))
        if video.is_file():
            return VideoFileFrames.open(video, limits)
    is_shared = masks is not None and masks.resolve() == images.resolve()
    files = list_files(images, JPEG_SUFFIXES if is_shared else IMAGE_SUFFIXES)
    return ImageFrames(
        folder=images, files=files, limits=limits, intensity_range=intensity_range
    )
