"""Images with COCO instance annotations, as clips of one frame."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ...structures import FrameMasks
from ..annotated_video import AnnotatedVideo, FrameSize, ObjectIds, check_size
from ..io.errors import (
    DEFAULT_LIMITS,
    ClipDataError,
    ReadLimits,
    check_file,
    reports_clip_errors,
)
from ..io.frames import ImageFrames
from ..io.json_files import (
    FIX_FILE,
    check_unique,
    describe,
    get_field,
    to_whole_number,
)
from ..io.listing import normalize_name, safe_join, without_suffix
from .records import Record, RecordDataset, checked_name, damaged_record
from .segmentations import EncodedMasks, check_polygons, decode_segmentation, is_area

# Values of `iscrowd`; tuples, since a damaged value may not be hashable.
CROWD_FLAGS = (1, '1')
OBJECT_FLAGS = (0, '0', None)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipCocoDataset(RecordDataset):
    """Images with COCO instance annotations, as clips of one frame.

    ``<data_root>/<image_folder>/<file_name>``, and one JSON file with ``images`` and
    ``annotations``; masks are polygons or run lengths. Pixels of a crowd are void,
    unless they are an object's. Images without an object are left out. A warning says
    how many annotations are crowds, or have no mask.

    The name of a clip is the file name of its image, without the suffix unless that
    distinguishes two images (``a.jpg``, ``a.png``); for a damaged entry, its position
    (``images[3]``).

    Beside the options of :class:`RecordDataset`:

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.
        image_folder: Folder of the images, likewise.
        crowd_as_objects: Whether crowds (``iscrowd=1``) are objects. Some tools write
            every mask as a crowd.
    """

    image_folder: str = '.'
    crowd_as_objects: bool = False

    def records_in(self, content: object) -> Iterator[tuple[str, Record | None]]:
        """Records of the images, see :meth:`RecordDataset.records_in`."""
        return image_records(
            content, self.annotation_path, crowd_as_objects=self.crowd_as_objects
        )

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its masks, without decoding any.

        Raises:
            ClipDataError: If the image is missing or not in the file, or an annotation
                is damaged.
        """
        record = self.read_record(name)
        where = f'{self.annotation_path} (image {name})'
        folder = self.root / self.image_folder
        check_file(safe_join(folder, record['file_name']))
        objects, crowds = split_crowds(
            record['annotations'], where, crowd_as_objects=self.crowd_as_objects
        )
        masks = CocoMasks(
            source=where,
            size=(record['height'], record['width']),
            objects={each['id']: each.get('segmentation') for each in objects},
            crowds=tuple(each.get('segmentation') for each in crowds),
            limits=self.read_limits,
        )
        frames = ImageFrames(
            folder=folder,
            files=(record['file_name'],),
            limits=self.read_limits,
            intensity_range=self.read_range,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


@dataclass(frozen=True, kw_only=True)
class CocoMasks(EncodedMasks):
    """Reads the masks of an image.

    Attributes:
        source: File of the annotations and name of the image, for errors.
        size: Height and width of the image in the annotations.
        objects: Encoded mask of each object, by its id.
        crowds: Encoded masks of crowds, whose pixels are ignored.
        limits: Checked before decoding.
    """

    source: str
    size: FrameSize
    objects: Mapping[int, object]
    crowds: tuple[object, ...] = ()
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """See :class:`MaskReader`."""
        return 'crowds, which are void; set crowd_as_objects=True to take them'

    def object_ids(self) -> ObjectIds:
        """Ids of the annotations."""
        return tuple(self.objects)

    def codes(self, frame_index: int) -> Mapping[int, object]:
        """See :class:`EncodedMasks`."""
        return self.objects

    def where(self, frame_index: int) -> str:
        """See :class:`EncodedMasks`."""
        return self.source

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects with a pixel, see :class:`MaskReader`."""
        check_size(self.source, self.size, size)
        return super().seen(frame_index, size)

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of the image, with the pixels of crowds as void."""
        check_size(self.source, self.size, size)
        masks = super().read(frame_index, size, object_ids)
        if not self.crowds:
            return masks
        num_masks = len(self.objects) + len(self.crowds)  # decoded one by one
        self.limits.check_masks(self.source, num_masks, size)
        check_polygons(self.objects, size, self.source)
        check_polygons(dict(enumerate(self.crowds)), size, f'{self.source}, crowds')
        void = np.zeros(size, bool)
        for code in self.crowds:
            void |= decode_segmentation(code, size, f'{self.source}, a crowd')
        # Pixels of an object are not void, even if the object was not requested.
        decoded = dict(zip(masks.object_ids, masks.masks, strict=True))
        for object_id, code in self.objects.items():
            mask = decoded.get(object_id)
            if mask is None:
                mask = decode_segmentation(code, size, self.source)
            np.greater(void, mask, out=void)
        return replace(masks, void=void if void.any() else None)


def image_records(
    content: object, where: Path, *, crowd_as_objects: bool = False
) -> Iterator[tuple[str, Record | None]]:
    """Group the annotations of a file by images, see :meth:`RecordDataset.records_in`.

    Yields:
        Name and record of each image, None if it has no object. For a damaged entry,
        its position with the error, and its name with None if it has one.

    Raises:
        ClipDataError: If the file has another form, two images share an id, or no
            annotation is an object with a mask.
    """
    images = get_field(content, 'images', list, where)
    groups = group_annotations(
        content, 'image_id', owner_ids(images, 'images', where), where, crowd_as_objects
    )
    masks = _MaskStatistics()
    num_files = Counter(  # with the same name but for the suffix
        map(
            without_suffix,
            {
                normalize_name(image['file_name'])
                for image in images
                if isinstance(image, Mapping)
                and isinstance(image.get('file_name'), str)
            },
        )
    )
    for index, image in enumerate(images):
        position = f'images[{index}]'
        image_id, name = None, None
        try:
            source = f'{where}, {position}'
            image_id = read_owner_id(image, source)
            file_name = normalize_name(get_field(image, 'file_name', str, source))
            stem = without_suffix(file_name)
            name = checked_name(file_name if num_files[stem] > 1 else stem, source)
            annotations = groups.get(image_id, [])
            objects = [
                each for each in annotations if crowd_as_objects or not is_crowd(each)
            ]
            have_masks = [masks.count(annotation) for annotation in objects]
            if any(have_masks):
                yield name, _image_record(image, annotations, source)
            else:
                yield name, None
        except ClipDataError as error:
            if image_id is None or image_id in groups:
                yield position, damaged_record(error)
            if name is not None:  # lists may name it
                yield name, None
    masks.report(where)


def _image_record(image: object, annotations: list[Record], where: str) -> Record:
    return {
        'file_name': get_field(image, 'file_name', str, where),
        'height': get_field(image, 'height', int, where),
        'width': get_field(image, 'width', int, where),
        'annotations': annotations,
    }


class _MaskStatistics:
    """Counts annotations that cannot cover a pixel, to warn of them once per file."""

    def __init__(self) -> None:
        self._num_objects = 0
        self._num_without_mask = 0
        self._num_flat = 0  # polygons of fewer than three corners
        self._first_flat: object = None  # id of its annotation

    def count(self, annotation: Record) -> bool:
        """Count an annotation; return whether it has a mask, not only a box."""
        code = annotation.get('segmentation')
        has_mask = bool(code)
        if isinstance(code, list):
            flat = [polygon for polygon in code if _is_flat(polygon)]
            has_mask = len(flat) < len(code)
            if flat and not self._num_flat:
                self._first_flat = annotation.get('id')
            self._num_flat += len(flat)
        self._num_objects += 1
        self._num_without_mask += not has_mask
        return has_mask

    def report(self, where: Path) -> None:
        """Warn of annotations without a mask; raise if none has one."""
        if self._num_without_mask and self._num_without_mask == self._num_objects:
            problem = f'none of {self._num_objects} annotations has a segmentation'
            remedy = 'add masks: boxes alone are not enough'
            raise ClipDataError.at(where, problem, remedy)
        if self._num_without_mask:
            warn(
                where,
                f'{self._num_without_mask} of {self._num_objects} annotations have no '
                f'segmentation and are left out',
            )
        if self._num_flat:
            warn(
                where,
                f'{self._num_flat} polygons of fewer than three corners are empty, the '
                f'first in annotation {describe(self._first_flat)}',
            )


def _is_flat(polygon: object) -> bool:
    """Whether a polygon has too few corners; a list of pairs is damaged instead."""
    return (
        isinstance(polygon, list)
        and not is_area(polygon)
        and not any(isinstance(value, list) for value in polygon)
    )


# Shared with YouTube-VIS -------------------------------------------------------------


def group_annotations(
    content: object,
    key: str,
    ids: set[int | str],
    where: Path,
    crowd_as_objects: bool,
) -> dict[int | str, list[Record]]:
    """Group annotations by the image or video that they belong to.

    Args:
        key: Field of an annotation with the id of its image or video.
        ids: Ids of the images or videos of the file.

    Returns:
        The annotations by that id, of those with at least one object.

    Raises:
        ClipDataError: If no annotation is an object.
    """
    annotations = get_field(content, 'annotations', list, where)
    groups: dict[int | str, list[Record]] = {}
    stray = []
    for index, annotation in enumerate(annotations):
        owner = None
        if isinstance(annotation, Mapping):
            owner = to_whole_number(annotation.get(key))
        if isinstance(owner, int | str) and owner in ids:
            groups.setdefault(owner, []).append(annotation)
        else:
            stray.append(f'annotations[{index}] with {key} {describe(owner)}')
    if not annotations:
        problem, remedy = 'its list of annotations is empty', 'give another file'
        raise ClipDataError.at(where, problem, remedy)
    num_grouped = sum(map(len, groups.values()))
    if not num_grouped:
        problem = (
            f'none of {len(annotations)} annotations belongs to anything in the file, '
            f'e.g. {stray[0]}'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    if stray:
        msg = (
            f'{len(stray)} of {len(annotations)} annotations belong to nothing in the '
            f'file and are left out, e.g. {stray[0]}'
        )
        warn(where, msg)
    if crowd_as_objects:
        return groups
    num_crowds = sum(is_crowd(each) for group in groups.values() for each in group)
    remedy = 'set crowd_as_objects=True in the dataset to take them as objects'
    if num_crowds == num_grouped:
        problem = f'all {num_crowds} annotations are crowds (iscrowd=1), not objects'
        raise ClipDataError.at(where, problem, remedy)
    if num_crowds:
        msg = (
            f'{num_crowds} of {num_grouped} annotations are crowds (iscrowd=1), not '
            f'objects; {remedy}'
        )
        warn(where, msg)
    return {
        owner: group for owner, group in groups.items() if not all(map(is_crowd, group))
    }


def split_crowds(
    annotations: list[Record], where: str, *, crowd_as_objects: bool = False
) -> tuple[list[Record], list[Record]]:
    """Separate the objects of an image or a video from its crowds.

    Ids like 5.0 become 5, in place.

    Raises:
        ClipDataError: If an annotation has no id, two objects have the same, or
            ``iscrowd`` is neither 0 nor 1.
    """
    objects: list[Record] = []
    crowds: list[Record] = []
    for annotation in annotations:
        annotation['id'] = get_field(annotation, 'id', int, where)
        flag = annotation.get('iscrowd')
        if flag not in (*CROWD_FLAGS, *OBJECT_FLAGS):
            problem = (
                f'annotation {annotation["id"]} has iscrowd {describe(flag)}, expected '
                f'0 or 1'
            )
            raise ClipDataError.at(where, problem, FIX_FILE)
        is_object = crowd_as_objects or not is_crowd(annotation)
        (objects if is_object else crowds).append(annotation)
    check_unique([each['id'] for each in objects], 'annotations', where)
    return objects, crowds


def is_crowd(annotation: Record) -> bool:
    """Whether an annotation is a crowd; tools write the flag as number or text."""
    return annotation.get('iscrowd') in CROWD_FLAGS


def owner_ids(records: list[Any], key: str, where: Path) -> set[int | str]:
    """Ids of the images or videos of a file.

    Raises:
        ClipDataError: If an id occurs twice.
    """
    values = [
        to_whole_number(record.get('id'))
        for record in records
        if isinstance(record, Mapping)
    ]
    ids = [value for value in values if isinstance(value, int | str)]
    check_unique(ids, key, where)
    return set(ids)


def read_owner_id(record: object, where: str) -> int | str:
    """Id of an image or a video; some tools write it as text."""
    if isinstance(record, Mapping) and isinstance(record.get('id'), str):
        return get_field(record, 'id', str, where)
    return get_field(record, 'id', int, where)


def warn(where: Path, text: str) -> None:
    """Warn of many annotations of a file at once."""
    print_log(f'{where}: {text}', 'current', logging.WARNING)
