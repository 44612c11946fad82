"""Videos in DAVIS layout: folders of images, and PNG masks whose values are ids."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.registry import DATASETS

from ...structures import VOID_LABEL, FrameMasks
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
    MaskReader,
    ObjectIds,
    check_size,
)
from ..clip_dataset import ListedDataset
from ..io.errors import DEFAULT_LIMITS, ClipDataError, ReadLimits, reports_clip_errors
from ..io.frames import StoredFrames, open_frames
from ..io.images import present_labels, read_labels, split_labels
from ..io.listing import (
    MASK_SUFFIXES,
    find_folders,
    frame_key,
    list_files,
    safe_join,
    scan_folder,
    stem_of,
)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipPaletteDataset(ListedDataset):
    """Videos in DAVIS layout, such as DAVIS, MOSE, YouTube-VOS and LVOS.

    ``<data_root>/<frame_folder>/<clip>/*.jpg`` (or PNG, …) or ``<clip>.mp4``, and
    ``<data_root>/<mask_folder>/<clip>/*.png``. A mask has the name or the number of its
    frame, in an mp4 the index; frames without a mask are not annotated. If both are in
    one folder, the frames are JPEG.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        frame_folder: Folder of the frames, relative to ``data_root``.
        mask_folder: Folder of the masks, likewise.
        void_label: Label of pixels to ignore; None if all labels are objects (DAVIS
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

        Raises:
            ClipDataError: If a folder is missing, or a mask has no frame.
        """
        frame_folder = self.root / self.frame_folder
        folder = safe_join(self.root / self.mask_folder, name)
        frames = open_frames(
            frame_folder, name, self.read_limits, self.read_range, masks=folder
        )
        masks = PaletteMasks(
            folder=folder,
            files=match_masks(folder, frames, frame_folder / name),
            void_labels=() if self.void_label is None else (self.void_label,),
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


@dataclass(frozen=True, kw_only=True)
class PaletteMasks(MaskReader):
    """Reads one label image per frame.

    Attributes:
        folder: Where they are.
        files: Mask file of each frame, None where it has none.
        void_labels: Labels of pixels to ignore.
        limits: Checked before decoding.
    """

    folder: Path
    files: tuple[str | None, ...]
    void_labels: tuple[int, ...] = (VOID_LABEL,)
    limits: ReadLimits = DEFAULT_LIMITS

    @property
    def void_meaning(self) -> str:
        """See :class:`MaskReader`."""
        labels = ', '.join(map(str, self.void_labels))
        return f'{labels}, which is void; set void_label=None if it is an object'

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames that have a mask."""
        return tuple(i for i, file in enumerate(self.files) if file is not None)

    def object_ids(self) -> ObjectIds:
        """Objects of the video; decodes all masks, since nothing else names them."""
        ids: set[int] = set()
        for file in filter(None, self.files):
            labels = read_labels(self.folder / file, self.limits)
            ids.update(present_labels(labels, skipped={0, *self.void_labels}))
        return tuple(sorted(ids))

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


def match_masks(
    folder: Path, frames: StoredFrames, frame_folder: Path
) -> tuple[str | None, ...]:
    """Find the mask of each frame: the file of the same name or the same number.

    Args:
        folder: Folder of the masks.
        frame_folder: Folder of the frames, for errors.

    Returns:
        Mask file of each frame, None where it has none.

    Raises:
        ClipDataError: If there is no mask, or one has no frame.
    """
    stems = [frames.frame_name(index) for index in range(frames.num_frames)]
    mask_of = {stem_of(file): file for file in list_files(folder, MASK_SUFFIXES)}
    if not mask_of.keys() <= set(stems):  # compare numbers: 00003 and 3 are the same
        stem_of_key = {frame_key(stem): stem for stem in stems}
        mask_of = {
            stem_of_key.get(frame_key(stem), stem): file
            for stem, file in mask_of.items()
        }
    orphans = sorted(mask_of.keys() - set(stems))
    if orphans:
        # Name the missing frame with the suffix of the other frames, if they share one.
        others = scan_folder(frame_folder) if frame_folder.is_dir() else ()
        suffixes = {Path(entry.name).suffix for entry in others}
        suffix = suffixes.pop() if len(suffixes) == 1 else '.jpg'
        problem = f'is missing, but its mask {mask_of[orphans[0]]} exists'
        remedy = 'restore the frame or remove the mask'
        raise ClipDataError.at(frame_folder / f'{orphans[0]}{suffix}', problem, remedy)
    return tuple(mask_of.get(stem) for stem in stems)
