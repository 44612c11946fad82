"""SA-1B: an image and a JSON file with all its masks, as clips of one frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from ...structures import FrameMasks
from ..annotated_video import AnnotatedVideo, FrameSize, ObjectIds
from ..clip_dataset import ListedDataset
from ..io.errors import (
    DEFAULT_LIMITS,
    ReadLimits,
    check_file,
    reports_clip_errors,
)
from ..io.frames import ImageFrames
from ..io.images import IMAGE_SUFFIXES, image_size
from ..io.json_files import check_type, get_field, read_json
from ..io.listing import find_file, find_stems, safe_join
from .segmentations import (
    count_rle_pixels,
    decode_objects,
)


@dataclass(frozen=True, kw_only=True)
class SA1BMasks:
    """Reads the masks of an image; its file is read once.

    Attributes:
        path: Its JSON file.
        image: Its image file.
        min_scores: Least value of some scores; a mask without the score stays.
        max_area_share: Largest share of the image that a mask may cover.
        limits: Checked before decoding.
    """

    path: Path
    image: Path
    min_scores: Mapping[str, float] = field(default_factory=dict)
    max_area_share: float = 1.0
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """The one frame."""
        return (0,)

    def object_ids(self) -> ObjectIds:
        """Positions of the masks among those that are kept."""
        return tuple(range(len(self._kept)))

    def read(
        self,
        frame_index: int,
        size: FrameSize,
        object_ids: ObjectIds | None = None,
    ) -> FrameMasks:
        """Decode masks of the image, see :class:`MaskReader`."""
        code_of = dict(enumerate(self._kept))
        return decode_objects(code_of, object_ids, size, self.path, self.limits)

    def seen(
        self,
        frame_index: int,
        size: FrameSize,
    ) -> ObjectIds:
        """Objects that are kept, see :class:`ObjectLister`; all have a pixel."""
        return tuple(range(len(self._kept)))

    @cached_property
    def _kept(self) -> list[dict[str, Any]]:
        """Encoded masks that are neither empty nor filtered out."""
        size = image_size(self.image, self.limits)
        content = read_json(self.path, self.limits)
        annotations = get_field(content, 'annotations', list, self.path)
        most = self.max_area_share * size[0] * size[1]
        kept = []
        for position, annotation in enumerate(annotations):
            where = f'{self.path}, annotations[{position}]'
            code = get_field(annotation, 'segmentation', dict, where)
            area = count_rle_pixels(code, size, where)
            if 0 < area <= most and self._scores_well(annotation, where):
                kept.append(code)
        return kept

    def _scores_well(self, annotation: Mapping[str, object], where: str) -> bool:
        return all(
            check_type(annotation[name], float, name, where) >= least
            for name, least in self.min_scores.items()
            if name in annotation
        )


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipSA1BDataset(ListedDataset):
    """Images with many masks, as clips of one frame.

    ``<data_root>/<image_folder>/<name>.jpg`` (or PNG, …) beside ``<name>.json``; both
    may lie in sub-folders (``sa_000020/sa_223750``). Masks without a pixel are left
    out.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        image_folder: Folder of images and annotations, relative to ``data_root``.
        min_scores: Least value of some scores of a mask, by their names in the file
            (``stability_score``, ``predicted_iou``, …); a mask that lacks one stays.
        max_area_share: Largest share of the image that a mask may cover.
    """

    image_folder: str = '.'
    min_scores: Mapping[str, float] | None = None
    max_area_share: float = 1.0

    def list_videos(self) -> list[str]:
        """Names of the images, see :meth:`ClipDataset.list_videos`."""
        find = partial(find_stems, suffixes=('.json',))
        find_images = partial(find_stems, suffixes=IMAGE_SUFFIXES)
        beside = [(self.image_folder, find_images)]
        return self.names_in(self.image_folder, find, beside)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its masks, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = safe_join(self.root / self.image_folder, name)
        image, path = find_file(stem, IMAGE_SUFFIXES), find_file(stem, ('.json',))
        for file in (image, path):
            check_file(file)
        frames = ImageFrames(
            folder=image.parent,
            files=(image.name,),
            limits=self.read_limits,
            intensity_range=self.read_range,
        )
        masks = SA1BMasks(
            path=path,
            image=image,
            min_scores=dict(self.min_scores or {}),
            max_area_share=self.max_area_share,
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)
