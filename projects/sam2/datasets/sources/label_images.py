"""Which pixels of a label image are an object: an instance, a class, a region."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ...structures import FrameMasks
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
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
from ..io.images import (
    IMAGE_SUFFIXES,
    VOID_LABEL,
    read_label_map,
)
from ..io.listing import (
    MASK_SUFFIXES,
    find_file,
    find_stems,
    safe_join,
)

# Of the id of a region: class times this, plus its number. No image has more pixels.
CLASS_FACTOR = 2**32
BOTH = (np.minimum, np.maximum)
MAX_REGIONS = 2**16 - 1  # of an image; more are noise
MAX_VISITS = 256  # of a pixel: as many as a noisy image of 8 bits may need
FEWER_REGIONS = (
    "raise min_pixels, or leave regions out of the dataset's rule where the labels are "
    'instances'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """How labels become objects.

    Attributes:
        background: Labels that are no object.
        void: Labels of pixels to be ignored; None for 255 in files of 8 bits and
            nothing in files of 16.
        regions: Makes an object of each connected region of a label, in place of all
            pixels of the label.
        min_pixels: Objects with fewer pixels are left out.
        renamed: Pairs of a label of the file and what it is read as, before all else;
            labels of one new name are one.
    """

    background: tuple[int, ...] = (0,)
    void: tuple[int, ...] | None = None
    regions: bool = False
    min_pixels: int = 1
    renamed: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> 'LabelRule':
        """Read the rule of a config.

        Args:
            settings: Values by name; None for those above.

        Raises:
            ValueError: If a name is unknown.
        """
        settings = dict(settings or {})
        unknown = sorted(set(settings) - set(cls.__dataclass_fields__))
        if unknown:
            msg = f'{unknown} in {settings}: give {", ".join(cls.__dataclass_fields__)}'
            raise ValueError(msg)
        sequences = {k: v for k, v in settings.items() if isinstance(v, Sequence)}
        return cls(**(settings | {k: tuple(v) for k, v in sequences.items()}))

    def rename(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Put new labels in the place of those in a file.

        Args:
            labels: (height, width), uint8 or uint16, as stored.
        """
        if not self.renamed:
            return labels
        table = np.arange(np.iinfo(labels.dtype).max + 1, dtype=labels.dtype)
        for old, new in self.renamed:
            table[old] = new
        renamed: NDArray[Any] = table[labels]
        return renamed

    def void_labels(self, labels: NDArray[Any]) -> tuple[int, ...]:
        """Labels of pixels to be ignored.

        Args:
            labels: (height, width), uint8 or uint16.
        """
        if self.void is not None:
            return self.void
        return (VOID_LABEL,) if labels.dtype == np.uint8 else ()

    def object_map(self, labels: NDArray[Any], where: Path | str) -> NDArray[Any]:
        """Give each object a number of its own.

        Args:
            labels: (height, width), uint8 or uint16.

        Returns:
            (height, width), 0 where no object is. Numbers are labels (label + 1, where
            0 is one of an object), or those of the regions (int64).

        Raises:
            ClipDataError: If there are far more regions than an image has objects.
        """
        skipped = {*self.background, *self.void_labels(labels)}
        shift = 0 if 0 in skipped else 1
        if self.regions:
            return self._regions(labels, skipped, shift, where)
        kept = ~np.isin(labels, list(skipped))
        objects = np.where(kept, labels.astype(np.int32) + shift, 0)
        counts = np.bincount(objects.reshape(-1))
        objects[counts[objects] < self.min_pixels] = 0
        return objects

    def _regions(
        self, labels: NDArray[Any], skipped: set[int], shift: int, where: Path | str
    ) -> NDArray[np.int64]:
        objects = np.zeros(labels.shape, np.int64)
        places = label_places(labels, skipped)
        visits = sum(labels[place].size for place in places.values())
        if visits > MAX_VISITS * labels.size:
            problem = f'has {len(places)} labels, each all over the image'
            raise ClipDataError.at(where, problem, FEWER_REGIONS)
        total = 0
        for label, place in places.items():
            _, numbers, stats, _ = cv2.connectedComponentsWithStats(
                (labels[place] == label).astype(np.uint8), connectivity=8
            )
            kept = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= self.min_pixels) + 1
            total += len(kept)
            if total > MAX_REGIONS:
                problem = f'has more than {MAX_REGIONS} connected regions'
                raise ClipDataError.at(where, problem, FEWER_REGIONS)
            id_of = np.zeros(len(stats), np.int64)
            id_of[kept] = (label + shift) * CLASS_FACTOR + kept
            objects[place] += id_of[numbers]
        return objects


def label_places(
    labels: NDArray[Any], skipped: Collection[int]
) -> dict[int, tuple[slice, slice]]:
    """Find where each label is, all at once.

    Args:
        labels: (height, width), uint8 or uint16.
    """
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind='stable')  # counts 8 and 16 bits, compares nothing
    found, first = np.unique(flat[order], return_index=True)
    rows, columns = np.divmod(order, labels.shape[1])
    boxes = zip(
        *(
            extreme.reduceat(axis, first)
            for axis in (rows, columns)
            for extreme in BOTH
        ),
        strict=True,
    )
    return {
        label: (slice(top, bottom + 1), slice(left, right + 1))
        for label, (top, bottom, left, right) in zip(found.tolist(), boxes, strict=True)
        if label not in skipped
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelImageMasks:
    """Reads the label image of an image.

    Attributes:
        path: The label image.
        rule: How labels become objects.
        limits: Checked before decoding.
    """

    path: Path
    rule: LabelRule
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """Void labels and what to set where they are objects."""
        void = (VOID_LABEL,) if self.rule.void is None else self.rule.void
        labels = ', '.join(map(str, void))
        return f'{labels}, which is void; set rule=dict(void=()) if it is an object'

    def annotated_frames(self) -> tuple[int, ...]:
        """The one frame."""
        return (0,)

    def object_ids(self) -> ObjectIds:
        """Objects of the image. They stand nowhere else: it is decoded."""
        labels = self.rule.rename(read_label_map(self.path, self.limits))
        return unique_objects(self.rule.object_map(labels, self.path))

    def read(
        self,
        frame_index: int,
        size: FrameSize,
        object_ids: ObjectIds | None = None,
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
    """Objects of a map.

    Args:
        objects: (height, width), 0 where no object is.
    """
    return tuple(int(number) for number in np.unique(objects) if number)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipLabelImageDataset(ListedDataset):
    """Images with a PNG of labels each, as clips of one frame.

    ``<data_root>/<image_folder>/<name>.jpg`` (or PNG, …) and
    ``<data_root>/<label_folder>/<name><label_suffix>``, of 8 or 16 bits; both may
    lie in sub-folders.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        image_folder: Folder of the images, relative to ``data_root``.
        label_folder: Folder of the label images, likewise.
        label_suffix: What comes after an image's name in the name of its label image;
            TIFF and BMP are found as well, where images have a folder of their own.
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
        """What a label image's name may end in: ``label_suffix``, in other formats too.

        Beside the images, another format is that of an image.
        """
        tail, dot, ending = self.label_suffix.rpartition('.')
        beside = (self.root / self.image_folder) == (self.root / self.label_folder)
        if beside or dot + ending.lower() not in MASK_SUFFIXES:
            return (self.label_suffix,)
        formats = dict.fromkeys((dot + ending, *MASK_SUFFIXES))
        return tuple(tail + each for each in formats)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its labels, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = safe_join(self.root / self.label_folder, name)
        path = find_file(stem, self._label_suffixes)
        check_file(path)
        frames = open_image(
            self.root / self.image_folder,
            name,
            self.read_limits,
            self.read_range,
            other_than=path,
        )
        masks = LabelImageMasks(
            path=path, rule=self.label_rule, limits=self.read_limits
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)
