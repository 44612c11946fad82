"""Opens the videos that users give: folders of images, video files, and arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..datasets.io.errors import ClipDataError
from ..datasets.io.frames import ImageFrames, VideoFileFrames
from ..datasets.io.listing import IMAGE_SUFFIXES, list_files
from ..ops import Prefetcher
from .inputs import ImageLike, Size, read_image, read_whole_number

GIVE_VIDEO = (
    'give a folder of images named by numbers (00000.jpg, 00001.jpg, …), a video file '
    '(convert others to mp4 with h264), or frames as arrays; for one image use '
    'SAM2ImagePredictor'
)


@runtime_checkable
class FrameReader(Protocol):
    """Frames of one video, all of one size."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def size(self) -> Size:
        """Height and width of the frames."""

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""


VideoLike = str | Path | Sequence[ImageLike] | NDArray[np.uint8] | FrameReader


def open_frames(video: VideoLike) -> FrameReader:
    """Open a video; its first frame is decoded, for the size.

    Args:
        video: A folder of images named by numbers; a video file; frames as an array
            (T, height, width, 3) or a list of images; or your own reader.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        TypeError: If it is none of these.
        ValueError: If there is no frame, or the first cannot be read.
    """
    if isinstance(video, FrameReader):
        read_whole_number(video.num_frames, name='num_frames of the reader', least=1)
        return video
    if isinstance(video, str | Path):
        path = Path(video).expanduser()
        if not path.exists():
            msg = f'{path}: there is no such file or folder; check the path'
            raise FileNotFoundError(msg)
        return FileReader(path)
    if not hasattr(video, '__len__') or not hasattr(video, '__getitem__'):
        msg = (
            f'The video is a {type(video).__name__}; give a path, an array or a list '
            f'of frames, or give frames that come one at a time to SAM2Stream'
        )
        raise TypeError(msg)
    return ArrayReader(video)


class FileReader:
    """Frames of a folder of images or of a video file, all of one size.

    Args:
        path: The folder or the file.

    Attributes:
        num_frames: Number of frames.
        size: Height and width of the first frame, which all must have.
        frames_per_second: Frame rate of a video file that states it; else None.

    Raises:
        ValueError: If there is no frame, the frames of the folder cannot be ordered,
            or the first frame cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: ImageFrames | VideoFileFrames
        self.frames_per_second: float | None = None
        try:
            if path.is_dir():
                files = list_files(path, IMAGE_SUFFIXES)
                self._frames = ImageFrames(folder=path, files=files)
            else:
                self._frames = VideoFileFrames(path, only_mp4=False)
                self.frames_per_second = self._frames.frames_per_second
        except ClipDataError as error:
            msg = f'{error.problem}; {GIVE_VIDEO}'
            raise ValueError(msg) from error
        self.num_frames = self._frames.num_frames
        first = self._frames.read(0)
        self.size: Size = (first.shape[0], first.shape[1])

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB.

        Raises:
            ValueError: If it is damaged or missing, or has another size.
        """
        frame = self._frames.read(frame_index)
        name = f'{self._path}: frame {self._frames.frame_name(frame_index)}'
        return same_size(frame, self.size, name)


class ArrayReader:
    """Frames in memory.

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
        """Number of frames."""
        return len(self._frames)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Check a frame and return it: (height, width, 3), RGB.

        Raises:
            ValueError: If it is not RGB of 8 bits, or has another size.
        """
        name = f'Frame {frame_index}'
        frame = read_image(self._frames[frame_index], name=name)
        return same_size(frame, self.size, name)


class PrefetchReader:
    """Decodes the next frame in a thread while the current one is processed.

    Args:
        frames: Reads the frames; called by one thread at a time.
    """

    def __init__(self, frames: FrameReader) -> None:
        self.num_frames, self.size = frames.num_frames, frames.size
        self._frames = Prefetcher(frames.read, frames.num_frames)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame, and start to decode the next one."""
        return self._frames.read(frame_index)


def same_size(frame: NDArray[np.uint8], size: Size, name: str) -> NDArray[np.uint8]:
    """Check that a frame, (height, width, 3), has the size of the video.

    Raises:
        ValueError: If it has another size.
    """
    if frame.shape[:2] != size:
        msg = (
            f'{name} is {frame.shape[:2]}, but the first frame is {size} (height, '
            f'width); resize all frames to one size'
        )
        raise ValueError(msg)
    return frame
