"""Opens what a user names: image, folder, video file, address, camera or array."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import cv2
import mmengine.fileio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from projects.sam2.apis.frame_readers import FrameReader, open_frames
from projects.sam2.apis.inputs import CONVERT_TO_RGB, read_image
from projects.sam2.datasets.reading import IMAGE_SUFFIXES
from projects.sam2.visualization.video_file import FRAMES_PER_SECOND

__all__ = [
    'FileSource',
    'ImageInput',
    'InferenceInput',
    'StreamInput',
    'VideoInput',
    'list_sources',
    'open_source',
]

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
STREAM_SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'udp', 'tcp')
DEEP_MODES = ('I;16', 'I;16B', 'I;16L', 'I', 'F')

T = TypeVar('T')

# A path, an address, a camera's number, an image or frames of a video.
InferenceInput = str | Path | int | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """An image.

    Attributes:
        name: For its files.
        pixels: (height, width, 3), RGB.
    """

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInput:
    """A video whose frames can be read in any order.

    Attributes:
        name: For its files.
        frames: Reads them.
        frames_per_second: At which it was recorded.
    """

    name: str
    frames: FrameReader
    frames_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInput:
    """Frames that come one after another and are then gone.

    Attributes:
        name: For its files.
        frames: (height, width, 3), RGB, each.
        frames_per_second: At which they come.
    """

    name: str
    frames: Iterator[NDArray[np.uint8]]
    frames_per_second: float


FileSource = ImageInput | VideoInput | StreamInput


def list_sources(
    inputs: InferenceInput | list[InferenceInput], *, folder_is_video: bool
) -> list[InferenceInput]:
    """Take inputs apart.

    Args:
        inputs: One input, or a list of them.
        folder_is_video: A folder holds the frames of one video, not images.

    Returns:
        Inputs that each open as one; the images of a folder in the order of their
        names.

    Raises:
        ValueError: If a folder holds no image, or there is no input.
    """
    if isinstance(inputs, list | tuple):
        if not inputs:
            msg = 'The list of inputs is empty; give at least one'
            raise ValueError(msg)
        parts = [list_sources(one, folder_is_video=folder_is_video) for one in inputs]
        return [one for part in parts for one in part]
    is_folder = isinstance(inputs, str | Path) and Path(inputs).expanduser().is_dir()
    if folder_is_video or not is_folder:
        return [inputs]
    folder = Path(str(inputs)).expanduser()
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        msg = f'{folder} holds no image; give a folder of {", ".join(IMAGE_SUFFIXES)}'
        raise ValueError(msg)
    return list(images)


def open_source(
    item: object, *, default_name: str
) -> AbstractContextManager[FileSource]:
    """Open an input.

    Args:
        item: As :func:`list_sources` gives it.
        default_name: For the files of an input that has no name.

    Returns:
        The input while the context lasts; a downloaded video is then deleted.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it cannot be read as an image, a video or a stream.
        TypeError: If it is no input at all.
    """
    if isinstance(item, np.ndarray):
        return nullcontext(_of_array(item, default_name))
    if isinstance(item, int):
        return nullcontext(_stream(item, f'camera_{item}'))
    if not isinstance(item, str | Path):
        msg = (
            f'{type(item).__name__} is no input; give a path, an address, the number '
            f'of a camera, or an array'
        )
        raise TypeError(msg)
    if str(item).isdecimal() and not Path(item).exists():
        return nullcontext(_stream(int(str(item)), f'camera_{item}'))
    address = urlsplit(str(item))
    # A single letter is a drive.
    if len(address.scheme) > 1:
        name = Path(address.path).stem or default_name
        return _remote(str(item), address, name)
    return nullcontext(_local(Path(item).expanduser()))


def _remote(
    url: str, address: SplitResult, name: str
) -> AbstractContextManager[FileSource]:
    """A stream, a video or an image that lies elsewhere."""
    if address.scheme in STREAM_SCHEMES:
        return nullcontext(_stream(url, name))
    if Path(address.path).suffix.lower() in VIDEO_SUFFIXES:
        return _remote_video(url, name)
    return nullcontext(_image(_fetch(url), url, name))


def _local(path: Path) -> ImageInput | VideoInput:
    """A file, or a folder of frames."""
    if not path.exists():
        msg = f'{path}: there is no such file or folder; check the path'
        raise FileNotFoundError(msg)
    if path.is_dir():
        return _video(path, path.resolve().name)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(path, path.stem)
    return _image(path.read_bytes(), str(path), path.stem)


def _of_array(array: NDArray[np.uint8], name: str) -> FileSource:
    """An image, or a video of four dimensions."""
    if array.ndim != 4:
        return ImageInput(name=name, pixels=read_image(array, name='The image'))
    return VideoInput(
        name=name, frames=open_frames(array), frames_per_second=FRAMES_PER_SECOND
    )


def _video(path: Path, name: str) -> VideoInput:
    """A video file, or a folder of frames."""
    frames = open_frames(path)
    rate = 0.0 if path.is_dir() else cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    return VideoInput(
        name=name, frames=frames, frames_per_second=rate or FRAMES_PER_SECOND
    )


@contextmanager
def _remote_video(url: str, name: str) -> Iterator[VideoInput]:
    """A video that lies elsewhere: a local copy, while it is needed."""
    with ExitStack() as stack:
        copy = _reached(
            lambda: stack.enter_context(mmengine.fileio.get_local_path(url)), url
        )
        yield _video(Path(copy), name)


def _fetch(url: str) -> bytes:
    """Content of an address, through whatever backend MMEngine has for it."""
    return bytes(_reached(lambda: mmengine.fileio.get(url), url))


def _reached(fetch: Callable[[], T], url: str) -> T:
    """What is fetched; a clear error where it cannot be."""
    try:
        return fetch()
    except OSError as error:
        msg = f'{url} cannot be fetched ({error}); check the address'
        raise ValueError(msg) from error


def _image(encoded: bytes, source: str, name: str) -> ImageInput:
    """Decode an image, turned as its camera noted, as every viewer shows it."""
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            if opened.mode in DEEP_MODES:
                msg = f'{source} has mode {opened.mode!r}; {CONVERT_TO_RGB}'
                raise ValueError(msg)
            upright = ImageOps.exif_transpose(opened).convert('RGB')
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        msg = (
            f'{source} is no image that can be read ({error}); give one of '
            f'{", ".join(IMAGE_SUFFIXES)}, or a video of {", ".join(VIDEO_SUFFIXES)}'
        )
        raise ValueError(msg) from error
    return ImageInput(name=name, pixels=np.array(upright))


def _stream(device: int | str, name: str) -> StreamInput:
    """Open a camera or a live address."""
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        capture.release()
        kind = 'camera' if isinstance(device, int) else 'stream'
        msg = f'There is no {kind} {device}; check that it is on and not in use'
        raise ValueError(msg)
    return StreamInput(
        name=name,
        frames=_frames_of(capture),
        frames_per_second=capture.get(cv2.CAP_PROP_FPS) or FRAMES_PER_SECOND,
    )


def _frames_of(capture: cv2.VideoCapture) -> Iterator[NDArray[np.uint8]]:
    """Frames until there are no more, or nobody asks for them."""
    try:
        while True:
            is_frame, frame = capture.read()
            if not is_frame:
                return
            yield np.ascontiguousarray(frame[..., ::-1], dtype=np.uint8)
    finally:
        capture.release()
