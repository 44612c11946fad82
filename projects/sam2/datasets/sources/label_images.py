"""Images with label images: an object is an instance, a class, or a region of one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ...structures import VOID_LABEL, FrameMasks
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
    MaskReader,
    ObjectIds,
    check_size,
)
from ..clip_dataset import ListedDataset
from ..io.errors import (
    DEFAULT_LIMITS,
    ClipDataError,
    ReadLimits,
    check_file,
    reports_clip_errors,
)
from ..io.frames import open_image
from ..io.images import read_label_map
from ..io.listing import IMAGE_SUFFIXES, MASK_SUFFIXES, find_file, find_stems, safe_join

# The id of a region is its class times this, plus its number in the class.
CLASS_FACTOR = 2**32
MAX_REGIONS = 2**16 - 1  # of an image; more are noise
# How often the boxes of all labels may cover the image; noise of 8 bits covers it so.
MAX_COVERAGE = 256
FEWER_REGIONS = (
    "raise min_pixels, or leave regions out of the dataset's rule where the labels are "
    'instances'
)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipLabelImageDataset(ListedDataset):
    """Images with a label image each, as clips of one frame.

    ``<data_root>/<image_folder>/<name>.jpg`` (or PNG, …) and
    ``<data_root>/<label_folder>/<name><label_suffix>``, of 8 or 16 bits; both may
    lie in sub-folders.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        image_folder: Folder of the images, relative to ``data_root``.
        label_folder: Folder of the label images, likewise.
        label_suffix: What follows an image's name in the name of its label image. If
            images have a folder of their own, TIFF and BMP are found as well.
        rule: How labels become objects, see :class:`LabelRule`.
    """

    image_folder: str = 'images'
    label_folder: str = 'labels'
    label_suffix: str = '.png'
    rule: Mapping[str, Any] | None = None

    def __post_init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Check the rule, then list the images."""
        self.label_rule = LabelRule.of(self.rule)
        super().__post_init__(pipeline)

    def list_videos(self) -> list[str]:
        """Names of the images, see :meth:`ClipDataset.list_videos`."""
        find = partial(find_stems, suffixes=self._label_suffixes)
        find_images = partial(find_stems, suffixes=IMAGE_SUFFIXES)
        beside = [(self.image_folder, find_images)]
        return self.names_in(self.label_folder, find, beside)

    @property
    def _label_suffixes(self) -> tuple[str, ...]:
        """``label_suffix``, and with other formats unless images lie there too."""
        tail, dot, extension = self.label_suffix.rpartition('.')
        is_shared = (self.root / self.image_folder) == (self.root / self.label_folder)
        if is_shared or dot + extension.lower() not in MASK_SUFFIXES:
            return (self.label_suffix,)
        formats = dict.fromkeys((dot + extension, *MASK_SUFFIXES))
        return tuple(tail + each for each in formats)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its labels, without decoding any.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = safe_join(self.root / self.label_folder, name)
        path = find_file(stem, self._label_suffixes)
        check_file(path)
        folder = self.root / self.image_folder
        return AnnotatedVideo(
            name=name,
            frames=open_image(
                folder, name, self.read_limits, self.read_range, other_than=path
            ),
            masks=LabelImageMasks(
                path=path, rule=self.label_rule, limits=self.read_limits
            ),
        )


@dataclass(frozen=True, kw_only=True)
class LabelImageMasks(MaskReader):
    """Reads the label image of an image.

    Attributes:
        path: The label image.
        rule: How labels become objects.
        limits: Checked before decoding.
    """

    path: Path
    rule: 'LabelRule'
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """See :class:`MaskReader`."""
        void = (VOID_LABEL,) if self.rule.void is None else self.rule.void
        labels = ', '.join(map(str, void))
        return f'{labels}, which is void; set rule=dict(void=()) if it is an object'

    def object_ids(self) -> ObjectIds:
        """Objects of the image; decodes it, since nothing else names them."""
        labels = self.rule.rename(read_label_map(self.path, self.limits))
        return unique_objects(self.rule.object_map(labels, self.path))

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of the image, see :class:`MaskReader`."""
        labels = self.rule.rename(read_label_map(self.path, self.limits))
        check_size(self.path, labels.shape, size)
        objects = self.rule.object_map(labels, self.path)
        ids = unique_objects(objects) if object_ids is None else object_ids
        self.limits.check_masks(self.path, len(ids), size)
        masks = np.empty((len(ids), *size), bool)
        for mask, object_id in zip(masks, ids, strict=True):
            np.equal(objects, object_id, out=mask)
        void = np.isin(labels, self.rule.void_labels(labels))
        return FrameMasks(
            object_ids=ids, masks=masks, void=void if void.any() else None
        )


def unique_objects(objects: NDArray[Any]) -> ObjectIds:
    """Objects of a map from :meth:`LabelRule.object_map`."""
    return tuple(int(number) for number in np.unique(objects) if number)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """How labels become objects.

    Attributes:
        background: Labels that are no object.
        void: Labels of pixels to ignore; None for 255 in files of 8 bits and nothing in
            files of 16.
        regions: Whether each connected region of a label is an object, instead of all
            pixels of the label.
        min_pixels: Smaller objects are left out.
        renamed: Pairs of a label of the file and what it is replaced by, before all
            else; equal new labels are merged.
    """

    background: tuple[int, ...] = (0,)
    void: tuple[int, ...] | None = None
    regions: bool = False
    min_pixels: int = 1
    renamed: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> 'LabelRule':
        """Read the rule of a config: values by name, None for the defaults.

        Raises:
            ValueError: If a name is unknown.
        """
        settings = dict(settings or {})
        names = cls.__dataclass_fields__
        unknown = sorted(settings.keys() - names.keys())
        if unknown:
            msg = f'{unknown} in {settings}: give {", ".join(names)}'
            raise ValueError(msg)
        sequences = {k: v for k, v in settings.items() if isinstance(v, Sequence)}
        return cls(**(settings | {k: tuple(v) for k, v in sequences.items()}))

    def rename(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Replace labels of a file, (height, width), uint8 or uint16."""
        if not self.renamed:
            return labels
        table = np.arange(np.iinfo(labels.dtype).max + 1, dtype=labels.dtype)
        for old, new in self.renamed:
            table[old] = new
        renamed: NDArray[Any] = table[labels]
        return renamed

    def void_labels(self, labels: NDArray[Any]) -> tuple[int, ...]:
        """Labels of pixels to ignore, for labels of 8 or 16 bits."""
        if self.void is not None:
            return self.void
        return (VOID_LABEL,) if labels.dtype == np.uint8 else ()

    def object_map(self, labels: NDArray[Any], where: Path | str) -> NDArray[Any]:
        """Give each object an id.

        Args:
            labels: (height, width), uint8 or uint16.

        Returns:
            (height, width), 0 where no object is. Ids are the labels (label + 1 if 0 is
            an object), or those of the regions (int64).

        Raises:
            ClipDataError: If there are far more regions than an image has objects.
        """
        skipped = {*self.background, *self.void_labels(labels)}
        shift = 0 if 0 in skipped else 1
        if self.regions:
            return self._regions(labels, skipped, shift, where)
        is_object = ~np.isin(labels, list(skipped))
        objects = np.where(is_object, labels.astype(np.int32) + shift, 0)
        counts = np.bincount(objects.reshape(-1))
        objects[counts[objects] < self.min_pixels] = 0
        return objects

    def _regions(
        self, labels: NDArray[Any], skipped: set[int], shift: int, where: Path | str
    ) -> NDArray[np.int64]:
        objects = np.zeros(labels.shape, np.int64)
        boxes = label_boxes(labels, skipped)
        num_pixels = sum(labels[box].size for box in boxes.values())
        if num_pixels > MAX_COVERAGE * labels.size:
            problem = f'has {len(boxes)} labels, each all over the image'
            raise ClipDataError.at(where, problem, FEWER_REGIONS)
        num_regions = 0
        for label, box in boxes.items():
            _, numbers, stats, _ = cv2.connectedComponentsWithStats(
                (labels[box] == label).astype(np.uint8), connectivity=8
            )
            kept = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= self.min_pixels) + 1
            num_regions += len(kept)
            if num_regions > MAX_REGIONS:
                problem = f'has more than {MAX_REGIONS} connected regions'
                raise ClipDataError.at(where, problem, FEWER_REGIONS)
            id_of = np.zeros(len(stats), np.int64)
            id_of[kept] = (label + shift) * CLASS_FACTOR + kept
            objects[box] += id_of[numbers]
        return objects


def label_boxes(
    labels: NDArray[Any], skipped: Collection[int]
) -> dict[int, tuple[slice, slice]]:
    """Find the bounding boxes of all labels, in one pass over the image.

    Args:
        labels: (height, width), uint8 or uint16.
    """
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind='stable')  # a radix sort, for 8 and 16 bits
    values, first = np.unique(flat[order], return_index=True)
    rows, columns = np.divmod(order, labels.shape[1])
    boxes = zip(
        *(
            extreme.reduceat(axis, first)
            for axis in (rows, columns)
            for extreme in (np.minimum, np.maximum)
        ),
        strict=True,
    )
    return {
        label: (slice(top, bottom + 1), slice(left, right + 1))
        for label, (top, bottom, left, right) in zip(
            values.tolist(), boxes, strict=True
        )
        if label not in skipped
    }
