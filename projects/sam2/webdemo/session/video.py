"""The video, or the folder of images, that is annotated."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...datasets.io.errors import ClipDataError
from ...datasets.io.frames import ImageFrames, VideoFileFrames
from ...datasets.io.listing import IMAGE_SUFFIXES, frame_key, list_files, scan_folder
from ...ops import Prefetcher, import_optional, seeks_exactly
from .seekable_frames import SeekableFrames

HASHED_BYTES = 1 << 16  # of the head, the middle and the tail of a file
Kind = Literal['video', 'images']
Size = tuple[int, int]  # height, width


class BrokenFrameError(ValueError):
    """A frame cannot be read.

    Attributes:
        frame_index: Position of the frame.
    """

    def __init__(self, message: str, frame_index: int) -> None:
        super().__init__(message)
        self.frame_index = frame_index


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoIdentity:
    """By what a session knows its video again.

    Attributes:
        path: Where it was.
        kind: 'video' or 'images'.
        num_frames: Number of frames.
        num_bytes: Size of the file, or of all images together.
        content_hash: Of the names of images and of parts of the content.
    """

    path: str
    kind: Kind
    num_frames: int
    num_bytes: int
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON."""
        return asdict(self)

    @property
    def key(self) -> str:
        """Hash for addresses: another content or place gives another one."""
        content = f'{self.path}\0{self.content_hash}'
        return hashlib.sha256(content.encode()).hexdigest()[:24]


class AnnotatedVideo:
    """A video or a set of images, read by the exact index of a frame.

    Any thread may call any method. Frames for the screen and frames for the model come
    from different readers, so that scrubbing does not make the model seek.

    Args:
        path: A video file; a folder of images, which are the frames of one video or
            independent stills; or one image.
        kind: 'video' for one video; 'images' for stills of any sizes, which are not
            tracked. By default, the images of a folder are a video if numbers in their
            names order them and all have one size.

    Attributes:
        name: Stem of the file, or the name of the folder.
        path: Absolute path.
        kind: 'video' or 'images'.
        num_frames: Number of frames.
        frames_per_second: None where the file does not say.
        identity: By what it is known again: path, size, and a hash of the beginning,
            the middle and the end of the content.
        key: Hash of the identity, for addresses.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it holds no frame that can be read.

    Example:
        >>> video = AnnotatedVideo(Path('clip.mp4'))
        >>> video.read(12).shape == (*video.size(12), 3)
        True
    """

    def __init__(self, path: Path, kind: Kind | None = None) -> None:
        path = path.expanduser().absolute()
        if not path.exists():
            msg = f'{path}: there is no such file or folder; check the path'
            raise FileNotFoundError(msg)
        self.path = path
        self.name = path.name if path.is_dir() else path.stem
        try:
            self._display = _open(path, kind)
            self._tracking = _second_reader(self._display)
            self._scrub = _open_seekable(self._display)
        except ClipDataError as error:
            raise ValueError(_problem(error)) from error
        frames = self._display
        self.kind: Kind = 'video'
        self.frames_per_second: float | None = None
        if isinstance(frames, VideoFileFrames):
            self.frames_per_second = frames.frames_per_second
        elif kind == 'images' or (kind is None and not _is_one_video(frames)):
            self.kind = 'images'
        self.num_frames = frames.num_frames
        stems = Counter(map(frames.frame_name, range(frames.num_frames)))
        self._shared_stems = {stem for stem, count in stems.items() if count > 1}
        self._sizes: dict[int, Size] = {}
        self._one_size: Size | None = None
        if self.kind == 'video':
            self._one_size = self._size_of_video()
        self.identity = self._identify()
        self.key = self.identity.key

    def reopen(self) -> 'AnnotatedVideo':
        """Open the same video once more, with readers of its own.

        Raises:
            FileNotFoundError: If it is gone.
            ValueError: If its path leads to another video now.
        """
        video = AnnotatedVideo(self.path, self.kind)
        if video.key != self.key:
            msg = (
                f'{self.path} was replaced by another video; put the first one back, '
                f'or open the other in a session of its own'
            )
            raise ValueError(msg)
        return video

    def size(self, frame_index: int) -> Size:
        """Height and width of a frame; all frames of a video have those of the first.

        Raises:
            ValueError: If there is no such frame, or it cannot be read.
        """
        self.check_frame(frame_index)
        if self._one_size is not None:
            return self._one_size
        if frame_index not in self._sizes:
            try:
                self._sizes[frame_index] = self._display.size(frame_index)
            except ClipDataError as error:
                raise BrokenFrameError(_problem(error), frame_index) from error
        return self._sizes[frame_index]

    def frame_name(self, frame_index: int) -> str:
        """Stem of the file of a frame, five digits in a video file.

        Where two images differ only in their suffix, the name with the suffix.
        """
        self.check_frame(frame_index)
        stem = self._display.frame_name(frame_index)
        if stem in self._shared_stems and isinstance(self._display, ImageFrames):
            return self._display.files[frame_index]
        return stem

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame for the screen: (height, width, 3), RGB.

        Raises:
            BrokenFrameError: If it cannot be read, or has another size than the first
                frame of the video. A ``ValueError``.
        """
        return self._read(self._scrub or self._display, frame_index)

    def read_to_track(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame for the model, from a reader of its own; see :meth:`read`."""
        return self._read(self._tracking, frame_index)

    def tracking_reader(self) -> 'TrackingReader':
        """Read the frames of the video for a model, the next one in advance."""
        return TrackingReader(self)

    def still_reader(self, frame_index: int) -> 'StillReader':
        """Read one image for a model, as a video of one frame."""
        return StillReader(self, frame_index)

    def check_frame(self, frame_index: int) -> None:
        """Check that there is such a frame.

        Raises:
            ValueError: If not.
        """
        if not 0 <= frame_index < self.num_frames:
            msg = (
                f'Frame {frame_index} is not in 0 to {self.num_frames - 1}, the frames '
                f'of {self.name}'
            )
            raise ValueError(msg)

    def _read(
        self, frames: ImageFrames | VideoFileFrames | SeekableFrames, frame_index: int
    ) -> NDArray[np.uint8]:
        size = self.size(frame_index)
        name = f'Frame {frame_index} of {self.name}'
        try:
            frame = frames.read(frame_index)
        except ClipDataError as error:
            msg = f'{name} cannot be read ({_problem(error)})'
            raise BrokenFrameError(msg, frame_index) from error
        if frame.shape[:2] != size:
            msg = (
                f'{name} has {frame.shape[0]} x {frame.shape[1]} pixels, the first '
                f'frame {size[0]} x {size[1]}; open the folder as images instead'
            )
            raise BrokenFrameError(msg, frame_index)
        return frame

    def _size_of_video(self) -> Size:
        """Size of the first frame that can be read; headers may ignore the rotation."""
        problem = ''
        for frame_index in range(self.num_frames):
            try:
                frame = self._display.read(frame_index)
            except ClipDataError as error:  # noqa: PERF203  the next may be intact
                problem = problem or _problem(error)
                if isinstance(self._display, VideoFileFrames):
                    break  # what follows cannot be decoded either
            else:
                return frame.shape[0], frame.shape[1]
        msg = f'{self.path}: no frame can be read ({problem}); open another video'
        raise ValueError(msg)

    def _identify(self) -> VideoIdentity:
        digest = hashlib.sha256()
        num_bytes = 0
        files = [self.path]
        if isinstance(self._display, ImageFrames):
            frames = self._display
            files = [frames.path(index) for index in range(frames.num_frames)]
            for file in files:
                size = file.stat().st_size
                num_bytes += size
                digest.update(f'{file.name}\0{size}\0'.encode())
            files = [files[0], files[len(files) // 2], files[-1]]
        else:
            num_bytes = self.path.stat().st_size
        for file in files:
            for part in _parts(file):
                digest.update(part)
        return VideoIdentity(
            path=str(self.path),
            kind=self.kind,
            num_frames=self.num_frames,
            num_bytes=num_bytes,
            content_hash=digest.hexdigest(),
        )


class TrackingReader:
    """Frames of a video for a model: a ``FrameReader`` of the predictor.

    The next frame is decoded while the model tracks the current one.
    """

    def __init__(self, video: AnnotatedVideo) -> None:
        self.num_frames = video.num_frames
        self.size = video.size(0)
        self._frames = Prefetcher(video.read_to_track, video.num_frames)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        return self._frames.read(frame_index)


class StillReader:
    """One image of a set, read as a video of one frame: a ``FrameReader``."""

    def __init__(self, video: AnnotatedVideo, frame_index: int) -> None:
        self.num_frames = 1
        self.size = video.size(frame_index)
        self._video, self._frame_index = video, frame_index

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode the image: (height, width, 3), RGB."""
        return self._video.read_to_track(self._frame_index + frame_index)


def _open(path: Path, kind: Kind | None) -> ImageFrames | VideoFileFrames:
    if path.is_dir():
        return ImageFrames(folder=path, files=_list_images(path, kind))
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        return ImageFrames(folder=path.parent, files=(path.name,))
    if kind == 'images':
        msg = f'{path.name} is a video; open it as a video, or give a folder of images'
        raise ValueError(msg)
    frames = VideoFileFrames(path, only_mp4=False)
    frames.num_frames = _count_frames(path) or frames.num_frames
    return frames


def _second_reader(
    frames: ImageFrames | VideoFileFrames,
) -> ImageFrames | VideoFileFrames:
    """Open a reader with a position of its own, which images do not need."""
    if isinstance(frames, ImageFrames):
        return frames
    second = VideoFileFrames(frames.path, only_mp4=False)
    second.num_frames = frames.num_frames  # counting reads the whole file
    return second


def _open_seekable(frames: ImageFrames | VideoFileFrames) -> SeekableFrames | None:
    """Open a reader for scrubbing, where OpenCV would decode from the first frame."""
    if isinstance(frames, ImageFrames):
        return None
    rate = frames.frames_per_second or 0.0
    if seeks_exactly(frames.path, rate):
        return None
    try:
        seekable = SeekableFrames(frames.path)
    except Exception:  # noqa: BLE001  no PyAV, or a file that it does not read
        return None
    return seekable if seekable.num_frames == frames.num_frames else None


def _list_images(folder: Path, kind: Kind | None) -> tuple[str, ...]:
    try:
        return list_files(folder, IMAGE_SUFFIXES)
    except ClipDataError:
        names = [entry.name for entry in scan_folder(folder) if entry.is_file()]
        images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        if kind == 'video' or not images:
            raise
        # Photographs need no order, only always the same one.
        return tuple(sorted(images, key=lambda name: (_sort_key(name), name)))


def _sort_key(name: str) -> list[tuple[bool, Any]]:
    # Numbers and texts cannot be compared with each other.
    return [(isinstance(part, str), part) for part in frame_key(Path(name).stem)]


def _is_one_video(frames: ImageFrames) -> bool:
    """Whether images are in an order that their names state, and of one size."""
    if frames.num_frames < 2:
        return False
    try:
        list_files(frames.folder, IMAGE_SUFFIXES)
    except ClipDataError:
        return False
    sizes: set[Size] = set()
    for frame_index in range(frames.num_frames):
        try:
            sizes.add(frames.size(frame_index))
        except ClipDataError:  # a broken frame of a video
            continue
        if len(sizes) > 1:
            return False
    return True


def _count_frames(path: Path) -> int | None:
    """Count the frames of a video file, without decoding it; None if that fails.

    Containers other than mp4 state no number of frames: OpenCV multiplies length and
    rate, which is wrong where frames are not evenly spaced in time.
    """
    try:
        av = import_optional('av', purpose='Counting the frames of a video')
        with av.open(str(path)) as container:
            packets = container.demux(container.streams.video[0])
            # The last packet of a demuxer is empty.
            return sum(int(p.size > 0 and not p.is_discard) for p in packets)
    except Exception:  # noqa: BLE001  damaged files make FFmpeg raise almost anything
        return None


def _parts(file: Path) -> Iterator[bytes]:
    """Beginning, middle and end of a file."""
    size = file.stat().st_size
    with file.open('rb') as opened:
        for offset in sorted({0, size // 2, max(size - HASHED_BYTES, 0)}):
            opened.seek(offset)
            yield opened.read(HASHED_BYTES)


def _problem(error: ClipDataError) -> str:
    """Give the problem without the remedy, which is that of a training set."""
    return error.problem
