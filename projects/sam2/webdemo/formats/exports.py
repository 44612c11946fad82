"""Write the masks of sessions as data sets and as files of other annotation tools.

Only frames with a mask in the session are written as annotated: on the others nobody
said that there is nothing. Frames that cannot be read are left out. Masks are read and
written one frame or one object at a time, so that a long video needs no more memory
than a short one.
"""

import base64
import json
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TextIO

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from ...datasets.io.images import image_size, read_orientation, write_jpeg
from ...datasets.io.listing import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    find_file,
    is_hidden,
)
from ...datasets.processing.davis_export import (
    FRAME_FOLDER,
    MASK_FOLDER,
    MAX_OBJECTS,
    META_FILE,
    write_mask,
)
from ...ops import EncodedMask, count_encoded_pixels, decode_masks
from ...version import __version__
from ..session.document import AnnotatedObject, Document
from ..session.video import AnnotatedVideo
from .cvat import XMLFile, encode_cvat_mask
from .polygons import crop_to_mask, mask_polygons

EXPORT_FORMATS: Mapping[str, str] = {
    'davis': 'DAVIS: one palette PNG per frame (where objects overlap, the later one)',
    'masks': 'Masks: one PNG per object and frame',
    'coco': 'COCO, masks as run lengths',
    'coco_polygons': 'COCO, masks as polygons',
    'youtube_vis': 'YouTube-VIS',
    'labelme': 'LabelMe, masks',
    'labelme_polygons': 'LabelMe, polygons',
    'sav': 'SA-V',
    'cvat': 'CVAT for video 1.1, masks',
    'cvat_polygons': 'CVAT for video 1.1, tracks of polygons',
    'cvat_images': 'CVAT for images 1.1, masks',
}
NO_CATEGORY = 'object'  # of objects without a class, in formats that need one
FRAME_QUALITY = 95  # of JPEG
IMAGE_FOLDER = 'images'
SAV_FRAME_RATE = 24.0  # SA-V's; as the rate of annotations it means every frame
# Not allowed in names of files on some systems, or with a meaning in paths.
UNSAFE_CHARACTERS = '<>:"/\\|?*'
MAX_NAME_BYTES = 120

# Called with the share that is done, 0 to 1. What it raises cancels the export.
Progress = Callable[[float], None]


class MaskOnFrame(Protocol):
    """A mask of one object: a ``FrameMask`` of the annotator."""

    @property
    def object_id(self) -> int:
        """Its object."""

    @property
    def code(self) -> EncodedMask:
        """The mask, at the size of the frame."""


class AnnotatedView(Protocol):
    """What is exported: an open session, or a copy of it."""

    @property
    def video(self) -> AnnotatedVideo:
        """The frames."""

    @property
    def document(self) -> Document:
        """The objects."""

    def masks(self, frame_index: int) -> Sequence[MaskOnFrame]:
        """Masks of a frame; an empty one says that the object is not visible."""

    def mask(self, object_id: int, frame_index: int) -> MaskOnFrame | None:
        """Mask of one object; None if nothing is known."""


def export_annotations(
    views: AnnotatedView | Sequence[AnnotatedView],
    target: Path,
    format_name: str,
    progress: Progress,
    *,
    with_frames: bool = True,
) -> None:
    """Export sessions into a folder.

    Args:
        views: One session, or several for one data set.
        target: New or empty folder. It appears when it is complete.
        format_name: A name of :data:`EXPORT_FORMATS`.
        progress: Called after each frame; what it raises cancels.
        with_frames: Whether to write the frames of videos and the images as well, which
            training needs. CVAT's files never have them.

    Raises:
        ValueError: If the format is unknown or cannot hold the masks, or there is no
            mask.
        OSError: If a file cannot be written.
    """
    if format_name not in EXPORT_FORMATS:
        msg = f'{format_name!r} is no format; give one of {", ".join(EXPORT_FORMATS)}'
        raise ValueError(msg)
    sessions = list(views) if isinstance(views, Sequence) else [views]
    clips = _find_clips(sessions)
    if not clips:
        names = ', '.join(view.video.name for view in sessions) or 'no session'
        msg = f'{names}: there is no mask to export; annotate a frame first'
        raise ValueError(msg)
    polygons = format_name.endswith('_polygons')
    with _complete_folder(target) as folder:
        writers: dict[str, Callable[[], Iterator[float]]] = {
            'davis': lambda: _write_davis(clips, folder, with_frames),
            'masks': lambda: _write_object_folders(clips, folder, with_frames),
            'coco': lambda: _write_coco(clips, folder, with_frames, polygons),
            'youtube_vis': lambda: _write_youtube_vis(clips, folder, with_frames),
            'labelme': lambda: _write_labelme(clips, folder, with_frames, polygons),
            'sav': lambda: _write_sav(clips, folder, with_frames),
            'cvat': lambda: _write_cvat_tracks(clips, folder, polygons),
            'cvat_images': lambda: _write_cvat_images(clips, folder),
        }
        for share in writers[format_name.removesuffix('_polygons')]():
            progress(min(share, 1.0))
        progress(1.0)


# What is exported --------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Clip:
    """A video, or one still as a video of one frame.

    Attributes:
        view: Its session.
        name: Name of its folder or file; no other clip of the export has it.
        objects: Those with a mask on any of its frames by id, in the order of creation.
        annotated: Frames of the session with at least one mask.
        broken: Frames that cannot be read: those of the session, and those that are
            found while they are written.
    """

    view: AnnotatedView
    name: str
    objects: Mapping[int, AnnotatedObject]
    annotated: tuple[int, ...]
    broken: set[int]

    @property
    def is_still(self) -> bool:
        """Whether it is a single image."""
        return self.view.video.kind == 'images'

    @property
    def frames(self) -> range:
        """Frames from the first annotated one to the last."""
        return range(self.annotated[0], self.annotated[-1] + 1)

    def stem(self, frame_index: int) -> str:
        """Name of a frame in a folder of the clip."""
        if self.is_still:
            return '00000'
        return _safe_name(self.view.video.frame_name(frame_index))

    def masks(self, frame_index: int) -> dict[int, EncodedMask]:
        """Masks of a frame by object, in the order of creation, empty ones too."""
        if frame_index in self.broken:
            return {}
        codes = {mask.object_id: mask.code for mask in self.view.masks(frame_index)}
        return {key: codes[key] for key in self.objects if key in codes}

    def visible(self, frame_index: int) -> dict[int, EncodedMask]:
        """Masks with a pixel, in the order of creation."""
        return {
            key: code
            for key, code in self.masks(frame_index).items()
            if count_encoded_pixels(code)
        }

    def write_frame(self, frame_index: int, stem: Path, *, only_jpeg: bool) -> str:
        """Copy or encode a frame.

        Args:
            stem: Path without suffix.
            only_jpeg: Whether other formats than JPEG are converted.

        Returns:
            Name of the file; '' if the frame cannot be read.
        """
        video = self.view.video
        try:
            frame = video.read(frame_index)  # in any case: refuses damaged files
        except ValueError:
            self.broken.add(frame_index)
            return ''
        path = stored_image(video, frame_index)
        suffix = '.jpg' if path is None else path.suffix.lower()
        if path is not None and (suffix in JPEG_SUFFIXES or not only_jpeg):
            file = stem.with_name(stem.name + suffix)
            shutil.copyfile(path, file)
            return file.name
        file = stem.with_name(f'{stem.name}.jpg')
        write_jpeg(file, frame, FRAME_QUALITY)
        return file.name

    def file_name(self, frame_index: int) -> str:
        """Name that the file of a frame has if it is not written."""
        path = stored_image(self.view.video, frame_index)
        suffix = '.jpg' if path is None else path.suffix.lower()
        name = self.name if self.is_still else self.stem(frame_index)
        return name + suffix


def _find_clips(views: Sequence[AnnotatedView]) -> list[Clip]:
    clips: list[Clip] = []
    taken: set[str] = set()
    for view in views:
        video = view.video
        broken = set(view.document.broken_frames)
        known = {
            index: {mask.object_id for mask in view.masks(index)}
            for index in range(video.num_frames)
            if index not in broken
        }
        annotated = tuple(index for index, keys in known.items() if keys)
        groups = [annotated] if video.kind == 'video' else [(i,) for i in annotated]
        for frames in filter(None, groups):
            is_still = video.kind == 'images'
            name = video.frame_name(frames[0]) if is_still else video.name
            keys = set[int]().union(*(known[index] for index in frames))
            clip = Clip(
                view=view,
                name=_unique(_safe_name(name), taken),
                objects=_objects(view, keys),
                annotated=frames,
                broken=set(broken),
            )
            clips.append(clip)
    return clips


def _objects(view: AnnotatedView, keys: set[int]) -> dict[int, AnnotatedObject]:
    """Some objects of a session, with names that any file can hold."""
    return {
        key: replace(obj, name=_unicode(obj.name), category=_unicode(obj.category))
        for key, obj in view.document.objects.items()
        if key in keys
    }


def _unicode(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 cannot hold."""
    return text.encode('utf-8', 'replace').decode()


def _safe_name(name: str) -> str:
    """Make a name that is one file or folder on every system."""
    name = unicodedata.normalize('NFC', name)
    safe = ''.join(
        '_' if char in UNSAFE_CHARACTERS or not char.isprintable() else char
        for char in name
    )
    encoded = _unicode(safe).encode()[:MAX_NAME_BYTES]
    safe = encoded.decode('utf-8', 'ignore').strip(' .')
    return f'_{safe}' if not safe or is_hidden(safe) else safe


def _unique(name: str, taken: set[str]) -> str:
    """Number a name that is taken already; upper and lower case are not told apart."""
    unique, number = name, 2
    while unique.casefold() in taken:
        unique, number = f'{name}_{number}', number + 1
    taken.add(unique.casefold())
    return unique


def stored_image(video: AnnotatedVideo, frame_index: int) -> Path | None:
    """Find the file of a frame that is an image as it is shown.

    Returns:
        None for a frame of a video file, and for an image that other programs would
        rotate by its Exif orientation.
    """
    path = video.path
    try:
        if path.is_dir():
            name = video.frame_name(frame_index)
            path = path / name
            if not path.is_file():
                path = find_file(path, IMAGE_SUFFIXES)
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            return None
        with path.open('rb') as file:
            is_upright = read_orientation(file, path) == 1
        is_same = is_upright and image_size(path) == video.size(frame_index)
    except (ValueError, OSError):
        return None
    return path if is_same else None


# DAVIS and one PNG per object --------------------------------------------------------


def _write_davis(
    clips: Sequence[Clip], root: Path, with_frames: bool
) -> Iterator[float]:
    """Label images: the label is the position of the object in its session, from 1."""
    for clip in clips:
        if len(clip.objects) > MAX_OBJECTS:
            msg = (
                f'{clip.name} has {len(clip.objects)} objects, but a palette PNG holds '
                f'{MAX_OBJECTS}; export masks, COCO or SA-V instead'
            )
            raise ValueError(msg)
    videos: dict[str, Any] = {}
    for clip, frames in _with_progress(clips, root, with_frames):
        folder = _new_folder(root / MASK_FOLDER / clip.name)
        label_of = {key: n for n, key in enumerate(clip.objects, start=1)}
        seen: dict[int, list[str]] = {key: [] for key in label_of}
        for index, share in frames:
            codes = clip.masks(index)
            if codes:
                labels = np.zeros(clip.view.video.size(index), np.uint8)
                for key, code in codes.items():
                    mask = decode_masks([code])[0]
                    labels[mask] = label_of[key]
                    if mask.any():
                        seen[key].append(clip.stem(index))
                write_mask(folder / f'{clip.stem(index)}.png', labels)
            yield share
        videos[clip.name] = _meta(clip, label_of, seen)
    _write_meta(root, videos)


def _write_object_folders(
    clips: Sequence[Clip], root: Path, with_frames: bool
) -> Iterator[float]:
    """SA-V's validation layout: a folder for each object, numbered from 0."""
    videos: dict[str, Any] = {}
    for clip, frames in _with_progress(clips, root, with_frames):
        label_of = {key: n for n, key in enumerate(clip.objects)}
        seen: dict[int, list[str]] = {key: [] for key in label_of}
        for index, share in frames:
            for key, code in clip.masks(index).items():
                folder = root / MASK_FOLDER / clip.name / f'{label_of[key]:03d}'
                folder.mkdir(parents=True, exist_ok=True)
                mask = decode_masks([code])[0]
                image = Image.fromarray(mask.astype(np.uint8) * 255)
                image.save(folder / f'{clip.stem(index)}.png', compress_level=1)
                if mask.any():
                    seen[key].append(clip.stem(index))
            yield share
        videos[clip.name] = _meta(clip, label_of, seen)
    _write_meta(root, videos)


def _with_progress(
    clips: Sequence[Clip], root: Path, with_frames: bool
) -> Iterator[tuple[Clip, Iterator[tuple[int, float]]]]:
    """Write the frames of each clip as JPEG; give the readable ones and the share."""
    total, done = sum(len(clip.frames) for clip in clips), 0

    def frames_of(clip: Clip) -> Iterator[tuple[int, float]]:
        nonlocal done
        folder = root / FRAME_FOLDER / clip.name
        if with_frames:
            _new_folder(folder)
        for index in clip.frames:
            done += 1
            path = folder / clip.stem(index)
            if not with_frames or clip.write_frame(index, path, only_jpeg=True):
                yield index, done / total
        _check_readable(clip)

    for clip in clips:
        yield clip, frames_of(clip)


def _check_readable(clip: Clip) -> None:
    if clip.broken.issuperset(clip.annotated):
        msg = (
            f'{clip.view.video.path}: none of the {len(clip.annotated)} annotated '
            f'frames can be read; check whether the file is still there'
        )
        raise ValueError(msg)


def _meta(
    clip: Clip, label_of: Mapping[int, int], seen: Mapping[int, list[str]]
) -> dict[str, Any]:
    """Entry of ``meta.json``, the one of YouTube-VOS and MOSE with some fields more."""
    return {
        'objects': {
            str(label_of[obj.object_id]): {
                'category': obj.category or NO_CATEGORY,
                'name': obj.name,
                'color': obj.color,
                'object_id': obj.object_id,
                'frames': seen[obj.object_id],
            }
            for obj in clip.objects.values()
        }
    }


def _write_meta(root: Path, videos: Mapping[str, Any]) -> None:
    names = ''.join(f'{name}\n' for name in videos)
    (_new_folder(root / 'ImageSets') / 'train.txt').write_text(names, 'utf-8')
    (root / META_FILE).write_bytes(orjson.dumps({'videos': videos}))


def _new_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


# COCO --------------------------------------------------------------------------------


def _write_coco(
    clips: Sequence[Clip], root: Path, with_frames: bool, polygons: bool
) -> Iterator[float]:
    """Images and instances; ``track_id`` tells which annotations are one object."""
    folder = _new_folder(root / IMAGE_FOLDER)
    category_of = _category_ids(clips)
    track_ids = _track_ids(clips)
    total, done = sum(len(clip.annotated) for clip in clips), 0
    path = root / 'annotations' / 'instances.json'
    with (
        _json_file(path) as file,
        tempfile.TemporaryFile('w+', encoding='utf-8', dir=root) as images_file,
    ):
        # Images are known as their frames are written; a file has one open list.
        annotations, images = _JSONList(file), _JSONList(images_file)
        file.write('{')
        _write_fields(file, {'info': _info(), 'licenses': [], **_categories(clips)})
        file.write('"annotations":[\n')
        for image_id, (clip, index) in enumerate(_pairs(clips), start=1):
            done += 1
            name = _place_image(clip, index, folder, with_frames)
            if name:
                image = {
                    'id': image_id,
                    'file_name': name,
                    **_height_width(clip, index),
                    'frame_index': index,
                    'license': 0,
                }
                images.append(image)
                for key, code in clip.visible(index).items():
                    obj = clip.objects[key]
                    annotation = {
                        'id': annotations.num_elements + 1,
                        'image_id': image_id,
                        'category_id': category_of[obj.category or NO_CATEGORY],
                        'segmentation': _segmentation(code, polygons),
                        'area': count_encoded_pixels(code),
                        'bbox': _bbox(code),
                        'iscrowd': 0,
                        'track_id': track_ids[id(clip.view), key],
                        'name': obj.name,
                        'color': obj.color,
                    }
                    annotations.append(annotation)
            yield done / total
        file.write('],\n"images":[\n')
        images_file.seek(0)
        shutil.copyfileobj(images_file, file)
        file.write(']}\n')
    for clip in clips:
        _check_readable(clip)


def _place_image(clip: Clip, index: int, folder: Path, with_frames: bool) -> str:
    """Write an image; its name relative to the folder, '' if it cannot be read."""
    parent = '' if clip.is_still else f'{clip.name}/'
    if not with_frames:
        return parent + clip.file_name(index)
    (folder / parent).mkdir(exist_ok=True)
    stem = clip.name if clip.is_still else clip.stem(index)
    name = clip.write_frame(index, folder / parent / stem, only_jpeg=False)
    return name and parent + name


def _segmentation(code: EncodedMask, polygons: bool) -> object:
    return mask_polygons(decode_masks([code])[0]) if polygons else code


def _bbox(code: EncodedMask) -> list[float]:
    """Left, top, width, height."""
    # Compiled, and needed for boxes only.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    box = coco_mask.toBbox(code)  # type: ignore[no-untyped-call]  # a C module
    left, top, width, height = box.tolist()
    return [left, top, width, height]


def _height_width(clip: Clip, index: int) -> dict[str, int]:
    height, width = clip.view.video.size(index)
    return {'height': height, 'width': width}


def _category_ids(clips: Sequence[Clip]) -> dict[str, int]:
    """Ids from 1 of the categories: those of the sessions, in their order."""
    names: dict[str, None] = {}
    for clip in clips:
        names |= dict.fromkeys(map(_unicode, clip.view.document.categories))
        names |= dict.fromkeys(
            obj.category or NO_CATEGORY for obj in clip.objects.values()
        )
    return {name: number for number, name in enumerate(names, start=1)}


def _categories(clips: Sequence[Clip]) -> dict[str, object]:
    categories = [
        {'id': number, 'name': name, 'supercategory': ''}
        for name, number in _category_ids(clips).items()
    ]
    return {'categories': categories}


def _track_ids(clips: Sequence[Clip]) -> dict[tuple[int, int], int]:
    """Number for each object of each session; its own id if there is one session."""
    views = {id(clip.view): clip.view for clip in clips}
    keys = [
        (view_id, key) for view_id, v in views.items() for key in v.document.objects
    ]
    if len(views) == 1:
        return {pair: pair[1] for pair in keys}
    return {pair: number for number, pair in enumerate(keys, start=1)}


def _pairs(clips: Sequence[Clip]) -> Iterator[tuple[Clip, int]]:
    for clip in clips:
        for index in clip.annotated:
            yield clip, index


def _info() -> dict[str, object]:
    now = datetime.now(timezone.utc)
    return {
        'description': f'Annotated with mmsam2 {__version__}',
        'version': '1.0',
        'year': now.year,
        'date_created': now.isoformat(timespec='seconds'),
    }


# YouTube-VIS -------------------------------------------------------------------------


def _write_youtube_vis(
    clips: Sequence[Clip], root: Path, with_frames: bool
) -> Iterator[float]:
    """The annotated frames of each clip are a video; null where no object is seen."""
    category_of = _category_ids(clips)
    total = sum(len(clip.annotated) * (1 + len(clip.objects)) for clip in clips)
    done = 0
    indices_of: list[list[int]] = []
    videos: list[dict[str, object]] = []
    for video_id, clip in enumerate(clips, start=1):
        folder = root / FRAME_FOLDER / clip.name
        if with_frames:
            _new_folder(folder)
        names: dict[int, str] = {}
        for index in clip.annotated:
            stem = clip.stem(index)
            name = f'{stem}.jpg'
            if with_frames:
                name = clip.write_frame(index, folder / stem, only_jpeg=True)
            if name:
                names[index] = f'{clip.name}/{name}'
            done += 1
            yield done / total
        _check_readable(clip)
        indices_of.append(list(names))
        videos.append(
            {
                'id': video_id,
                **_height_width(clip, clip.annotated[0]),
                'length': len(names),
                'file_names': list(names.values()),
                'frame_indices': list(names),
            }
        )
    with _json_file(root / 'train.json') as file:
        annotations = _JSONList(file)
        file.write('{')
        _write_fields(file, {'info': _info(), 'licenses': [], **_categories(clips)})
        _write_fields(file, {'videos': videos})
        file.write('"annotations":[\n')
        for clip, video, indices in zip(clips, videos, indices_of, strict=True):
            for obj in clip.objects.values():
                done += len(indices)
                masks = [clip.view.mask(obj.object_id, index) for index in indices]
                codes = [
                    mask.code if mask and count_encoded_pixels(mask.code) else None
                    for mask in masks
                ]
                if any(codes):
                    annotation = {
                        'id': annotations.num_elements + 1,
                        'video_id': video['id'],
                        'category_id': category_of[obj.category or NO_CATEGORY],
                        'segmentations': codes,
                        'bboxes': [code and _bbox(code) for code in codes],
                        'areas': [
                            code and count_encoded_pixels(code) for code in codes
                        ],
                        'iscrowd': 0,
                        'height': video['height'],
                        'width': video['width'],
                        'length': len(indices),
                        'object_id': obj.object_id,
                        'name': obj.name,
                        'color': obj.color,
                    }
                    annotations.append(annotation)
                yield done / total
        file.write(']}\n')


# LabelMe -----------------------------------------------------------------------------


def _write_labelme(
    clips: Sequence[Clip], root: Path, with_frames: bool, polygons: bool
) -> Iterator[float]:
    """A JSON file beside each image; ``group_id`` is the id of the object."""
    total = sum(len(clip.annotated) for clip in clips)
    for done, (clip, index) in enumerate(_pairs(clips), start=1):
        name = _place_image(clip, index, root, with_frames)
        if name:
            path = root / name
            path.parent.mkdir(exist_ok=True)
            height, width = clip.view.video.size(index)
            content: dict[str, object] = {
                'version': '5.5.0',  # of LabelMe, whose fields these are
                'flags': {},
                'shapes': [
                    shape
                    for key, code in clip.visible(index).items()
                    for shape in _labelme_shapes(clip.objects[key], code, polygons)
                ],
                'imagePath': path.name,
                'imageData': None,
                'imageHeight': height,
                'imageWidth': width,
            }
            stem = clip.name if clip.is_still else clip.stem(index)
            path.with_name(f'{stem}.json').write_bytes(orjson.dumps(content))
        yield done / total
    for clip in clips:
        _check_readable(clip)


def _labelme_shapes(
    obj: AnnotatedObject, code: EncodedMask, polygons: bool
) -> list[dict[str, object]]:
    mask = decode_masks([code])[0]
    common = {
        'label': obj.category or NO_CATEGORY,
        'group_id': obj.object_id,
        'description': obj.name,
        'flags': {},
    }
    if polygons:
        return [
            {
                **common,
                'points': np.reshape(corners, (-1, 2)).tolist(),
                'shape_type': 'polygon',
                'mask': None,
            }
            for corners in mask_polygons(mask)
        ]
    left, top, crop = crop_to_mask(mask)
    height, width = crop.shape
    # LabelMe's corners are pixels, both of which belong to the box.
    points = [[left, top], [left + width - 1, top + height - 1]]
    png = _png_text(crop.astype(np.uint8))
    return [{**common, 'points': points, 'shape_type': 'mask', 'mask': png}]


def _png_text(image: NDArray[np.uint8]) -> str:
    is_encoded, encoded = cv2.imencode('.png', image)
    if not is_encoded:
        msg = f'A mask of {image.shape} cannot be encoded as PNG'
        raise OSError(msg)
    return base64.b64encode(encoded.tobytes()).decode('ascii')


# SA-V --------------------------------------------------------------------------------


def _write_sav(clips: Sequence[Clip], root: Path, with_frames: bool) -> Iterator[float]:
    """Frames named by their index, and a JSON file with the masks of every frame."""
    total, done = sum(clip.frames.stop for clip in clips), 0
    for clip in clips:
        folder = root / clip.name
        if with_frames:
            _new_folder(folder)
        # A still is a video of one frame.
        first = clip.annotated[0] if clip.is_still else 0
        done += first
        statistics = {
            obj.object_id: _MaskletStatistics() for obj in clip.objects.values()
        }
        with _json_file(root / f'{clip.name}_manual.json') as file:
            file.write('{')
            _write_fields(file, _sav_video(clip))
            file.write('"masklet":[\n')
            masklets = _JSONList(file)
            for position, index in enumerate(range(first, clip.frames.stop)):
                done += 1
                is_readable = True
                if with_frames and index in clip.frames:
                    stem = folder / f'{position:05d}'
                    name = clip.write_frame(index, stem, only_jpeg=True)
                    is_readable = bool(name)
                codes = clip.masks(index) if is_readable else {}
                for key, each in statistics.items():
                    each.add(position, codes.get(key))
                masklets.append([codes.get(key) for key in clip.objects])
                yield done / total
            file.write('],\n')
            file.write(_dumps(_sav_masklets(clip, statistics))[1:] + '\n')
        _check_readable(clip)


def _sav_video(clip: Clip) -> dict[str, object]:
    video = clip.view.video
    height, width = video.size(clip.annotated[0])
    num_frames = 1 if clip.is_still else video.num_frames
    rate = video.frames_per_second or SAV_FRAME_RATE
    return {
        'video_id': clip.name,
        'video_duration': num_frames / rate,
        'video_frame_count': float(num_frames),
        'video_height': float(height),
        'video_width': float(width),
        'video_resolution': float(height * width),
        'video_environment': None,
        'video_split': 'train',
        'fps': SAV_FRAME_RATE,
    }


class _MaskletStatistics:
    """What SA-V says about an object."""

    def __init__(self) -> None:
        self.areas: list[int] = []
        self.first: int | None = None
        self.num_changes = 0
        self._is_visible: bool | None = None

    def add(self, position: int, code: EncodedMask | None) -> None:
        if code is None:
            return
        area = count_encoded_pixels(code)
        self.areas.append(area)
        if area and self.first is None:
            self.first = position
        self.num_changes += self._is_visible not in {None, area > 0}
        self._is_visible = area > 0

    @property
    def mean_area(self) -> float:
        visible = [area for area in self.areas if area]
        return sum(visible) / len(visible) if visible else 0.0


def _sav_masklets(
    clip: Clip, statistics: Mapping[int, _MaskletStatistics]
) -> dict[str, object]:
    height, width = clip.view.video.size(clip.annotated[0])
    objects = list(clip.objects.values())
    values = [statistics[obj.object_id] for obj in objects]
    return {
        'masklet_id': [obj.object_id for obj in objects],
        'masklet_size_rel': [each.mean_area / (height * width) for each in values],
        'masklet_size_abs': [each.mean_area for each in values],
        'masklet_size_bucket': [_size_bucket(each.mean_area) for each in values],
        'masklet_visibility_changes': [each.num_changes for each in values],
        'masklet_first_appeared_frame': [each.first for each in values],
        'masklet_frame_count': [len(each.areas) for each in values],
        'masklet_edited_frame_count': [len(obj.prompts) for obj in objects],
        'masklet_type': ['manual'] * len(objects),
        'masklet_stability_score': [None] * len(objects),
        'masklet_num': len(objects),
        'masklet_name': [obj.name for obj in objects],
        'masklet_category': [obj.category for obj in objects],
        'masklet_color': [obj.color for obj in objects],
    }


def _size_bucket(area: float) -> str:
    """Size class by area in pixels, with the limits of COCO and SA-V."""
    return 'small' if area < 32**2 else 'medium' if area < 96**2 else 'large'


# CVAT --------------------------------------------------------------------------------


def _write_cvat_tracks(
    clips: Sequence[Clip], root: Path, polygons: bool
) -> Iterator[float]:
    """CVAT for video: each track is one object (polygons) or one mask."""
    _, objects = _one_session(clips)
    with _xml_file(root / 'annotations.xml') as xml:
        _write_cvat_meta(xml, clips, 'polygon' if polygons else 'mask')
        num_tracks = 0
        for number, obj in enumerate(objects.values(), start=1):
            tracks = (_polygon_tracks if polygons else _mask_tracks)(clips, obj)
            for track in tracks:
                xml.open('track', id=num_tracks, **_cvat_label(obj))
                for tag, attributes in track:
                    xml.element(tag, **attributes, z_order=number)
                xml.close('track')
                num_tracks += 1
            yield number / len(objects)
        xml.close('annotations')


Element = tuple[str, dict[str, object]]


def _mask_tracks(
    clips: Sequence[Clip], obj: AnnotatedObject
) -> Iterator[list[Element]]:
    """A track of one mask for each frame, ended on the next one."""
    num_frames = clips[0].view.video.num_frames
    for index, mask in _visible_masks(clips, obj):
        shown = {'frame': index, 'keyframe': 1, 'outside': 0, 'occluded': 0}
        track = [('mask', {**shown, **encode_cvat_mask(mask)})]
        if index + 1 < num_frames:
            ended = {**shown, 'frame': index + 1, 'outside': 1}
            pixel = {'rle': '0, 1', 'left': 0, 'top': 0, 'width': 1, 'height': 1}
            track.append(('mask', {**ended, **pixel}))
        yield track


def _polygon_tracks(
    clips: Sequence[Clip], obj: AnnotatedObject
) -> Iterator[list[Element]]:
    """A track for the largest region of each frame, one for the second largest ones."""
    tracks: list[list[Element]] = []
    num_frames = clips[0].view.video.num_frames
    for index, mask in _visible_masks(clips, obj):
        for rank, corners in enumerate(mask_polygons(mask)):
            if rank == len(tracks):
                tracks.append([])
            track = tracks[rank]
            if track and track[-1][1]['frame'] != index - 1:
                track.append(_outside(track[-1]))
            text = ';'.join(f'{x:.2f},{y:.2f}' for x, y in np.reshape(corners, (-1, 2)))
            shown = {'frame': index, 'keyframe': 1, 'outside': 0, 'occluded': 0}
            track.append(('polygon', {**shown, 'points': text}))
    for track in tracks:
        if int(str(track[-1][1]['frame'])) + 1 < num_frames:
            track.append(_outside(track[-1]))
        yield track


def _outside(element: Element) -> Element:
    """End a track after its last shape."""
    tag, attributes = element
    frame = int(str(attributes['frame'])) + 1
    return tag, {**attributes, 'frame': frame, 'outside': 1}


def _write_cvat_images(clips: Sequence[Clip], root: Path) -> Iterator[float]:
    """CVAT for images: each image with its masks."""
    view, objects = _one_session(clips)
    total = sum(len(clip.annotated) for clip in clips)
    with _xml_file(root / 'annotations.xml') as xml:
        _write_cvat_meta(xml, clips, 'mask')
        for done, (clip, index) in enumerate(_pairs(clips), start=1):
            name = _cvat_image_name(view.video, index)
            xml.open('image', id=index, name=name, **_height_width(clip, index))
            for number, (key, code) in enumerate(clip.visible(index).items(), start=1):
                mask = encode_cvat_mask(decode_masks([code])[0])
                attributes = {**_cvat_label(objects[key]), 'occluded': 0, **mask}
                xml.element('mask', **attributes, z_order=number)
            xml.close('image')
            yield done / total
        xml.close('annotations')


def _one_session(
    clips: Sequence[Clip],
) -> tuple[AnnotatedView, dict[int, AnnotatedObject]]:
    """The session of all clips, and its objects with a mask."""
    num_sessions = len({id(clip.view) for clip in clips})
    if num_sessions != 1:
        msg = (
            f'A file of CVAT is about one video, not {num_sessions}; export the '
            f'sessions one by one'
        )
        raise ValueError(msg)
    keys = set[int]().union(*(clip.objects for clip in clips))
    return clips[0].view, _objects(clips[0].view, keys)


def _visible_masks(
    clips: Sequence[Clip], obj: AnnotatedObject
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    for clip, index in _pairs(clips):
        mask = clip.view.mask(obj.object_id, index)
        if mask is not None and count_encoded_pixels(mask.code):
            yield index, decode_masks([mask.code])[0]


def _cvat_label(obj: AnnotatedObject) -> dict[str, object]:
    return {
        'label': obj.category or NO_CATEGORY,
        'source': 'manual',
        'group_id': obj.object_id,
        'object_id': obj.object_id,
        'name': obj.name,
        'color': obj.color,
    }


def _cvat_image_name(video: AnnotatedVideo, index: int) -> str:
    """File name of an image; of a frame of a video file the name that CVAT gives it."""
    path = stored_image(video, index)
    if path is not None:
        return path.name
    if video.kind == 'video' and video.path.is_file():
        return f'frame_{index:06d}'
    return f'{video.frame_name(index)}.jpg'


def _write_cvat_meta(xml: XMLFile, clips: Sequence[Clip], kind: str) -> None:
    video = clips[0].view.video
    now = datetime.now(timezone.utc).isoformat()
    colors = {
        obj.category or NO_CATEGORY: obj.color
        for clip in reversed(clips)
        for obj in reversed([*clip.objects.values()])
    }
    xml.open('annotations')
    xml.element('version', '1.1')
    xml.open('meta')
    xml.open('task')
    xml.element('name', video.name)
    xml.element('size', video.num_frames)
    xml.element('mode', 'annotation' if video.kind == 'images' else 'interpolation')
    xml.element('overlap', 0)
    xml.element('created', now)
    xml.element('updated', now)
    xml.element('start_frame', 0)
    xml.element('stop_frame', video.num_frames - 1)
    xml.element('frame_filter')
    xml.open('labels')
    for name in _category_ids(clips):
        xml.open('label')
        xml.element('name', name)
        if name in colors:
            xml.element('color', colors[name])
        xml.element('type', kind)
        xml.element('attributes')
        xml.close('label')
    xml.close('labels')
    if video.kind == 'video':
        height, width = video.size(0)
        xml.open('original_size')
        xml.element('width', width)
        xml.element('height', height)
        xml.close('original_size')
    xml.close('task')
    xml.element('dumped', now)
    xml.close('meta')


# Files -------------------------------------------------------------------------------


@contextmanager
def _complete_folder(target: Path) -> Iterator[Path]:
    """Write a folder beside its place, and move it there when it is complete.

    Unlike ``atomic_write`` it does not flush thousands of files to the disk one by one:
    after a power failure one exports again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def _json_file(path: Path) -> Iterator[TextIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', encoding='utf-8') as file:
        yield file


@contextmanager
def _xml_file(path: Path) -> Iterator[XMLFile]:
    with path.open('w', encoding='utf-8', newline='\n') as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n')
        yield XMLFile(file)


class _JSONList:
    """Writes the elements of a JSON list one by one, as they come."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.num_elements = 0

    def append(self, element: object) -> None:
        self._file.write((',\n' if self.num_elements else '') + _dumps(element))
        self.num_elements += 1


def _write_fields(file: TextIO, fields: Mapping[str, object]) -> None:
    """Write fields of an object that is open, each with a comma after it."""
    for key, value in fields.items():
        file.write(f'{json.dumps(key)}:{_dumps(value)},\n')


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()
