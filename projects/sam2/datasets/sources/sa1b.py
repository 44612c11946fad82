"""SA-1B: an image and a JSON file with all its masks, as a clip of one frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from mmengine.registry import DATASETS

from ..annotated_video import AnnotatedVideo, FrameSize, ObjectIds
from ..clip_dataset import ListedDataset
from ..io.errors import DEFAULT_LIMITS, ReadLimits, check_file, reports_clip_errors
from ..io.frames import open_image
from ..io.images import image_size
from ..io.json_files import check_type, get_field, read_json
from ..io.listing import IMAGE_SUFFIXES, find_file, find_stems, safe_join
from .segmentations import EncodedMasks, count_rle_pixels


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
        min_scores: Smallest value of some scores of a mask, by their names in the file
            (``stability_score``, ``predicted_iou``, …); a mask without the score stays.
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

        Raises:
            ClipDataError: If a file is missing.
        """
        folder = self.root / self.image_folder
        frames = open_image(folder, name, self.read_limits, self.read_range)
        path = find_file(safe_join(folder, name), ('.json',))
        check_file(path)
        masks = SA1BMasks(
            path=path,
            image=frames.path(0),
            min_scores=dict(self.min_scores or {}),
            max_area_share=self.max_area_share,
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


@dataclass(frozen=True, kw_only=True)
class SA1BMasks(EncodedMasks):
    """Reads the masks of an image; its file is read once.

    Attributes:
        path: The JSON file.
        image: The image file.
        min_scores: Smallest value of some scores; a mask without the score stays.
        max_area_share: Largest share of the image that a mask may cover.
        limits: Checked before decoding.
    """

    path: Path
    image: Path
    min_scores: Mapping[str, float] = field(default_factory=dict)
    max_area_share: float = 1.0
    limits: ReadLimits = DEFAULT_LIMITS

    def object_ids(self) -> ObjectIds:
        """Indices of the masks among those that are kept."""
        return tuple(self._kept)

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """All objects that are kept, since each has a pixel."""
        return tuple(self._kept)

    def codes(self, frame_index: int) -> Mapping[int, object]:
        """See :class:`EncodedMasks`."""
        return self._kept

    def where(self, frame_index: int) -> str:
        """See :class:`EncodedMasks`."""
        return str(self.path)

    @cached_property
    def _kept(self) -> dict[int, object]:
        """Encoded masks that are neither empty nor filtered out, by their index."""
        height, width = image_size(self.image, self.limits)
        content = read_json(self.path, self.limits)
        kept: list[object] = []
        for index, annotation in enumerate(
            get_field(content, 'annotations', list, self.path)
        ):
            where = f'{self.path}, annotations[{index}]'
            code = get_field(annotation, 'segmentation', dict, where)
            area = count_rle_pixels(code, (height, width), where)
            is_good = all(
                check_type(annotation[score], float, score, where) >= least
                for score, least in self.min_scores.items()
                if score in annotation
            )
            if is_good and 0 < area <= self.max_area_share * height * width:
                kept.append(code)
        return dict(enumerate(kept))
