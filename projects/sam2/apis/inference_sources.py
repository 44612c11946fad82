"""Opens what a user names: image, folder, video file, address, camera or array."""

import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

import cv2
import mmengine.fileio
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from projects.sam2.apis.frame_readers import (
    FrameReader,
    VideoFileReader,
    open_frames,
)
from projects.sam2.apis.inputs import read_image
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.file_endings import scan_folder
from projects.sam2.datasets.image_headers import (
    DAMAGES,
    bits_per_channel,
    check_header,
    open_image,
)
from projects.sam2.datasets.limits import DEFAULT_LIMITS, read_bytes
from projects.sam2.datasets.reading import IMAGE_SUFFIXES, check_scans
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
WEB_SCHEMES = ('http', 'https')
# A download may pause so long, and take so long in all.
STALL_SECONDS, DOWNLOAD_SECONDS = 30.0, 1800.0
DOWNLOAD_CHUNK = 2**20
DEEP_MODES = ('I;16', 'I;16B', 'I;16L', 'I', 'F')

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
    names = sorted(e.name for e in scan_folder(folder) if not e.is_dir())
    images = [folder / n for n in names if n.lower().endswith(IMAGE_SUFFIXES)]
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
    # Names of files may hold colons.
    if '://' in str(item):
        name = Path(address.path).stem or default_name
        return _remote(str(item), address, name)
    return nullcontext(_local(Path(item).expanduser()))


def _remote(
    url: str, address: SplitResult, name: str
) -> AbstractContextManager[FileSource]:
    """A stream, a video or an image that lies elsewhere."""
    if address.scheme in STREAM_SCHEMES:
        return nullcontext(_stream(url, name))
    return _downloaded(url, address, name)


@contextmanager
def _downloaded(url: str, address: SplitResult, name: str) -> Iterator[FileSource]:
    """A video or an image that lies elsewhere: a local copy, while it is needed."""
    with ExitStack() as stack:
        try:
            if address.scheme in WEB_SCHEMES:
                copy = stack.enter_context(_download(url))
            else:
                # Whatever backend MMEngine has for it.
                copy = Path(stack.enter_context(mmengine.fileio.get_local_path(url)))
        except KeyError as error:
            msg = (
                f'{url}: addresses of {error} cannot be read; give one of http or https'
            )
            raise ValueError(msg) from error
        except (OSError, ValueError, HTTPException) as error:
            msg = f'{url} cannot be fetched ({error}); check the address'
            raise ValueError(msg) from error
        is_video = Path(address.path).suffix.lower() in VIDEO_SUFFIXES
        try:
            source = _video(copy, name) if is_video else _image(copy, name)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), url)) from error
        yield source


@contextmanager
def _download(url: str) -> Iterator[Path]:
    """A file from the web, no larger than what is read from a disk.

    What cannot be reached, is too large or takes too long raises an ``OSError``.
    """
    with tempfile.TemporaryDirectory(prefix='sam2_') as folder:
        copy = Path(folder) / 'download'
        with (
            urlopen(url, timeout=STALL_SECONDS) as answer,  # noqa: S310  http or https
            copy.open('wb') as file,
        ):
            for chunk in _received(answer):
                file.write(chunk)
        yield copy


def _received(answer: HTTPResponse) -> Iterator[bytes]:
    """The content of an answer, as long as it keeps within its bounds."""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    most = DEFAULT_LIMITS.max_file_size
    length = answer.headers.get('Content-Length', '')
    announced = int(length) if length.isdecimal() else 0
    received = 0
    while chunk := answer.read1(DOWNLOAD_CHUNK):
        received += len(chunk)
        if max(received, announced) > most:
            msg = f'it has more than {most} bytes'
            raise OSError(msg)
        if time.monotonic() > deadline:
            msg = f'it takes more than {DOWNLOAD_SECONDS:.0f} s'
            raise TimeoutError(msg)
        yield chunk
    if received < announced:
        msg = f'{received} of {announced} bytes came'
        raise OSError(msg)


def _local(path: Path) -> ImageInput | VideoInput:
    """A file, or a folder of frames."""
    if not path.exists():
        msg = f'{path}: there is no such file or folder; check the path'
        raise FileNotFoundError(msg)
    if path.is_dir():
        return _video(path, path.resolve().name)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(path, path.stem)
    return _image(path, path.stem)


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
    rate = None
    if isinstance(frames, VideoFileReader):
        rate = frames.frames_per_second
    return VideoInput(
        name=name, frames=frames, frames_per_second=rate or FRAMES_PER_SECOND
    )


def _image(path: Path, name: str) -> ImageInput:
    """Decode an image, turned as its camera noted, as every viewer shows it."""
    try:
        encoded = read_bytes(path)
        check_scans(encoded, path)
        check_header(io.BytesIO(encoded), path)
    except ClipDataError as error:
        problem = error.problem.removeprefix(f'{path}: ')
        if problem.startswith('cannot be read ('):
            problem = problem.removeprefix('cannot be read (').removesuffix(')')
        raise _no_image(path, problem) from error
    try:
        with open_image(encoded) as opened:
            mode, num_bits = opened.mode, bits_per_channel(opened)
            is_deep = mode in DEEP_MODES or num_bits > 8
            if not is_deep:
                ImageOps.exif_transpose(opened, in_place=True)
                # To convert what is RGB already would copy it.
                pixels = np.array(opened if mode == 'RGB' else opened.convert('RGB'))
    except DAMAGES as error:
        raise _no_image(path, str(error)) from error
    if is_deep:
        msg = (
            f'{path} has mode {mode!r} of {num_bits} bits; scale it to 8 bits first, '
            f'as (pixels * (255 / 4095)).astype(np.uint8) where 4095 is white'
        )
        raise ValueError(msg)
    return ImageInput(name=name, pixels=pixels)


def _no_image(path: Path, problem: str) -> ValueError:
    """The error of a file that is no image, or none that may be opened."""
    return ValueError(
        f'{path} is no image that can be read ({problem}); give one of '
        f'{", ".join(IMAGE_SUFFIXES)}, or a video of {", ".join(VIDEO_SUFFIXES)}'
    )


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
