"""Read annotations of a video or of images as objects, to go on from them.

All of it is untrusted: sizes are limited before anything is decoded, archives are
unpacked file by file, and whatever is wrong is an error that names the file.
"""

import re
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.annotated_video import check_size
from ...datasets.io.errors import (
    COMPLETE_DATA,
    RAISE_LIMIT,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    clip_errors,
    shorten,
)
from ...datasets.io.images import present_labels, read_label_map
from ...datasets.io.json_files import FIX_FILE, get_field, read_json
from ...datasets.io.listing import (
    MASK_SUFFIXES,
    is_hidden,
    is_object_number,
    scan_folder,
    without_suffix,
)
from ...datasets.io.mask_folders import MaskVideo, open_mask_video
from ...datasets.processing.davis_export import META_FILE
from ...datasets.sources.coco import image_records, split_crowds
from ...datasets.sources.labelme import LabelMeMasks
from ...datasets.sources.records import PROBLEM, Record
from ...datasets.sources.sav import index_sav
from ...datasets.sources.segmentations import count_rle_pixels, decode_segmentation
from ...datasets.sources.youtube_vis import video_records
from ...ops import EncodedMask, encode_masks, plain_runs
from ...structures import VOID_LABEL
from ..session.video import AnnotatedVideo
from .cvat import is_cvat, read_cvat
from .exports import NO_CATEGORY

IMPORT_FORMATS: Mapping[str, str] = {
    'davis': 'DAVIS and other label images: one PNG per frame',
    'masks': 'Masks: a folder of PNG files per object',
    'coco': 'COCO',
    'youtube_vis': 'YouTube-VIS',
    'labelme': 'LabelMe',
    'sav': 'SA-V',
    'cvat': 'CVAT for video and for images',
}
JSON_KEYS: Mapping[str, set[str]] = {
    'coco': {'images', 'annotations'},
    'youtube_vis': {'videos', 'annotations'},
    'labelme': {'shapes'},
    'sav': {'masklet'},
}
IMPORT_LIMITS = ReadLimits(max_file_size=2**29)  # JSON takes ten times that in memory
MAX_OBJECTS = 10_000
MAX_ARCHIVE_FILES = 200_000
MAX_ARCHIVE_BYTES = 2**33  # unpacked
MAX_DEPTH = 4  # levels of folders that are searched
MAX_FOLDERS = 400
MAX_SNIFFED, NUM_SNIFFED = 12, 3  # files of a folder that are read to recognise it
COLOR = re.compile('#[0-9a-fA-F]{6}')
MASK_FOLDERS = ('annotations', 'annotations_6fps', 'masks', 'labels', 'gt')
CORRECT = 'correct the file, or import another one'
# What the readers advise for a data set.
TRAINING_REMEDIES = (
    *(FIX_FILE, REPLACE_FILE, COMPLETE_DATA),
    *map(RAISE_LIMIT.format, ReadLimits.__dataclass_fields__),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedObject:
    """An object of a file.

    Attributes:
        name: Its name; '' if the file has none.
        category: Its class; '' if the file has none.
        color: ``#rrggbb``; '' if the file has none.
        masks: Its masks by frame, at the sizes of the frames. Each has a pixel.
    """

    name: str
    category: str
    color: str = ''
    masks: Mapping[int, EncodedMask]


def import_annotations(
    path: Path, video: AnnotatedVideo, format_name: str | None = None
) -> list[ImportedObject]:
    """Read annotations of a video.

    Images and frames are matched by the names of their files, else by order or number.

    Args:
        path: A file, a folder, or a zip archive of them, such as every export.
        video: What the annotations are about.
        format_name: A name of :data:`IMPORT_FORMATS`; None to recognise it.

    Returns:
        The objects that have a pixel, in the order of the file.

    Raises:
        ValueError: If a file is damaged, of no known format, or about another video.
    """
    if format_name is not None and format_name not in IMPORT_FORMATS:
        msg = f'{format_name!r} is no format; give one of {", ".join(IMPORT_FORMATS)}'
        raise ValueError(msg)
    unpacked = path
    try:
        with clip_errors(path), _unpacked(path) as unpacked:
            source = _recognise(unpacked, format_name)
            objects = _Objects(video)
            _READERS[source.format_name](source, objects)
            return objects.imported(path)
    except ClipDataError as error:
        message = str(error).replace(str(unpacked), str(path))
        for remedy in TRAINING_REMEDIES:
            message = message.replace(remedy, CORRECT)
        raise ValueError(message) from error


# Objects -----------------------------------------------------------------------------


class _Objects:
    """Collects masks by object."""

    def __init__(self, video: AnnotatedVideo) -> None:
        self.video = video
        self._details: dict[object, dict[str, str]] = {}
        self._masks: dict[object, dict[int, EncodedMask]] = {}

    def add(
        self,
        key: object,
        frame_index: int,
        mask: NDArray[np.bool_] | EncodedMask,
        where: Path | str,
        details: Mapping[str, str],
    ) -> None:
        """Add a mask to an object; two of one frame are united.

        Args:
            key: What tells the object from the others; stills share no objects.
            where: Where it is from, for errors.
            details: Its name, category and color, as far as they are known.
        """
        if isinstance(mask, np.ndarray):
            if not mask.any():
                return
            mask = encode_masks(mask[None])[0]
        if self.video.kind == 'images':
            key = (key, frame_index)
        if key not in self._masks:
            if len(self._masks) == MAX_OBJECTS:
                problem = f'has more than {MAX_OBJECTS} objects'
                raise ClipDataError.at(where, problem, CORRECT)
            self._masks[key] = {}
            # A name of spaces is none.
            self._details[key] = {k: v.strip() for k, v in details.items()}
        masks = self._masks[key]
        if frame_index in masks:
            size = self.video.size(frame_index)
            first, second = (
                decode_segmentation(each, size, where)
                for each in (masks[frame_index], mask)
            )
            mask = encode_masks((first | second)[None])[0]
        masks[frame_index] = mask

    def add_code(
        self,
        key: object,
        frame_index: int,
        code: object,
        where: str,
        details: Mapping[str, str],
    ) -> None:
        """Add run lengths or polygons; None is no mask."""
        if code is None or code == []:
            return
        size = self.video.size(frame_index)
        if isinstance(code, list):
            mask = decode_segmentation(code, size, where)
            self.add(key, frame_index, mask, where, details)
        elif count_rle_pixels(code, size, where):
            rle = _canonical(code) or decode_segmentation(code, size, where)
            self.add(key, frame_index, rle, where, details)

    def imported(self, where: Path) -> list[ImportedObject]:
        """All objects; those without a name are called after their class."""
        for details in self._details.values():
            if details.get('category') == NO_CATEGORY:
                details['category'] = ''
        unnamed = Counter(
            details.get('category', '')
            for details in self._details.values()
            if not details.get('name')
        )
        numbers: Counter[str] = Counter()
        objects = []
        for key, details in self._details.items():
            category, name = details.get('category', ''), details.get('name', '')
            if category and not name:
                numbers[category] += 1
                is_one = unnamed[category] == 1
                name = category if is_one else f'{category} {numbers[category]}'
            color = details.get('color', '')
            imported = ImportedObject(
                name=name,
                category=category,
                color=color.lower() if COLOR.fullmatch(color) else '',
                masks=dict(sorted(self._masks[key].items())),
            )
            objects.append(imported)
        if not objects:
            problem = f'holds no mask of {self.video.name}'
            remedy = 'check that it is about this video and has masks, not only boxes'
            raise ClipDataError.at(where, problem, remedy)
        return objects


def _canonical(code: Any) -> EncodedMask | None:
    """Compressed run lengths as they are, unless a run is empty."""
    if not isinstance(code['counts'], str):
        return None
    runs = plain_runs(code)
    if 0 in runs['counts'][1:]:
        return None
    return EncodedMask(size=runs['size'], counts=code['counts'])


class _Ordinals:
    """Numbers the shapes of a label on each frame, where a file has no identities."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()

    def key(self, frame_index: int, label: str) -> object:
        """Key of the next object of a label on a frame."""
        self._counts[frame_index, label] += 1
        return label, self._counts[frame_index, label]


# Frames ------------------------------------------------------------------------------


def match_frames(
    names: Sequence[str], video: AnnotatedVideo, where: Path | str
) -> dict[str, int]:
    """Find the frame of each file name.

    Args:
        names: Paths or names of images, with or without suffix, in order.
        where: The file that has them, for errors.

    Returns:
        Index of the frame by name. Of stills, names that match none are left out.

    Raises:
        ClipDataError: If no frame matches, or a name matches none of a video.
    """
    frames: dict[str, int] = {}
    for index in range(video.num_frames):
        frames.setdefault(_normal(video.frame_name(index)), index)
        frames.setdefault(_normal(without_suffix(video.frame_name(index))), index)
    stems = {name: _normal(_last_part(name)) for name in names}
    matched: dict[str, int] = {}
    for name, stem in stems.items():
        for spelling in (stem, without_suffix(stem)):
            if spelling in frames:
                matched.setdefault(name, frames[spelling])
    if video.kind == 'video' and len(matched) < len(stems):
        matched = _match_by_number(stems, video.num_frames)
    missing = [name for name in names if name not in matched]
    if not matched or (missing and video.kind == 'video'):
        first, last = video.frame_name(0), video.frame_name(video.num_frames - 1)
        example = shorten(repr(names[-1])) if names else 'none'
        problem = (
            f'{len(names)} images, such as {example}, do not match the '
            f'{video.num_frames} frames of {video.name}, {first} to {last}'
        )
        raise ClipDataError.at(where, problem, CORRECT)
    return matched


def _match_by_number(stems: Mapping[str, str], num_frames: int) -> dict[str, int]:
    """Match by order if there is a name for each frame, else by the last number."""
    if len(stems) == num_frames:
        return {name: index for index, name in enumerate(stems)}
    numbers = {name: _last_number(without_suffix(stem)) for name, stem in stems.items()}
    are_frames = all(0 <= number < num_frames for number in numbers.values())
    is_unique = len(set(numbers.values())) == len(numbers)
    return numbers if are_frames and is_unique else {}


def _last_number(stem: str) -> int:
    """Number at the end of a name; -1 if there is none."""
    digits = re.search('[0-9]{1,9}$', stem)
    return int(digits[0]) if digits else -1


def choose_clips(
    names: Sequence[str], video: AnnotatedVideo, where: Path | str
) -> dict[str, int | None]:
    """Find the clips of a data set that are about a video, or about stills.

    Args:
        names: Names of all clips.
        where: The file or folder that has them, for errors.

    Returns:
        The clip of the video (None), or those of stills with the index of the still.

    Raises:
        ClipDataError: If there is none, or none of several is called as the video.
    """
    if video.kind == 'images':
        return dict(match_frames(names, video, where))
    by_name = {_normal(_last_part(name)): name for name in names}
    own = by_name.get(_normal(video.name))
    if own is None and len(names) == 1:
        own = names[0]
    if own is None:
        listed = shorten(', '.join(sorted(names)[:4])) or 'none'
        problem = f'has {len(names)} clips ({listed}), none called {video.name}'
        raise ClipDataError.at(where, problem, CORRECT)
    return {own: None}


def _in_own_folder(
    names: Sequence[str], video: AnnotatedVideo, where: Path | str
) -> list[str]:
    """Of images in several folders, those in the folder of the video."""
    folders = {PurePosixPath(name).parent.as_posix() for name in names}
    if video.kind == 'images' or len(folders) == 1:
        return list(names)
    (own,) = choose_clips(sorted(folders), video, where)
    return [name for name in names if PurePosixPath(name).parent.as_posix() == own]


def _last_part(name: str) -> str:
    return PurePosixPath(name.replace('\\', '/')).name


def _normal(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


# COCO and YouTube-VIS ----------------------------------------------------------------


def _read_coco(source: '_Source', objects: _Objects) -> None:
    path, video = source.only_path(), objects.video
    content = read_json(path, IMPORT_LIMITS)
    categories = _category_names(content)
    records = _checked(image_records(content, path, crowd_as_objects=True))
    names = [record['file_name'] for record in records]
    frames = match_frames(_in_own_folder(names, video, path), video, path)
    ordinals = _Ordinals()
    for record in records:
        index = frames.get(record['file_name'])
        if index is None:
            continue
        where = f'{path}: image {record["file_name"]}'
        check_size(where, (record['height'], record['width']), video.size(index))
        for each in _annotations(record, where):
            details = _details(each, categories)
            key = each.get('track_id', each.get('instance_id'))
            if not isinstance(key, int | str):
                key = ordinals.key(index, details['category'])
            segmentation = each.get('segmentation')
            each_where = f'{where}, annotation {each["id"]}'
            objects.add_code(key, index, segmentation, each_where, details)


def _read_youtube_vis(source: '_Source', objects: _Objects) -> None:
    path, video = source.only_path(), objects.video
    content = read_json(path, IMPORT_LIMITS)
    categories = _category_names(content)
    records = {
        PurePosixPath(record['file_names'][0]).parent.as_posix(): record
        for record in _checked(video_records(content, path, crowd_as_objects=True))
    }
    for name, still in choose_clips(list(records), video, path).items():
        where = f'{path}: video {name}'
        files = records[name]['file_names']
        frames = match_frames(files, video, where) if still is None else {}
        for each in _annotations(records[name], where):
            each_where = f'{where}, annotation {each["id"]}'
            codes = get_field(each, 'segmentations', list, each_where)
            if len(codes) != len(files):
                problem = f'has {len(codes)} segmentations for {len(files)} frames'
                raise ClipDataError.at(each_where, problem, CORRECT)
            details = _details(each, categories)
            for file, code in zip(files, codes, strict=True):
                index = frames[file] if still is None else still
                objects.add_code(each['id'], index, code, each_where, details)


def _checked(records: Iterator[tuple[str, Record | None]]) -> list[Record]:
    """Records with an object; a damaged one is an error here."""
    checked = [record for _, record in records if record is not None]
    for record in checked:
        if PROBLEM in record:
            raise ClipDataError(record[PROBLEM])
    return checked


def _annotations(record: Record, where: str) -> list[Record]:
    annotations, _ = split_crowds(record['annotations'], where, crowd_as_objects=True)
    return annotations


def _category_names(content: object) -> dict[object, str]:
    """Names of the categories by id."""
    records = content.get('categories') if isinstance(content, Mapping) else None
    return {
        record['id']: record['name']
        for record in (records if isinstance(records, list) else ())
        if isinstance(record, Mapping)
        and isinstance(record.get('id'), int | str)
        and isinstance(record.get('name'), str)
    }


def _details(
    record: Mapping[str, object], categories: Mapping[object, str]
) -> dict[str, str]:
    category_id = record.get('category_id')
    is_id = isinstance(category_id, int | str)
    return {
        'name': _text(record.get('name')),
        'category': categories.get(category_id, '') if is_id else '',
        'color': _text(record.get('color')),
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ''


# LabelMe and SA-V --------------------------------------------------------------------


def _read_labelme(source: '_Source', objects: _Objects) -> None:
    video = objects.video
    paths = {path.with_suffix('').as_posix(): path for path in source.paths}
    names = _in_own_folder(list(paths), video, source.where)
    ordinals = _Ordinals()
    for name, index in match_frames(names, video, source.where).items():
        reader = LabelMeMasks(path=paths[name], limits=IMPORT_LIMITS)
        shapes = reader.shapes()
        masks = reader.read(0, video.size(index))
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            shape = shapes[object_id][0]
            label = _text(shape.content['label']).strip()
            group = shape.content.get('group_id')
            key = ordinals.key(index, label) if group is None else (label, group)
            description = _text(shape.content.get('description'))
            details = {'name': description, 'category': label}
            objects.add(key, index, mask, shape.where, details)


def _read_sav(source: '_Source', objects: _Objects) -> None:
    video = objects.video
    clip_of = {path: re.sub('_(manual|auto)$', '', path.stem) for path in source.paths}
    clips = choose_clips(list(dict.fromkeys(clip_of.values())), video, source.where)
    for path in [path for path, clip in clip_of.items() if clip in clips]:
        index = index_sav(path, IMPORT_LIMITS)
        content = read_json(path, IMPORT_LIMITS)
        still = clips[clip_of[path]]
        frame_of = _sav_frames(content, video)
        for position in range(len(index.marks) - 1):
            number = position * index.ann_every
            frame = frame_of.get(number) if still is None else still
            for object_index, code in enumerate(index.read(position)):
                where = f'{path}: frame {number}, object {object_index}'
                if code is not None and frame is None:
                    problem = f'{video.name} has no such frame'
                    raise ClipDataError.at(where, problem, CORRECT)
                if frame is not None:
                    details = _sav_details(content, object_index)
                    key = (path, object_index)
                    objects.add_code(key, frame, code, where, details)


def _sav_frames(content: object, video: AnnotatedVideo) -> dict[int, int]:
    """Index of each frame by its number in the video that was annotated.

    Extracted frames may be every n-th one, named by their numbers.
    """
    count = content.get('video_frame_count') if isinstance(content, Mapping) else None
    names = [video.frame_name(index) for index in range(video.num_frames)]
    if count != video.num_frames and all(name.isdecimal() for name in names):
        return {int(name): index for index, name in enumerate(names)}
    return {index: index for index in range(video.num_frames)}


def _sav_details(content: object, object_index: int) -> dict[str, str]:
    details = {}
    for name in ('name', 'category', 'color'):
        values = content.get(f'masklet_{name}') if isinstance(content, Mapping) else ()
        if isinstance(values, list) and object_index < len(values):
            details[name] = _text(values[object_index])
    return details


# CVAT --------------------------------------------------------------------------------


def _read_cvat(source: '_Source', objects: _Objects) -> None:
    path, video = source.only_path(), objects.video
    images: dict[str, None] = {}
    num_shapes: Counter[int] = Counter()  # by track
    for shape in read_cvat(path, IMPORT_LIMITS):
        if shape.track is None:
            images[shape.image] = None
        else:
            num_shapes[shape.track] += 1
    frames = match_frames(list(images), video, path) if images else {}
    ordinals = _Ordinals()
    for shape in read_cvat(path, IMPORT_LIMITS):
        index = frames.get(shape.image) if shape.track is None else shape.frame
        if index is None:
            continue
        if index >= video.num_frames:
            problem = f'{video.name} has {video.num_frames} frames'
            raise ClipDataError.at(shape.where, problem, CORRECT)
        attributes = shape.attributes
        if 'object_id' in attributes:
            key: object = ('object', attributes['object_id'])
        elif shape.track is not None and num_shapes[shape.track] > 1:
            key = ('track', shape.track)
        elif attributes.get('group_id', '0') != '0':
            key = ('group', shape.label, attributes['group_id'])
        else:
            key = ordinals.key(index, shape.label)
        details = {
            'name': attributes.get('name', ''),
            'category': shape.label,
            'color': attributes.get('color', ''),
        }
        mask = shape.draw(video.size(index))
        objects.add(key, index, mask, shape.where, details)


# Masks as PNG ------------------------------------------------------------------------


def _read_masks(source: '_Source', objects: _Objects) -> None:
    """Read label images or folders of objects, of one clip or of several."""
    video, root = objects.video, source.only_path()
    masks = _MaskFiles(objects)
    if root.is_file():
        (index,) = match_frames([root.name], video, root).values()
        masks.add_labels(root, index, root.name, {})
    elif _is_clip(root, video):
        masks.add_clip(open_mask_video(root), root.name, None, {})
    else:
        meta = _read_meta(root.parent / META_FILE)
        clips = choose_clips(sorted(_folders(root)), video, root)
        for name, still in clips.items():
            clip = open_mask_video(root / name)
            masks.add_clip(clip, name, still, meta.get(name, {}))
    masks.finish()


def _is_clip(root: Path, video: AnnotatedVideo) -> bool:
    """Whether a folder holds the masks of one clip, not a folder for each clip."""
    if _files(root, MASK_SUFFIXES):
        return True
    folders = {_normal(name) for name in _folders(root)}
    clips = {_normal(video.name)}
    if video.kind == 'images':
        clips = {_normal(video.frame_name(i)) for i in range(video.num_frames)}
    return not folders & clips and all(map(is_object_number, folders))


class _MaskFiles:
    """Adds the masks of PNG files.

    255 means void, unless a data set has no other label: many tools write the masks of
    one object as 0 and 255.
    """

    def __init__(self, objects: _Objects) -> None:
        self._objects = objects
        self._num_objects = 0
        self._void: list[tuple[int, EncodedMask, Path]] = []

    def add_clip(
        self,
        masks: MaskVideo,
        name: str,
        still: int | None,
        details: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Add a clip.

        Args:
            still: Index of the still that it is about; None to match frames by name.
            details: Name, category and color of objects by label.
        """
        video = self._objects.video
        if still is None:
            frames = match_frames(masks.stems, video, masks.folder)
        else:
            frames = dict.fromkeys(masks.stems, still)
        for stem, index in frames.items():
            if masks.object_files is None:
                path = masks.folder / masks.files[stem]
                self.add_labels(path, index, name, details)
                continue
            for number, files in masks.object_files.items():
                if stem in files:
                    path = masks.folder / files[stem]
                    mask = read_label_map(path, IMPORT_LIMITS) > 0
                    check_size(path, mask.shape, video.size(index))
                    known = details.get(str(number), {})
                    self._add((name, number), index, mask, path, known)

    def add_labels(
        self,
        path: Path,
        index: int,
        name: str,
        details: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Add a label image; equal labels of one clip are one object."""
        labels = read_label_map(path, IMPORT_LIMITS)
        check_size(path, labels.shape, self._objects.video.size(index))
        void = {VOID_LABEL} if labels.dtype == np.uint8 else set()
        for label in sorted(present_labels(labels, skipped={0, *void})):
            known = details.get(str(label), {})
            self._add((name, label), index, labels == label, path, known)
        if void and not self._num_objects and (labels == VOID_LABEL).any():
            code = encode_masks((labels == VOID_LABEL)[None])[0]
            self._void.append((index, code, path))

    def finish(self) -> None:
        """Take 255 as an object if there is no other."""
        for index, code, path in () if self._num_objects else self._void:
            self._objects.add(VOID_LABEL, index, code, path, {})

    def _add(
        self,
        key: object,
        index: int,
        mask: NDArray[np.bool_],
        path: Path,
        details: Mapping[str, str],
    ) -> None:
        self._num_objects += 1
        self._void.clear()
        self._objects.add(key, index, mask, path, details)


def _read_meta(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Read the details of objects by clip and label from a ``meta.json``, if any."""
    content = read_json(path, IMPORT_LIMITS) if path.is_file() else None
    return {
        clip: {
            label: {key: _text(each.get(key)) for key in ('name', 'category', 'color')}
            for label, each in _mapping(_mapping(entry).get('objects')).items()
            if isinstance(each, Mapping)
        }
        for clip, entry in _mapping(_mapping(content).get('videos')).items()
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# Which format it is ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is read.

    Attributes:
        format_name: A name of :data:`IMPORT_FORMATS`.
        where: What the user gave.
        paths: Files of the format, or the folder of the masks.
    """

    format_name: str
    where: Path
    paths: tuple[Path, ...]

    def only_path(self) -> Path:
        """Its only file.

        Raises:
            ClipDataError: If there are several.
        """
        if len(self.paths) > 1:
            names = ', '.join(path.name for path in self.paths[:4])
            problem = f'holds several files of {self.format_name} ({names})'
            raise ClipDataError.at(self.where, problem, 'give one of them')
        return self.paths[0]


_READERS: Mapping[str, Callable[[_Source, _Objects], None]] = {
    'davis': _read_masks,
    'masks': _read_masks,
    'coco': _read_coco,
    'youtube_vis': _read_youtube_vis,
    'labelme': _read_labelme,
    'sav': _read_sav,
    'cvat': _read_cvat,
}


def _recognise(path: Path, format_name: str | None) -> _Source:
    """Recognise the format of a file or a folder by its content."""
    paths_of: dict[str, list[Path]] = {}
    if format_name not in {'davis', 'masks'}:
        for file in _annotation_files(path):
            kind = _kind_of_file(file)
            if kind is not None and format_name in {None, kind}:
                paths_of.setdefault(kind, []).append(file)
    if len(paths_of) > 1:
        problem = f'holds files of {" and ".join(paths_of)}'
        raise ClipDataError.at(path, problem, 'choose the format')
    if paths_of:
        ((kind, paths),) = paths_of.items()
        if kind in {'labelme', 'sav'} and path.is_dir():  # a file per frame or clip
            files = _annotation_files(path, every=True)
            paths = [file for file in files if _kind_of_file(file) == kind]
        return _Source(format_name=kind, where=path, paths=tuple(paths))
    masks = _mask_root(path) if format_name in {None, 'davis', 'masks'} else None
    if masks is None:
        problem = f'is of none of the formats {", ".join(IMPORT_FORMATS)}'
        if format_name is not None:
            problem = f'holds no file of the format {format_name}'
        raise ClipDataError.at(path, problem, CORRECT)
    return _Source(format_name=format_name or 'davis', where=path, paths=(masks,))


def _annotation_files(path: Path, *, every: bool = False) -> list[Path]:
    """JSON and XML files; of folders with many of them only the first ones."""
    if path.is_file():
        return [path]
    files = []
    for folder in _walk(path):
        names = _files(folder, ('.json', '.xml'))
        is_many = len(names) > MAX_SNIFFED and not every
        files += [folder / name for name in names[: NUM_SNIFFED if is_many else None]]
    return files


def _kind_of_file(path: Path) -> str | None:
    """Format of a JSON or XML file; None if it is of no known one."""
    suffix = path.suffix.lower()
    if suffix == '.xml':
        return 'cvat' if is_cvat(path) else None
    if suffix != '.json':
        return None
    content = read_json(path, IMPORT_LIMITS)
    keys = set(content) if isinstance(content, Mapping) else set()
    return next((kind for kind, known in JSON_KEYS.items() if known <= keys), None)


def _mask_root(path: Path) -> Path | None:
    """Folder of masks (rather one that is named so than one of frames), or a file."""
    if path.is_file():
        return path if path.name.lower().endswith(MASK_SUFFIXES) else None
    folders = list(_walk(path))
    named = [folder for folder in folders if folder.name.lower() in MASK_FOLDERS]
    for folder in (*named, *folders):
        levels = [folder, *(folder / name for name in sorted(_folders(folder)))]
        levels += [each / name for each in levels[1:] for name in _folders(each)]
        if any(_files(each, MASK_SUFFIXES) for each in levels):
            return _below_resolution(folder)
    return None


def _below_resolution(folder: Path) -> Path:
    """Folder of the clips, which DAVIS calls after its resolution (480p)."""
    inner = [folder / name for name in _folders(folder)]
    if len(inner) != 1 or _files(folder, MASK_SUFFIXES):
        return folder
    clips = _folders(inner[0])
    is_clip = bool(_files(inner[0], MASK_SUFFIXES)) or all(map(is_object_number, clips))
    return folder if is_clip else inner[0]


def _walk(root: Path) -> Iterator[Path]:
    """Yield a folder and those below it, level by level; links are not followed."""
    level, num_folders = [root], 0
    for _ in range(MAX_DEPTH + 1):
        for folder in level:
            num_folders += 1
            if num_folders > MAX_FOLDERS:
                return
            yield folder
        level = [folder / name for folder in level for name in sorted(_folders(folder))]


def _folders(folder: Path) -> set[str]:
    return {
        entry.name
        for entry in scan_folder(folder)
        if entry.is_dir(follow_symlinks=False)
    }


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return sorted(
        entry.name
        for entry in scan_folder(folder)
        if entry.name.lower().endswith(suffixes)
        and entry.is_file(follow_symlinks=False)
    )


# Archives ----------------------------------------------------------------------------


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack a zip archive while it is read; anything else stays as it is."""
    if not path.exists():
        raise ClipDataError.at(path, 'there is no such file or folder', CORRECT)
    if path.is_dir() or path.suffix.lower() != '.zip':
        yield path
        return
    if not zipfile.is_zipfile(path):
        raise ClipDataError.at(path, 'is no zip archive, or not all of it', CORRECT)
    with tempfile.TemporaryDirectory(prefix='mmsam2_import_') as name:
        folder = Path(name) / path.stem
        folder.mkdir()
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, folder, path)
        yield folder


def _unpack(archive: zipfile.ZipFile, folder: Path, where: Path) -> None:
    """Unpack the annotations of an archive, not its frames."""
    entries = archive.infolist()
    if len(entries) > MAX_ARCHIVE_FILES:
        problem = f'holds {len(entries)} files, more than {MAX_ARCHIVE_FILES}'
        raise ClipDataError.at(where, problem, CORRECT)
    left = MAX_ARCHIVE_BYTES
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace('\\', '/')).parts
        if entry.filename.startswith(('/', '\\')) or '..' in parts:
            problem = f'holds {shorten(repr(entry.filename))}, which leads out of it'
            raise ClipDataError.at(where, problem, CORRECT)
        is_wanted = entry.filename.lower().endswith(('.json', '.xml', *MASK_SUFFIXES))
        if entry.is_dir() or not is_wanted or any(map(is_hidden, parts)):
            continue
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, target.open('wb') as file:
            # What the header says about the size may be wrong.
            while chunk := packed.read(2**20):
                left -= len(chunk)
                if left < 0:
                    problem = f'unpacks to more than {MAX_ARCHIVE_BYTES} bytes'
                    raise ClipDataError.at(where, problem, CORRECT)
                file.write(chunk)
