"""What the inferencer finds, frame by frame, and as it is kept and written."""

import io
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

import cv2
import mmengine.fileio
import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..datasets.io.errors import DEFAULT_LIMITS, ClipDataError, read_bytes
from ..datasets.io.images import (
    DAMAGES,
    IMAGE_SUFFIXES,
    bits_per_channel,
    check_header,
    check_scans,
    open_with_pillow,
)
from ..datasets.io.listing import scan_folder
from ..datasets.processing.davis_export import davis_palette
from ..ops import EncodedMask, encode_masks, write_atomically
from ..structures import PromptMark
from ..visualization import VideoFile
from ..visualization.clip_visualizer import write_png
from ..visualization.drawing import Picture
from ..visualization.video_file import FRAMES_PER_SECOND
from .frame_readers import FileReader, FrameReader, open_frames
from .inputs import read_image


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredFrame:
    """One image or frame with its masks, before it is written.

    Attributes:
        frame_index: Position in the video; 0 of an image.
        pixels: (height, width, 3), RGB.
        object_ids: One for each mask.
        masks: (O, height, width), bool; they may overlap.
        ious: The model's estimate of their IoU; NaN where it gave none.
        marks: Prompts on this frame.
    """

    frame_index: int
    pixels: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    ious: tuple[float, ...]
    marks: tuple[PromptMark, ...] = ()

    def packed(self) -> 'FrameResult':
        """The same without pixels, masks run-length encoded."""
        return FrameResult(
            frame_index=self.frame_index,
            object_ids=self.object_ids,
            masks=tuple(encode_masks(self.masks)) if self.object_ids else (),
            ious=self.ious,
        )

    def label_map(self) -> NDArray[np.uint16]:
        """Ids of the objects as one picture.

        Returns:
            (height, width); 0 where no object is. Where objects overlap, the smaller
            one is seen.
        """
        labels = np.zeros(self.masks.shape[1:], dtype=np.uint16)
        areas = self.masks.sum(axis=(1, 2))
        for position in np.argsort(-areas, kind='stable'):
            labels[self.masks[position]] = self.object_ids[position]
        return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Masks of one image or frame.

    Attributes:
        frame_index: Position in the video; 0 of an image.
        object_ids: One for each mask.
        masks: As COCO's run-length encoding.
        ious: The model's estimate of their IoU; NaN where it gave none.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: tuple[EncodedMask, ...]
    ious: tuple[float, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Plain types, for json."""
        objects = zip(self.object_ids, self.masks, self.ious, strict=True)
        return {
            'frame_index': self.frame_index,
            'objects': [
                {
                    'id': object_id,
                    'iou': None if math.isnan(iou) else round(iou, 4),
                    'segmentation': mask,
                }
                for object_id, mask, iou in objects
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Masks of one image, video or stream.

    Attributes:
        name: Of the input, and of the files that were written for it.
        size: Height and width.
        frames: One for an image; those from the first prompted one on for a video.
    """

    name: str
    size: tuple[int, int]
    frames: tuple[FrameResult, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Plain types, for json."""
        return {
            'name': self.name,
            'height': self.size[0],
            'width': self.size[1],
            'frames': [frame.as_json() for frame in self.frames],
        }


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
    rate = frames.frames_per_second if isinstance(frames, FileReader) else None
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
        with open_with_pillow(encoded) as opened:
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


FORMATS = ('png', 'json', 'npz')
MAX_PALETTE_ID = 255
# Largest id that a format holds: 16 bits of a PNG, 64 of an array.
MAX_IDS = {'png': 2**16 - 1, 'npz': 2**63 - 1}
VIS_FOLDER, PRED_FOLDER = 'vis', 'pred'
FRAME_FILE = re.compile(r'\d{5,}\.(png|npz)')


@dataclass(slots=True, kw_only=True)
class ResultFiles:
    """Where the masks and pictures of one input go, written as they come.

    ``vis/<name>.png`` or ``.mp4`` shows the masks over the input. ``pred/`` holds
    ``<name>.png`` or, of a video, ``<name>/<frame>.png``, ids as a palette PNG (of 16
    bits without palette beyond id 255; of overlapping objects the smallest);
    ``<name>.json``, COCO's run lengths; and ``.npz`` beside the PNG with ``masks``,
    ``object_ids`` and ``ious``.

    Masks that an earlier run wrote for an input of this name are removed before the
    first one is written: they may be of frames or formats that this run has not.

    Attributes:
        folder: Made where it is missing.
        name: Of the input.
        formats: Some of ``FORMATS``.
        frames_per_second: Of a video; None for an image.
        written: Files so far.
    """

    folder: Path
    name: str
    formats: Collection[str]
    frames_per_second: float | None = None
    written: list[Path] = field(default_factory=list)
    _open_files: ExitStack = field(default_factory=ExitStack)
    _video: VideoFile | None = None
    _has_masks: bool = False

    def __post_init__(self) -> None:
        """Check the formats."""
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown:
            msg = f'Unknown format {unknown[0]!r}; give some of {", ".join(FORMATS)}'
            raise ValueError(msg)

    def __enter__(self) -> 'ResultFiles':
        """Begin; files are made when there is something to write."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Finish the video, or leave nothing of it after a failure."""
        self._open_files.__exit__(*failure)  # type: ignore[arg-type]  # handed on

    def add_picture(self, picture: Picture) -> None:
        """Write an overlay, or append it to the video.

        Args:
            picture: RGB, (height, width, 3), both sides even.
        """
        stem = self.folder / VIS_FOLDER / self.name
        if self.frames_per_second is None:
            path = _with_ending(stem, '.png')
            write_png(path, picture)
            self.written.append(path)
            return
        if self._video is None:
            path = _with_ending(stem, '.mp4')
            opened = VideoFile(path, frames_per_second=self.frames_per_second)
            self._video = self._open_files.enter_context(opened)
            self.written.append(path)
        self._video.add(picture)

    def add_masks(self, frame: InferredFrame) -> None:
        """Write the masks of a frame."""
        if not self._has_masks:
            self._remove_earlier_masks()
            self._has_masks = True
        stem = self.folder / PRED_FOLDER / self.name
        if self.frames_per_second is not None:
            stem /= f'{frame.frame_index:05d}'
        if 'png' in self.formats:
            self._write_labels(_with_ending(stem, '.png'), frame)
        if 'npz' in self.formats:
            path = _with_ending(stem, '.npz')
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(
                path,
                masks=frame.masks,
                object_ids=np.array(frame.object_ids, dtype=np.int64),
                ious=np.array(frame.ious, dtype=np.float32),
            )
            self.written.append(path)

    def finish(self, result: InferenceResult) -> None:
        """Write what is known at the end alone."""
        if 'json' in self.formats:
            path = _with_ending(self.folder / PRED_FOLDER / self.name, '.json')
            write_atomically(path, json.dumps(result.as_json()))
            self.written.append(path)

    def _remove_earlier_masks(self) -> None:
        """Remove the masks of an earlier run for an input of this name."""
        stem = self.folder / PRED_FOLDER / self.name
        if self.frames_per_second is None:
            files = [_with_ending(stem, f'.{ending}') for ending in FORMATS]
        else:
            frames = stem.iterdir() if stem.is_dir() else ()
            files = [path for path in frames if FRAME_FILE.fullmatch(path.name)]
            files.append(_with_ending(stem, '.json'))
        files = [path for path in files if path.is_file()]
        for path in files:
            path.unlink()
        if files:
            msg = f'{self.name}: removed {len(files)} files of masks of an earlier run'
            print_log(f'{msg} from {stem.parent}', logger='current')

    def _write_labels(self, path: Path, frame: InferredFrame) -> None:
        """Write ids as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = frame.label_map()
        if labels.max(initial=0) > MAX_PALETTE_ID:
            image = Image.fromarray(labels)
        else:
            image = Image.fromarray(labels.astype(np.uint8)).convert('P')
            image.putpalette(davis_palette())
        image.save(path, compress_level=1)
        self.written.append(path)


def check_not_in_input(path: str | Path, folder: Path, name: str) -> None:
    """Check that the masks of an input do not replace the input itself.

    Raises:
        ValueError: If the input is a folder that its masks would be written to.
    """
    masks = folder / PRED_FOLDER / name
    if Path(path).expanduser().resolve() == masks.resolve():
        msg = f'The masks of {path} would replace its frames; give another out_dir'
        raise ValueError(msg)


def check_ids(object_ids: Iterable[int], formats: Collection[str]) -> None:
    """Check that files can hold the ids of objects, before there are masks.

    Args:
        formats: Some of ``FORMATS``.

    Raises:
        ValueError: If an id is too large for one of the formats.
    """
    largest = max(object_ids, default=0)
    small = [name for name in formats if largest > MAX_IDS.get(name, largest)]
    if small:
        fitting = [name for name in FORMATS if largest <= MAX_IDS.get(name, largest)]
        msg = (
            f'Object {largest} does not fit into {small[0]}, whose ids end at '
            f'{MAX_IDS[small[0]]}; write {" or ".join(fitting)}, or give smaller ids'
        )
        raise ValueError(msg)


def _with_ending(stem: Path, ending: str) -> Path:
    """Append an ending to a name that may hold dots itself."""
    return stem.with_name(stem.name + ending)


# Makes a picture of a frame of the input of a name.
FrameDrawer = Callable[[InferredFrame, str], Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is done with the frames of inputs.

    Attributes:
        folder: Pictures and masks are written here; None writes nothing.
        formats: Files of masks.
        draw: None draws nothing.
        keep_pictures: Pictures are returned.
    """

    folder: Path | None
    formats: Collection[str]
    draw: FrameDrawer | None
    keep_pictures: bool

    def take(
        self, frames: Iterator[InferredFrame], source: FileSource, name: str
    ) -> tuple[InferenceResult, list[Picture]]:
        """Take all frames of an input; Ctrl-C ends a stream, and keeps what came.

        Returns:
            The masks, and the pictures if they are to be kept.
        """
        kept: list[FrameResult] = []
        pictures: list[Picture] = []
        size = (0, 0)
        with self._files(source, name) or nullcontext() as files:
            try:
                for frame in frames:
                    size = (frame.pixels.shape[0], frame.pixels.shape[1])
                    self._take_one(frame, files, name, pictures)
                    kept.append(frame.packed())
            except KeyboardInterrupt:
                if not isinstance(source, StreamInput):
                    raise
                print_log(f'{name}: stopped', logger='current')
            result = InferenceResult(name=name, size=size, frames=tuple(kept))
            if files is not None:
                files.finish(result)
        return result, pictures

    def _take_one(
        self,
        frame: InferredFrame,
        files: ResultFiles | None,
        name: str,
        pictures: list[Picture],
    ) -> None:
        """Draw and write a frame."""
        if files is not None:
            files.add_masks(frame)
        if self.draw is None:
            return
        picture = self.draw(frame, name)
        if files is not None:
            files.add_picture(picture)
        if self.keep_pictures:
            pictures.append(picture)

    def _files(self, source: FileSource, name: str) -> ResultFiles | None:
        """Files of an input."""
        if self.folder is None:
            return None
        rate = None if isinstance(source, ImageInput) else source.frames_per_second
        return ResultFiles(
            folder=self.folder,
            name=name,
            formats=self.formats,
            frames_per_second=rate,
        )
