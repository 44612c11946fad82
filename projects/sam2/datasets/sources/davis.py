"""DAVIS-style folders: images as frames, and PNG masks whose values are object ids."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.registry import DATASETS

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
    reports_clip_errors,
)
from ..io.frames import open_frames
from ..io.images import (
    VOID_LABEL,
    present_labels,
    read_labels,
    split_labels,
)
from ..io.listing import (
    MASK_SUFFIXES,
    find_folders,
    frame_key,
    list_files,
    safe_join,
    scan_folder,
    stem_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaletteMasks:
    """Reads label images, one for a frame.

    Attributes:
        folder: Where they are.
        files: File name of the mask of each frame, None where it has none.
        void_labels: Labels of pixels to be ignored.
        limits: Checked before decoding.
    """

    folder: Path
    files: tuple[str | None, ...]
    void_labels: tuple[int, ...] = (VOID_LABEL,)
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """Void labels and what to set where they are an object."""
        labels = ', '.join(map(str, self.void_labels))
        return f'{labels}, which is void; set void_label=None if it is an object'

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return tuple(i for i, file in enumerate(self.files) if file is not None)

    def object_ids(self) -> ObjectIds:
        """Objects of the video. They stand nowhere else: all masks are decoded."""
        skipped = {0, *self.void_labels}
        found: set[int] = set()
        for file in filter(None, self.files):
            labels = read_labels(self.folder / file, self.limits)
            found.update(present_labels(labels, skipped))
        return tuple(sorted(found))

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        path = self.folder / str(self.files[frame_index])
        labels = read_labels(path, self.limits)
        check_size(path, labels.shape, size)
        if object_ids is None:
            object_ids = present_labels(labels, skipped={0, *self.void_labels})
        self.limits.check_masks(path, len(object_ids), size)
        return split_labels(labels, self.void_labels, object_ids)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipPaletteDataset(ListedDataset):
    """Clips in DAVIS layout, of which DAVIS, MOSE, YouTube-VOS and LVOS are.

    ``<data_root>/<frame_folder>/<clip>/*.jpg`` (or PNG, …) or ``<clip>.mp4``,
    ``<data_root>/<mask_folder>/<clip>/*.png``. Where both are in one folder, the frames
    are JPEG.
    Frames may be without a mask. Masks of an mp4 are called by the number of the frame.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        frame_folder: Folder of the frames, relative to ``data_root``.
        mask_folder: Folder of the masks, likewise.
        void_label: Label of pixels to be ignored; None where all are objects (DAVIS
            2016 writes its one object as 255).
    """

    frame_folder: str = 'JPEGImages'
    mask_folder: str = 'Annotations'
    void_label: int | None = VOID_LABEL

    def list_videos(self) -> list[str]:
        """Names of the videos, see :meth:`ClipDataset.list_videos`."""
        return self.names_in(
            self.frame_folder, beside=[(self.mask_folder, find_folders)]
        )

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """List the files of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If a folder is missing, or a mask has no frame.
        """
        frame_folder = self.root / self.frame_folder
        folder = safe_join(self.root / self.mask_folder, name)
        frames = open_frames(
            frame_folder, name, self.read_limits, self.read_range, masks=folder
        )
        stems = tuple(frames.frame_name(i) for i in range(frames.num_frames))
        masks = PaletteMasks(
            folder=folder,
            files=match_masks(folder, stems, frame_folder / name),
            void_labels=() if self.void_label is None else (self.void_label,),
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


def match_masks(
    folder: Path, stems: tuple[str, ...], frames: Path
) -> tuple[str | None, ...]:
    """Find the mask of each frame: that of its name or, but for zeros, its number.

    Returns:
        File name of each frame's mask, None where it has none.

    Raises:
        ClipDataError: If there is no mask, or one has no frame.
    """
    mask_of = {stem_of(file): file for file in list_files(folder, MASK_SUFFIXES)}
    if not mask_of.keys() <= set(stems):
        stem_of_key = {frame_key(stem): stem for stem in stems}
        keys = {stem: frame_key(stem) for stem in mask_of}
        mask_of = {stem_of_key.get(keys[s], s): file for s, file in mask_of.items()}
    orphans = sorted(set(mask_of) - set(stems))
    if orphans:
        problem = f'is missing, its mask {mask_of[orphans[0]]} is there'
        remedy = 'restore the frame or drop the mask'
        others = scan_folder(frames) if frames.is_dir() else ()  # not so of an mp4
        endings = {Path(entry.name).suffix for entry in others}
        ending = '.jpg' if len(endings) != 1 else endings.pop()
        raise ClipDataError.at(frames / f'{orphans[0]}{ending}', problem, remedy)
    return tuple(mask_of.get(stem) for stem in stems)
