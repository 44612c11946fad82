"""COCO's instance annotations: images as clips of one frame."""

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
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
    ObjectIds,
    check_size,
)
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
from .records import (
    Record,
    RecordDataset,
    checked_name,
    damaged_record,
)
from .segmentations import (
    check_polygons,
    decode_objects,
    decode_segmentation,
    is_area,
    seen_objects,
)

# Values of `iscrowd`; tuples, since a damaged value may not be hashable.
CROWD_FLAGS = (1, '1')
OBJECT_FLAGS = (0, '0', None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoMasks:
    """Reads the masks of an image.

    Attributes:
        where: File of the annotations and name of the image, for errors.
        size: Height and width that the file gives the image.
        code_of: Encoded mask of each object, by its id.
        crowds: Encoded masks of crowds, whose pixels are ignored.
        limits: Checked before decoding.
    """

    where: str
    size: FrameSize
    code_of: Mapping[int, object]
    crowds: tuple[object, ...] = ()
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """What is void and what to set where it is an object."""
        return 'crowds, which are void; set crowd_as_objects=True to take them'

    def annotated_frames(self) -> tuple[int, ...]:
        """The one frame."""
        return (0,)

    def object_ids(self) -> ObjectIds:
        """Ids of the annotations."""
        return tuple(self.code_of)

    def read(
        self,
        frame_index: int,
        size: FrameSize,
        object_ids: ObjectIds | None = None,
    ) -> FrameMasks:
        """Decode masks of the image, see :class:`MaskReader`."""
        check_size(self.where, self.size, size)
        masks = decode_objects(self.code_of, object_ids, size, self.where, self.limits)
        if not self.crowds:
            return masks
        num_masks = len(self.code_of) + len(self.crowds)  # decoded one by one
        self.limits.check_masks(self.where, num_masks, size)
        check_polygons(self.code_of, size, self.where)
        check_polygons(dict(enumerate(self.crowds)), size, f'{self.where}, crowds')
        void = np.zeros(size, bool)
        for code in self.crowds:
            void |= decode_segmentation(code, size, f'{self.where}, a crowd')
        # An object hides a crowd, also one that was not asked for.
        decoded = dict(zip(masks.object_ids, masks.masks, strict=True))
        for object_id, code in self.code_of.items():
            mask = decoded.get(object_id)
            if mask is None:
                mask = decode_segmentation(code, size, self.where)
            np.greater(void, mask, out=void)
        return replace(masks, void=void if void.any() else None)

    def seen(
        self,
        frame_index: int,
        size: FrameSize,
    ) -> ObjectIds:
        """Objects with a pixel, see :class:`ObjectLister`."""
        check_size(self.where, self.size, size)
        return seen_objects(self.code_of, size, self.where)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipCocoDataset(RecordDataset):
    """Images with COCO's instance annotations, as clips of one frame.

    ``<data_root>/<image_folder>/<file_name>``, and one JSON file with ``images`` and
    ``annotations``; masks are polygons or run lengths. Pixels of a crowd are void,
    unless they are an object's. Images without an object are left out. A warning says
    how many annotations are crowds, or have no mask.

    A clip is called by its image's file name, without the ending unless it tells two
    images apart (``a.jpg``, ``a.png``); an entry of the file that is no image, by its
    position (``images[3]``).

    Beside the options of :class:`RecordDataset`:

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.
        image_folder: Folder of the images, likewise.
        crowd_as_objects: Takes crowds (``iscrowd=1``) as objects like all others.
            Some tools write every mask so.
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

        Args:
            name: One of :meth:`list_videos`.

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
        check_unique([each['id'] for each in objects], 'annotations', where)
        masks = CocoMasks(
            where=where,
            size=(record['height'], record['width']),
            code_of={each['id']: each.get('segmentation') for each in objects},
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


def image_records(
    content: object, where: Path, *, crowd_as_objects: bool = False
) -> Iterator[tuple[str, Record | None]]:
    """Put the annotations of a file to their images.

    Args:
        crowd_as_objects: See :class:`ClipCocoDataset`.

    Yields:
        Name and record of each image, None where it has no object; of a damaged entry,
        its position and what is wrong with it, and its name if it has one.

    Raises:
        ClipDataError: If the file has another form, two images share an id, or no
            annotation is an object with a mask.
    """
    images = get_field(content, 'images', list, where)
    groups = group_annotations(
        content, 'image_id', owner_ids(images, 'images', where), where, crowd_as_objects
    )
    maskless = MasklessCount()
    names = _NamesOfImages(images)
    for position, image in enumerate(images):
        place = f'images[{position}]'
        image_id, name = None, None
        try:
            image_id = read_owner_id(image, f'{where}, {place}')
            name = names.of(image, f'{where}, {place}')
            annotations = groups.get(image_id, [])
            objects = [
                each for each in annotations if crowd_as_objects or not is_crowd(each)
            ]
            has_mask = [maskless.add(annotation) for annotation in objects]
            if any(has_mask):
                yield name, _image_record(image, annotations, f'{where}, {place}')
            else:
                yield name, None
        except ClipDataError as error:
            if image_id is None or image_id in groups:
                yield place, damaged_record(error)
            if name is not None:  # lists may name it
                yield name, None
    maskless.warn(where)


class _NamesOfImages:
    """Names of images: their files without the ending, if that is of one file alone."""

    def __init__(self, images: list[Any]) -> None:
        files = {
            normalize_name(image['file_name'])
            for image in images
            if isinstance(image, Mapping) and isinstance(image.get('file_name'), str)
        }
        self._num_files = Counter(map(without_suffix, files))

    def of(self, image: object, where: str) -> str:
        """Name of an image."""
        file_name = normalize_name(get_field(image, 'file_name', str, where))
        stem = without_suffix(file_name)
        return checked_name(file_name if self._num_files[stem] > 1 else stem, where)


def _image_record(image: object, annotations: list[Record], where: str) -> Record:
    """Record of an image."""
    return {
        'file_name': get_field(image, 'file_name', str, where),
        'height': get_field(image, 'height', int, where),
        'width': get_field(image, 'width', int, where),
        'annotations': annotations,
    }


class MasklessCount:
    """Counts annotations that cannot cover a pixel, to warn of them in one line."""

    def __init__(self) -> None:
        self._num_objects = 0
        self._num_maskless = 0
        self._num_flat = 0
        self._first_flat: object = None

    def add(self, annotation: Record) -> bool:
        """Count an annotation.

        Returns:
            Whether it has polygons or run lengths, not only a box.
        """
        code = annotation.get('segmentation')
        has_mask = bool(code)
        if isinstance(code, list):
            flat = [polygon for polygon in code if _is_flat(polygon)]
            has_mask = len(flat) < len(code)
            if flat and not self._num_flat:
                self._first_flat = annotation.get('id')
            self._num_flat += len(flat)
        self._num_objects += 1
        self._num_maskless += not has_mask
        return has_mask

    def warn(self, where: Path) -> None:
        """Warn of annotations without a mask.

        Raises:
            ClipDataError: If none has one.
        """
        if self._num_maskless and self._num_maskless == self._num_objects:
            problem = f'none of {self._num_objects} annotations has a segmentation'
            remedy = 'add masks: boxes alone cannot be learnt from'
            raise ClipDataError.at(where, problem, remedy)
        if self._num_maskless:
            warn(
                where,
                f'{self._num_maskless} of {self._num_objects} annotations have no '
                f'segmentation and are no objects',
            )
        if self._num_flat:
            warn(
                where,
                f'{self._num_flat} polygons of fewer than three corners cover nothing, '
                f'the first in annotation {describe(self._first_flat)}',
            )


def _is_flat(polygon: object) -> bool:
    """Whether a polygon has too few corners; a list of pairs is damaged instead."""
    return (
        isinstance(polygon, list)
        and not is_area(polygon)
        and not any(isinstance(value, list) for value in polygon)
    )


def warn(where: Path, text: str) -> None:
    """Warn of something that concerns many annotations of a file."""
    print_log(f'{where}: {text}', 'current', logging.WARNING)


def read_owner_id(record: object, where: str) -> int | str:
    """Id of an image or a video; some tools write it as text."""
    if isinstance(record, Mapping) and isinstance(record.get('id'), str):
        return get_field(record, 'id', str, where)
    return get_field(record, 'id', int, where)


def owner_ids(records: list[Any], key: str, where: Path) -> set[int | str]:
    """Ids of the images or videos of a file.

    Raises:
        ClipDataError: If an id occurs twice.
    """
    entries = [record for record in records if isinstance(record, Mapping)]
    given = [to_whole_number(record.get('id')) for record in entries]
    ids = [each for each in given if isinstance(each, int | str)]
    check_unique(ids, key, where)
    return set(ids)


def group_annotations(
    content: object,
    key: str,
    ids: set[int | str],
    where: Path,
    crowd_as_objects: bool,
) -> dict[int | str, list[Record]]:
    """Group annotations by what they belong to.

    Returns:
        The annotations by that id, if at least one of them is an object.

    Raises:
        ClipDataError: If none is.
    """
    annotations = get_field(content, 'annotations', list, where)
    grouped: dict[int | str, list[Record]] = {}
    stray = []
    for position, annotation in enumerate(annotations):
        is_object = isinstance(annotation, Mapping)
        owner = to_whole_number(annotation.get(key)) if is_object else None
        if isinstance(owner, int | str) and owner in ids:
            grouped.setdefault(owner, []).append(annotation)
        else:
            stray.append(f'annotations[{position}] with {key} {describe(owner)}')
    of_file = [each for group in grouped.values() for each in group]
    num_crowds = sum(is_crowd(annotation) for annotation in of_file)
    if not annotations:
        problem, remedy = 'its list of annotations is empty', 'give another file'
        raise ClipDataError.at(where, problem, remedy)
    if not of_file:
        problem = (
            f'none of {len(annotations)} annotations belongs to anything in the file, '
            f'e.g. {stray[0]}'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    if num_crowds == len(of_file) and not crowd_as_objects:
        problem = f'all {num_crowds} annotations are crowds (iscrowd=1), no objects'
        remedy = 'set crowd_as_objects=True in the dataset to take them as objects'
        raise ClipDataError.at(where, problem, remedy)
    if stray:
        msg = (
            f'{len(stray)} of {len(annotations)} annotations belong to nothing in the '
            f'file and are left out, e.g. {stray[0]}'
        )
        warn(where, msg)
    if num_crowds and not crowd_as_objects:
        msg = (
            f'{num_crowds} of {len(of_file)} annotations are crowds (iscrowd=1), no '
            f'objects; set crowd_as_objects=True in the dataset to take them as objects'
        )
        warn(where, msg)
    return {
        owner: group
        for owner, group in grouped.items()
        if crowd_as_objects or not all(map(is_crowd, group))
    }


def is_crowd(annotation: Record) -> bool:
    """Whether an annotation is a crowd; tools write the flag as number or text."""
    return annotation.get('iscrowd') in CROWD_FLAGS


def split_crowds(
    annotations: list[Record], where: str, *, crowd_as_objects: bool = False
) -> tuple[list[Record], list[Record]]:
    """Separate objects from crowds.

    Args:
        annotations: Annotations of an image or a video; ids like 5.0 become 5.

    Raises:
        ClipDataError: If an annotation has no id, or its ``iscrowd`` is neither 0
            nor 1.
    """
    for annotation in annotations:
        annotation['id'] = get_field(annotation, 'id', int, where)
        flag = annotation.get('iscrowd')
        if flag not in (*CROWD_FLAGS, *OBJECT_FLAGS):
            problem = (
                f'annotation {annotation["id"]} has iscrowd {describe(flag)}, expected '
                f'0 or 1'
            )
            raise ClipDataError.at(where, problem, FIX_FILE)
    if crowd_as_objects:
        return annotations, []
    crowds = [annotation for annotation in annotations if is_crowd(annotation)]
    objects = [annotation for annotation in annotations if not is_crowd(annotation)]
    return objects, crowds
