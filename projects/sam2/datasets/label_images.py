"""Images with a label image each, semantic or instance, as clips of one frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets.annotated_video import (
    AnnotatedVideo,
    FrameSize,
    ObjectIds,
    check_size,
)
from projects.sam2.datasets.errors import ClipDataError, reports_clip_errors
from projects.sam2.datasets.file_endings import MASK_SUFFIXES, find_file
from projects.sam2.datasets.frames import ImageFrames
from projects.sam2.datasets.label_rules import LabelRule
from projects.sam2.datasets.limits import (
    COMPLETE_DATA,
    DEFAULT_LIMITS,
    ReadLimits,
    check_file,
)
from projects.sam2.datasets.listed_dataset import ListedDataset
from projects.sam2.datasets.listing import child, find_stems
from projects.sam2.datasets.reading import (
    IMAGE_SUFFIXES,
    VOID_LABEL,
    IntensityRange,
    read_label_map,
)
from projects.sam2.structures import FrameMasks


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
        frame_index: int,  # noqa: ARG002  there is one
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

    Returns:
        Their numbers, ascending.
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

        Returns:
            Its reader.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = child(self.root / self.label_folder, name)
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


def open_image(
    folder: Path,
    name: str,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
    *,
    other_than: Path | None = None,
) -> ImageFrames:
    """Find an image by its name without the ending.

    Args:
        folder: Where it is.
        name: Relative path without the ending.
        limits: Checked before decoding.
        intensity_range: Of an image of more than 8 bits.
        other_than: Its label image, which may be beside it.

    Returns:
        A video of one frame.

    Raises:
        ClipDataError: If there is none, or more than one.
    """
    stem = child(folder, name)
    file = find_file(stem, IMAGE_SUFFIXES, other_than=other_than)
    if file.is_file():
        return ImageFrames(
            folder=file.parent,
            files=(file.name,),
            limits=limits,
            intensity_range=intensity_range,
        )
    problem = f'is missing (as {", ".join(IMAGE_SUFFIXES)})'
    raise ClipDataError.at(stem, problem, COMPLETE_DATA)
