"""Videos with a folder of PNG masks per object: SA-V's validation and test sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS

from ...structures import FrameMasks
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
    MaskReader,
    ObjectIds,
    check_size,
    without_empty,
)
from ..clip_dataset import ListedDataset
from ..io.errors import DEFAULT_LIMITS, ClipDataError, ReadLimits, reports_clip_errors
from ..io.frames import open_frames
from ..io.images import read_labels
from ..io.json_files import check_unique
from ..io.listing import find_folders, is_object_number, safe_join
from .davis import match_masks


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipObjectFolderDataset(ListedDataset):
    """Videos whose objects have a folder each, so that their masks may overlap.

    ``<data_root>/<frame_folder>/<clip>/*.jpg`` (or PNG, …) or ``<clip>.mp4``, and
    ``<data_root>/<mask_folder>/<clip>/<number of the object>/*.png``; every value but 0
    is the object. A frame is annotated if any object has a file for it; the objects
    that have none are then absent.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        frame_folder: Folder of the frames, relative to ``data_root``.
        mask_folder: Folder of the masks, likewise.
    """

    frame_folder: str = 'JPEGImages_24fps'
    mask_folder: str = 'Annotations_6fps'

    def list_videos(self) -> list[str]:
        """Names of the videos, see :meth:`ClipDataset.list_videos`."""
        return self.names_in(
            self.frame_folder, beside=[(self.mask_folder, find_folders)]
        )

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """List the files of a video, without decoding any.

        Raises:
            ClipDataError: If a folder is missing, a mask has no frame, or the name of
                an object's folder is not a unique number.
        """
        frame_folder = self.root / self.frame_folder
        frames = open_frames(frame_folder, name, self.read_limits, self.read_range)
        folder = safe_join(self.root / self.mask_folder, name)
        folder_of = object_folders(folder)
        masks = ObjectFolderMasks(
            folder=folder,
            files={
                object_id: match_masks(folder / number, frames, frame_folder / name)
                for object_id, number in folder_of.items()
            },
            folder_of=folder_of,
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


@dataclass(frozen=True, kw_only=True)
class ObjectFolderMasks(MaskReader):
    """Reads a mask file per object and frame.

    Attributes:
        folder: Has a sub-folder for each object.
        files: For each object its file on each frame, None where it has none.
        folder_of: Sub-folder of each object, by its id.
        limits: Checked before decoding.
    """

    folder: Path
    files: Mapping[int, tuple[str | None, ...]]
    folder_of: Mapping[int, str]
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames for which any object has a file."""
        rows = zip(*self.files.values(), strict=True)
        return tuple(i for i, row in enumerate(rows) if any(row))

    def object_ids(self) -> ObjectIds:
        """Numbers of the folders plus one, as the released reader counts them."""
        return tuple(self.files)

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        ids = self.object_ids() if object_ids is None else object_ids
        self.limits.check_masks(self.folder, len(ids), size)
        masks = FrameMasks(object_ids=ids, masks=np.zeros((len(ids), *size), bool))
        for mask, object_id in zip(masks.masks, ids, strict=True):
            file = self.files[object_id][frame_index]
            if file is not None:
                path = self.folder / self.folder_of[object_id] / file
                labels = read_labels(path, self.limits)
                check_size(path, labels.shape, size)
                np.not_equal(labels, 0, out=mask)
        return without_empty(masks) if object_ids is None else masks


def object_folders(folder: Path) -> dict[int, str]:
    """Find the folders of a video's objects, by the ids of the objects.

    Raises:
        ClipDataError: If there is none, or a name is not a unique number.
    """
    remedy = 'give each object a folder with a number of its own'
    names = sorted(find_folders(folder)) if folder.is_dir() else []
    invalid = [name for name in names if not is_object_number(name)]
    if not names or invalid:
        problem = f'has a folder {invalid[0]!r}' if invalid else 'has no object'
        raise ClipDataError.at(folder, problem, remedy)
    check_unique([int(name) + 1 for name in names], 'objects', folder)
    return {int(name) + 1: name for name in names}
