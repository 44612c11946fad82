"""Inputs and outputs of the inferencer.

:func:`open_input` opens a file, a folder, an address, a camera or an array as an image,
a video or a stream. Results are records of masks; :class:`ResultFiles` writes files of
masks and overlays.
"""

import io
import json
import math
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import mmengine.fileio
import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..datasets.io.errors import DEFAULT_LIMITS, ClipDataError, read_bytes
from ..datasets.io.images import (
    DAMAGES,
    bits_per_channel,
    check_header,
    check_scans,
    open_with_pillow,
)
from ..datasets.io.listing import IMAGE_SUFFIXES, scan_folder
from ..datasets.processing.davis_export import write_mask
from ..ops import EncodedMask, encode_masks, write_atomically
from ..ops.fetching import FetchError, fetch
from ..structures import PromptMark
from ..visualization import VideoFile
from ..visualization.clip_visualizer import write_png
from ..visualization.drawing import Picture
from ..visualization.video_file import FRAMES_PER_SECOND
from .frame_readers import FileReader, FrameReader, open_frames
from .inputs import read_image

# A path, an address, the number of a camera, an image or frames of a video.
InferenceInput = str | Path | int | NDArray[np.uint8]

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
STREAM_SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'udp', 'tcp')
DOWNLOAD_SECONDS = 1800.0
DEEP_MODES = ('I;16', 'I;16B', 'I;16L', 'I', 'F')

FORMATS = ('png', 'json', 'npz')
MAX_IDS = {'png': 2**16 - 1, 'npz': 2**63 - 1}  # that a format can store
MAX_PALETTE_ID = 255

# ----------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """Masks of one image or frame.

    Attributes:
        frame_index: Position in the video; 0 for an image.
        object_ids: Id of each mask.
        masks: COCO run lengths; ``pycocotools.mask.decode`` reads them.
        ious: The model's estimates of their IoU; NaN if there is no estimate.
        categories: Name of the class of each object, ``''`` for none; empty if no
            object has one.
        scores: How certain a detector is of each object; empty without a detector.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: tuple[EncodedMask, ...]
    ious: tuple[float, ...]
    categories: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    def as_json(self) -> Mapping[str, Any]:
        """Convert to plain types."""
        columns: dict[str, Iterable[Any]] = {'id': self.object_ids}
        if self.categories:
            columns['category'] = self.categories
        if self.scores:
            columns['score'] = [round(score, 4) for score in self.scores]
        columns['iou'] = [None if math.isnan(i) else round(i, 4) for i in self.ious]
        columns['segmentation'] = self.masks
        return {
            'frame_index': self.frame_index,
            'objects': [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Masks of one image, video or stream.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import ObjectPrompt, SAM2Inferencer
        >>> inferencer = SAM2Inferencer(
        ...     model='_base_/models/sam2_1_mini.py', device='cpu', show_progress=False
        ... )
        >>> image = np.zeros((96, 128, 3), np.uint8)
        >>> prompts = [ObjectPrompt(box=(20, 10, 90, 80))]
        >>> (result,) = inferencer(image, prompts=prompts)['predictions']
        >>> result.size, result.frames[0].object_ids, len(result.frames[0].masks)
        ((96, 128), (1,), 1)

    Attributes:
        name: Name of the input and of the files that were written for it.
        size: Height and width.
        frames: One frame for an image; for a video those from the first prompted one.
    """

    name: str
    size: tuple[int, int]
    frames: tuple[FrameResult, ...]

    def as_json(self) -> Mapping[str, Any]:
        """Convert to plain types."""
        return {
            'name': self.name,
            'height': self.size[0],
            'width': self.size[1],
            'frames': [frame.as_json() for frame in self.frames],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredFrame:
    """One image or frame with its masks, before it is drawn, written and encoded.

    Attributes:
        frame_index: Position in the video; 0 for an image.
        pixels: (height, width, 3), RGB.
        object_ids: Id of each mask.
        masks: (O, height, width), bool; they may overlap.
        ious: The model's estimates of their IoU; NaN if there is no estimate.
        marks: Prompts on this frame.
        categories: As for :class:`FrameResult`, like the scores.
        scores: How certain a detector is of each object.
    """

    frame_index: int
    pixels: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    ious: tuple[float, ...]
    marks: tuple[PromptMark, ...] = ()
    categories: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    def encoded(self) -> FrameResult:
        """The result without pixels, with run-length encoded masks."""
        return FrameResult(
            frame_index=self.frame_index,
            object_ids=self.object_ids,
            masks=tuple(encode_masks(self.masks)) if self.object_ids else (),
            ious=self.ious,
            categories=self.categories,
            scores=self.scores,
        )

    def label_map(self) -> NDArray[np.uint16]:
        """Object id of each pixel, (height, width); smaller objects lie on top."""
        labels = np.zeros(self.masks.shape[1:], dtype=np.uint16)
        areas = self.masks.sum(axis=(1, 2))
        for row in np.argsort(-areas, kind='stable'):
            labels[self.masks[row]] = self.object_ids[row]
        return labels


# ------------------------------------------------------------------------ inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """An image, (height, width, 3), RGB."""

    name: str
    pixels: NDArray[np.uint8]
    frames_per_second: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInput:
    """A video whose frames can be read in any order."""

    name: str
    frames: FrameReader
    frames_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInput:
    """Frames (height, width, 3), RGB, that arrive one after another."""

    name: str
    frames: Iterator[NDArray[np.uint8]]
    frames_per_second: float


InferenceSource = ImageInput | VideoInput | StreamInput


def list_inputs(
    inputs: InferenceInput | list[InferenceInput], *, folder_is_video: bool
) -> list[InferenceInput]:
    """Flatten lists of inputs, and folders of images.

    Raises:
        ValueError: If a folder holds no image, or there is no input.
    """
    if isinstance(inputs, list | tuple):
        if not inputs:
            msg = 'The list of inputs is empty; give at least one'
            raise ValueError(msg)
        parts = [list_inputs(item, folder_is_video=folder_is_video) for item in inputs]
        return [item for part in parts for item in part]
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


@contextmanager
def open_input(item: object, *, default_name: str) -> Iterator[InferenceSource]:
    """Open an input as an image, a video or a stream.

    Args:
        item: An input as :func:`list_inputs` returns it.
        default_name: Name of an input that has none.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it cannot be read as an image, a video or a stream.
        TypeError: If it is none of these types.
    """
    if isinstance(item, np.ndarray):
        yield _from_array(item, default_name)
    elif isinstance(item, int):
        yield _open_stream(item, f'camera_{item}')
    elif not isinstance(item, str | Path):
        msg = (
            f'{type(item).__name__} is no input; give a path, an address, the number '
            f'of a camera, or an array'
        )
        raise TypeError(msg)
    elif str(item).isdecimal() and not Path(item).exists():
        yield _open_stream(int(str(item)), f'camera_{item}')
    elif '://' not in str(item):  # names of files may hold colons
        path = Path(item).expanduser()
        if not path.exists():
            msg = f'{path}: there is no such file or folder; check the path'
            raise FileNotFoundError(msg)
        if path.is_dir():
            yield _open_video(path, path.resolve().name)
        else:
            yield _open_file(path, path.stem, path.suffix)
    else:
        url = str(item)
        address = urlsplit(url)
        path = Path(address.path)
        name = path.stem or default_name
        if address.scheme in STREAM_SCHEMES:
            yield _open_stream(url, name)
        else:
            with _local_copy(url, address.scheme) as copy:
                try:
                    source = _open_file(copy, name, path.suffix)
                except ValueError as error:
                    raise ValueError(str(error).replace(str(copy), url)) from error
                yield source


def _from_array(array: NDArray[np.uint8], name: str) -> ImageInput | VideoInput:
    if array.ndim != 4:
        return ImageInput(name=name, pixels=read_image(array, name='The image'))
    return VideoInput(
        name=name, frames=open_frames(array), frames_per_second=FRAMES_PER_SECOND
    )


def _open_file(path: Path, name: str, suffix: str) -> ImageInput | VideoInput:
    if suffix.lower() in VIDEO_SUFFIXES:
        return _open_video(path, name)
    return ImageInput(name=name, pixels=_decode_image(path))


def _open_video(path: Path, name: str) -> VideoInput:
    """Open a video file, or a folder of frames."""
    frames = open_frames(path)
    rate = frames.frames_per_second if isinstance(frames, FileReader) else None
    return VideoInput(
        name=name, frames=frames, frames_per_second=rate or FRAMES_PER_SECOND
    )


def _decode_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image as 8-bit RGB, rotated as its EXIF data says."""
    try:
        encoded = read_bytes(path)
        check_scans(encoded, path)
        check_header(io.BytesIO(encoded), path)
    except ClipDataError as error:
        raise _no_image(path, error.problem.removeprefix(f'{path}: ')) from error
    try:
        with open_with_pillow(encoded) as image:
            mode, num_bits = image.mode, bits_per_channel(image)
            is_deep = mode in DEEP_MODES or num_bits > 8
            if not is_deep:
                ImageOps.exif_transpose(image, in_place=True)
                # Converting RGB to RGB would copy the image.
                return np.array(image if mode == 'RGB' else image.convert('RGB'))
    except DAMAGES as error:
        raise _no_image(path, str(error)) from error
    msg = (
        f'{path} has mode {mode!r} of {num_bits} bits; scale it to 8 bits first, '
        f'as (pixels * (255 / 4095)).astype(np.uint8) if 4095 is white'
    )
    raise ValueError(msg)


def _no_image(path: Path, problem: str) -> ValueError:
    return ValueError(
        f'{path} is not an image ({problem}); give one of '
        f'{", ".join(IMAGE_SUFFIXES)}, or a video of {", ".join(VIDEO_SUFFIXES)}'
    )


@contextmanager
def _local_copy(url: str, scheme: str) -> Iterator[Path]:
    """Fetch a file over HTTP, or with MMEngine's file backend for the scheme."""
    with ExitStack() as stack:
        try:
            if scheme in {'http', 'https'}:
                folder = tempfile.TemporaryDirectory(prefix='sam2_')
                copy = Path(stack.enter_context(folder)) / 'download'
                max_bytes = DEFAULT_LIMITS.max_file_size
                fetch(url, copy, max_bytes=max_bytes, max_seconds=DOWNLOAD_SECONDS)
            else:
                copy = Path(stack.enter_context(mmengine.fileio.get_local_path(url)))
        except FetchError as error:
            raise ValueError(str(error)) from error
        except KeyError as error:
            msg = (
                f'{url}: addresses of {error} cannot be read; give one of http or https'
            )
            raise ValueError(msg) from error
        except (OSError, ValueError) as error:
            msg = f'{url} cannot be fetched ({error}); check the address'
            raise ValueError(msg) from error
        yield copy


def _open_stream(device: int | str, name: str) -> StreamInput:
    """Open a camera or a live address."""
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        capture.release()
        kind = 'camera' if isinstance(device, int) else 'stream'
        msg = f'There is no {kind} {device}; check that it is on and not in use'
        raise ValueError(msg)
    return StreamInput(
        name=name,
        frames=_captured_frames(capture),
        frames_per_second=capture.get(cv2.CAP_PROP_FPS) or FRAMES_PER_SECOND,
    )


def _captured_frames(capture: cv2.VideoCapture) -> Iterator[NDArray[np.uint8]]:
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                return
            yield np.ascontiguousarray(frame[..., ::-1], dtype=np.uint8)
    finally:
        capture.release()


# ----------------------------------------------------------------------- outputs


class ResultFiles:
    """Writes the masks and overlays of one input, frame by frame, in a ``with`` block.

    ``vis/<name>.png`` or, for a video of more than one frame, ``.mp4`` shows the masks
    over the input. ``pred/`` holds
    ``<name>.png`` or, for a video, ``<name>/<frame>.png`` with object ids: a palette
    PNG, or one of 16 bits for ids above 255 (smaller objects lie on top);
    ``<name>.json``, COCO run lengths; and ``.npz`` beside the PNG with ``masks``,
    ``object_ids`` and ``ious``. Classes and scores of objects, where there are any, are
    in ``category`` and ``score`` of the json, ``categories`` and ``scores`` of the npz.

    Masks that an earlier run wrote for an input of this name are removed before the
    first one is written, since they may be of other frames or formats.

    Args:
        folder: Output folder; created if it is missing.
        name: Name of the input.
        formats: Names from ``FORMATS``.
        frames_per_second: Frame rate of a video; None for an image.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        formats: Collection[str],
        *,
        frames_per_second: float | None = None,
    ) -> None:
        self._masks, self._overlays = folder / 'pred' / name, folder / 'vis' / name
        self._formats = formats
        self._frames_per_second = frames_per_second
        self._open_files = ExitStack()
        self._still: Picture | None = None  # the only frame of a video so far
        self._video: VideoFile | None = None
        self._has_masks = False

    def __enter__(self) -> 'ResultFiles':
        return self

    def __exit__(self, *failure: object) -> None:
        """Finish the video, or remove it after a failure."""
        self._open_files.__exit__(*failure)  # type: ignore[arg-type]  # passed on
        if self._still is not None and self._video is None and failure[0] is None:
            write_png(_with_ending(self._overlays, '.png'), self._still)
            # Of an earlier run for more frames.
            _with_ending(self._overlays, '.mp4').unlink(missing_ok=True)

    def add_overlay(self, picture: Picture) -> None:
        """Write an overlay, (height, width, 3), RGB, or append it to the video.

        The first frame of a video is kept until the second one comes: a video of one
        frame becomes a PNG.
        """
        if self._frames_per_second is None:
            write_png(_with_ending(self._overlays, '.png'), picture)
            return
        if self._still is None:
            self._still = picture
            return
        if self._video is None:
            self._video = self._open_files.enter_context(
                VideoFile(
                    _with_ending(self._overlays, '.mp4'),
                    frames_per_second=self._frames_per_second,
                )
            )
            self._video.add(self._still)
        self._video.add(picture)

    def add_masks(self, frame: InferredFrame) -> None:
        """Write the masks of a frame."""
        if not self._has_masks:
            self._remove_earlier_masks()
            self._has_masks = True
        stem = self._masks
        if self._frames_per_second is not None:
            stem /= f'{frame.frame_index:05d}'
        if {'png', 'npz'} & set(self._formats):
            stem.parent.mkdir(parents=True, exist_ok=True)
        if 'png' in self._formats:
            path, labels = _with_ending(stem, '.png'), frame.label_map()
            if labels.max(initial=0) > MAX_PALETTE_ID:
                Image.fromarray(labels).save(path, compress_level=1)
            else:
                write_mask(path, labels.astype(np.uint8))
        if 'npz' in self._formats:
            arrays: dict[str, Any] = {
                'masks': frame.masks,
                'object_ids': np.array(frame.object_ids, dtype=np.int64),
                'ious': np.array(frame.ious, dtype=np.float32),
            }
            if frame.categories:
                arrays['categories'] = np.array(frame.categories, dtype=np.str_)
            if frame.scores:
                arrays['scores'] = np.array(frame.scores, dtype=np.float32)
            np.savez_compressed(_with_ending(stem, '.npz'), **arrays)

    def finish(self, result: InferenceResult) -> None:
        """Write the result as json."""
        if 'json' in self._formats:
            path = _with_ending(self._masks, '.json')
            write_atomically(path, json.dumps(result.as_json()))

    def _remove_earlier_masks(self) -> None:
        if self._frames_per_second is None:
            files = [_with_ending(self._masks, f'.{ending}') for ending in FORMATS]
        else:
            frames = self._masks.iterdir() if self._masks.is_dir() else ()
            is_frame = re.compile(r'\d{5,}\.(png|npz)').fullmatch
            files = [path for path in frames if is_frame(path.name)]
            files.append(_with_ending(self._masks, '.json'))
        files = [path for path in files if path.is_file()]
        for path in files:
            path.unlink()
        if files:
            msg = (
                f'{self._masks.name}: removed {len(files)} files of masks of an '
                f'earlier run from {self._masks.parent}'
            )
            print_log(msg, logger='current')


def check_formats(formats: Collection[str], object_ids: Iterable[int]) -> None:
    """Check that the formats of mask files can store the ids of objects.

    Raises:
        ValueError: If a format is unknown, or cannot store an id.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        msg = f'Unknown format {unknown[0]!r}; give some of {", ".join(FORMATS)}'
        raise ValueError(msg)
    largest = max(object_ids, default=0)
    too_small = [name for name in formats if largest > MAX_IDS.get(name, largest)]
    if too_small:
        name = too_small[0]
        fitting = [other for other in FORMATS if largest <= MAX_IDS.get(other, largest)]
        msg = (
            f'Object {largest} does not fit into {name}, whose ids end at '
            f'{MAX_IDS[name]}; write {" or ".join(fitting)}, or give smaller ids'
        )
        raise ValueError(msg)


def check_not_in_input(path: str | Path, folder: Path, name: str) -> None:
    """Check that the masks of an input do not replace the input itself.

    Raises:
        ValueError: If the input is the folder that its masks would be written to.
    """
    if Path(path).expanduser().resolve() == (folder / 'pred' / name).resolve():
        msg = f'The masks of {path} would replace its frames; give another out_dir'
        raise ValueError(msg)


def _with_ending(stem: Path, ending: str) -> Path:
    """Append an ending to a name that may contain dots itself."""
    return stem.with_name(stem.name + ending)
