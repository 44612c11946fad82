"""DAVIS-style folders: JPEG frames, and PNG masks whose values are object ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.listing import list_files, list_names, stem_of
from projects.sam2.datasets.reading import (
    JPEG_SUFFIXES,
    image_size,
    read_frame,
    read_labels,
    split_labels,
)
from projects.sam2.structures import FrameMasks


@dataclass(frozen=True, slots=True, kw_only=True)
class PaletteVideoSource:
    """Reads a video of a DAVIS-style folder.

    Attributes:
        name: Name of the video.
        frame_folder: Folder of its frames.
        mask_folder: Folder of its masks.
        frame_files: File names of the frames, in their order.
        mask_files: File name of the mask of each frame, None where it has none.
    """

    name: str
    frame_folder: Path
    mask_folder: Path
    frame_files: tuple[str, ...]
    mask_files: tuple[str | None, ...]

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.frame_files)

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return stem_of(self.frame_files[frame_index])

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        return read_frame(self.frame_folder / self.frame_files[frame_index])

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame.

        Args:
            frame_index: Position in the video.

        Returns:
            The masks, or None where the frame is not annotated.

        Raises:
            ClipDataError: If the mask is damaged or of another size than its frame.
        """
        mask_file = self.mask_files[frame_index]
        if mask_file is None:
            return None
        path = self.mask_folder / mask_file
        labels = read_labels(path)
        size = image_size(self.frame_folder / self.frame_files[frame_index])
        if labels.shape != size:
            problem = f'mask of {labels.shape} beside a frame of {size} (height, width)'
            remedy = 'write the mask at the size of its frame'
            raise ClipDataError.at(path, problem, remedy)
        return split_labels(labels)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return tuple(i for i, file in enumerate(self.mask_files) if file is not None)


@DATASETS.register_module()
class ClipPaletteDataset(ClipDataset):
    """Clips in DAVIS layout; DAVIS and MOSE are of this kind.

    ``<data_root>/<frame_folder>/<clip>/*.jpg``,
    ``<data_root>/<mask_folder>/<clip>/*.png``.
    Frames may be without a mask; value 255 is void.

    Args:
        data_root: Folder of the data.
        file_list: Text file with one clip a line, relative to ``data_root``; without
            it, all clips that have a folder of frames.
        exclude_list: Text file of clips to leave out, likewise.
        frame_folder: Folder of the frames, relative to ``data_root``.
        mask_folder: Folder of the masks, likewise.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        file_list: str | None = None,
        exclude_list: str | None = None,
        frame_folder: str = 'JPEGImages',
        mask_folder: str = 'Annotations',
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        self.root = Path(data_root)
        self.file_list = file_list
        self.exclude_list = exclude_list
        self.frame_folder = self.root / frame_folder
        self.mask_folder = self.root / mask_folder
        super().__init__(
            data_root=data_root,
            pipeline=pipeline,
            max_bad_share=max_bad_share,
        )

    def list_videos(self) -> list[str]:
        """Names of the videos, without opening any.

        Returns:
            The names, in the order of their list.

        Raises:
            FileNotFoundError: If a list or the folder of frames is missing.
            ValueError: If no video is left.
        """
        return list_names(
            data_root=self.root,
            folder=self.frame_folder,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
        )

    def open_video(self, name: str) -> PaletteVideoSource:
        """List the files of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its reader.

        Raises:
            ClipDataError: If a folder is missing, or a mask has no frame.
        """
        frame_files = list_files(self.frame_folder / name, JPEG_SUFFIXES)
        mask_files = list_files(self.mask_folder / name, ('.png',))
        mask_of = {stem_of(file): file for file in mask_files}
        stems = [stem_of(file) for file in frame_files]
        orphans = sorted(set(mask_of) - set(stems))
        if orphans:
            path = self.frame_folder / name / f'{orphans[0]}.jpg'
            problem = f'is missing, its mask {mask_of[orphans[0]]} is there'
            raise ClipDataError.at(path, problem, 'restore the frame or drop the mask')
        return PaletteVideoSource(
            name=name,
            frame_folder=self.frame_folder / name,
            mask_folder=self.mask_folder / name,
            frame_files=frame_files,
            mask_files=tuple(mask_of.get(stem) for stem in stems),
        )
