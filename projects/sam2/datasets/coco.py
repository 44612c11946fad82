"""COCO's instance annotations: images as clips of one frame."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from projects.sam2.datasets.annotated_video import (
    AnnotatedVideo,
    FrameSize,
    ObjectIds,
    check_size,
)
from projects.sam2.datasets.errors import ClipDataError, reports_clip_errors
from projects.sam2.datasets.file_endings import without_suffix
from projects.sam2.datasets.frames import ImageFrames
from projects.sam2.datasets.json_files import (
    MEND_FILE,
    refuse_doubles,
    take,
)
from projects.sam2.datasets.limits import DEFAULT_LIMITS, ReadLimits, check_file
from projects.sam2.datasets.listing import child
from projects.sam2.datasets.record_dataset import RecordDataset
from projects.sam2.datasets.record_store import Record
from projects.sam2.datasets.segmentations import (
    decode_objects,
    decode_segmentation,
    seen_objects,
)
from projects.sam2.structures import FrameMasks


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

    def annotated_frames(self) -> tuple[int, ...]:
        """The one frame."""
        return (0,)

    def object_ids(self) -> ObjectIds:
        """Ids of the annotations."""
        return tuple(self.code_of)

    def read(
        self,
        frame_index: int,  # noqa: ARG002  there is one
        size: FrameSize,
        object_ids: ObjectIds | None = None,
    ) -> FrameMasks:
        """Decode masks of the image, see :class:`MaskReader`."""
        check_size(self.where, self.size, size)
        masks = decode_objects(self.code_of, object_ids, size, self.where, self.limits)
        if not self.crowds:
            return masks
        codes = dict(enumerate(self.crowds))
        crowds = decode_objects(codes, None, size, self.where, self.limits)
        void = np.any(crowds.masks, axis=0)
        for code in self.code_of.values():  # also those that were not asked for
            void &= ~decode_segmentation(code, size, self.where)
        return replace(masks, void=void if void.any() else None)

    def seen(
        self,
        frame_index: int,  # noqa: ARG002  there is one
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
    unless they are an object's. Images without an object are left out.

    A clip is called by its image's file name, without the ending.

    Beside the options of :class:`RecordDataset`:

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.
        image_folder: Folder of the images, likewise.
    """

    image_folder: str = '.'

    def records_in(self, content: object) -> Iterator[tuple[str, Record]]:
        """Records of the images, see :meth:`RecordDataset.records_in`."""
        return image_records(content, self.annotation_path)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its masks, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its reader.

        Raises:
            ClipDataError: If the image is missing or not in the file, or an annotation
                is damaged.
        """
        record = self.read_record(name)
        where = f'{self.annotation_path} (image {name})'
        folder = self.root / self.image_folder
        check_file(child(folder, record['file_name']))
        objects, crowds = split_crowds(record['annotations'], where)
        refuse_doubles([each['id'] for each in objects], 'annotations', where)
        masks = CocoMasks(
            where=where,
            size=(record['height'], record['width']),
            code_of={each['id']: each.get('segmentation') for each in objects},
            crowds=tuple(each.get('segmentation') for each in crowds),
            limits=self.read_limits,
        )
        frames = ImageFrames(
            folder=folder, files=(record['file_name'],), limits=self.read_limits
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


def image_records(content: object, where: Path) -> Iterator[tuple[str, Record]]:
    """Put the annotations of a file to their images.

    Args:
        content: What the file holds.
        where: The file, for errors.

    Yields:
        Name and record of each image that has an object.

    Raises:
        ClipDataError: If the file has another form, or two images share an id.
    """
    images = take(content, 'images', list, where)
    ids = [take(image, 'id', int, where) for image in images]
    refuse_doubles(ids, 'images', where)
    annotations = group_annotations(content, 'image_id', set(ids), where)
    for image_id, image in zip(ids, images, strict=True):
        if image_id not in annotations:
            continue
        file_name = take(image, 'file_name', str, where)
        record = {
            'file_name': file_name,
            'height': take(image, 'height', int, where),
            'width': take(image, 'width', int, where),
            'annotations': annotations[image_id],
        }
        yield without_suffix(file_name), record


def group_annotations(
    content: object, key: str, ids: set[int], where: Path
) -> dict[int, list[Record]]:
    """Group annotations by what they belong to.

    Args:
        content: What the file holds.
        key: Name of the id of an image or a video.
        ids: Ids that there are.
        where: The file, for errors.

    Returns:
        The annotations by that id, if at least one of them is no crowd.

    Raises:
        ClipDataError: If an annotation has no id or belongs to nothing.
    """
    grouped: dict[int, list[Record]] = {}
    for annotation in take(content, 'annotations', list, where):
        owner = take(annotation, key, int, where)
        take(annotation, 'id', int, where)
        if owner not in ids:
            problem = f'has an annotation of {key} {owner}, which is not in the file'
            raise ClipDataError.at(where, problem, MEND_FILE)
        grouped.setdefault(owner, []).append(annotation)
    return {
        owner: found
        for owner, found in grouped.items()
        if not all(each.get('iscrowd') for each in found)
    }


def split_crowds(
    annotations: list[Record], where: str
) -> tuple[list[Record], list[Record]]:
    """Tell objects from crowds.

    Args:
        annotations: Annotations of an image or a video.
        where: File, for the error.

    Returns:
        Those of single objects and those of crowds.

    Raises:
        ClipDataError: If ``iscrowd`` is neither 0 nor 1.
    """
    flags = (0, 1)  # what is compared may not be hashable
    strange = [each for each in annotations if each.get('iscrowd', 0) not in flags]
    if strange:
        problem = f'annotation {strange[0]["id"]} has an iscrowd that is not 0 or 1'
        raise ClipDataError.at(where, problem, MEND_FILE)
    objects = [each for each in annotations if not each.get('iscrowd')]
    return objects, [each for each in annotations if each.get('iscrowd')]
