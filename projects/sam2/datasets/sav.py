"""SA-V's training set: JSON files with the masks of every fourth frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmengine.registry import DATASETS

from projects.sam2.datasets.annotated_video import (
    AnnotatedVideo,
    FrameSize,
    ObjectIds,
)
from projects.sam2.datasets.errors import ClipDataError, reports_clip_errors
from projects.sam2.datasets.file_endings import find_file
from projects.sam2.datasets.frames import FrameReader, open_frames
from projects.sam2.datasets.limits import COMPLETE_DATA, DEFAULT_LIMITS, ReadLimits
from projects.sam2.datasets.listed_dataset import ListedDataset
from projects.sam2.datasets.listing import FindNames, child, find_stems, find_videos
from projects.sam2.datasets.sav_json import SAVIndex, index_sav
from projects.sam2.datasets.segmentations import decode_objects, seen_objects
from projects.sam2.structures import FrameMasks

KINDS = ('manual', 'auto')


@dataclass(frozen=True, slots=True, kw_only=True)
class SAVMasks:
    """Reads the masks of a video from its annotation files.

    Attributes:
        indices: Of the files; objects of the second are numbered after the first's.
        position_of: Position among the annotated frames, by the frame of the video.
        limits: Checked before decoding.
    """

    indices: tuple[SAVIndex, ...]
    position_of: Mapping[int, int]
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames on which no object lacks its mask, ascending."""
        return tuple(self.position_of)

    def object_ids(self) -> ObjectIds:
        """Positions of the objects in the files."""
        return tuple(range(sum(index.num_objects for index in self.indices)))

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        code_of, where = self._codes(frame_index), self._where(frame_index)
        return decode_objects(code_of, object_ids, size, where, self.limits)

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects with a pixel, see :class:`ObjectLister`."""
        return seen_objects(self._codes(frame_index), size, self._where(frame_index))

    def _codes(self, frame_index: int) -> dict[int, object]:
        """Encoded mask of each object."""
        codes: list[object] = []
        for index in self.indices:
            codes += index.read(self.position_of[frame_index])
        return dict(enumerate(codes))

    def _where(self, frame_index: int) -> str:
        return (
            f'{self.indices[0].path} (annotated frame {self.position_of[frame_index]})'
        )


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipSAVDataset(ListedDataset):
    """Clips of SA-V, from extracted frames or straight from its mp4 files.

    ``<data_root>/<frame_folder>/<clip>.mp4`` or ``<clip>/*.jpg``, called by the number
    of the frame; ``<data_root>/<annotation_folder>/<clip>_manual.json`` and
    ``<clip>_auto.json``. Clips may lie in sub-folders (``sav_000/sav_000001``).

    A frame counts as annotated where every object has a mask.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        frame_folder: Folder of the frames or videos, relative to ``data_root``.
        annotation_folder: Folder of the annotation files, likewise.
        kinds: Which objects: ``manual``, ``auto`` or both; of a clip that has not all
            of the files, those that it has.
        ann_every: Distance between annotated frames; None for what the file says.

    Raises:
        ValueError: If ``kinds`` or ``ann_every`` is none of these.
    """

    frame_folder: str = '.'
    annotation_folder: str = '.'
    kinds: Sequence[str] = ('manual',)
    ann_every: int | None = None

    def __post_init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Check the options, then list the videos."""
        known = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        if not known or (self.ann_every is not None and self.ann_every < 1):
            msg = (
                f'kinds={tuple(self.kinds)}, ann_every={self.ann_every}: give some of '
                f'{KINDS} and a positive number or None'
            )
            raise ValueError(msg)
        super().__post_init__(pipeline)

    def list_videos(self) -> list[str]:
        """Names of the videos, see :meth:`ClipDataset.list_videos`."""
        own = tuple(f'_{kind}.json' for kind in self.kinds)
        every = tuple(f'_{kind}.json' for kind in KINDS)
        find: FindNames = partial(find_stems, suffixes=own)
        find_every: FindNames = partial(find_stems, suffixes=every)
        beside = [
            (self.annotation_folder, find_every),
            (self.frame_folder, find_videos),
        ]
        return self.names_in(self.annotation_folder, find, beside)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find the frames and masks of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its reader.

        Raises:
            ClipDataError: If a file is missing or damaged.
        """
        frames = open_frames(
            self.root / self.frame_folder, name, self.read_limits, self.read_range
        )
        stem = child(self.root / self.annotation_folder, name)
        wanted = [find_file(stem, (f'_{kind}.json',)) for kind in self.kinds]
        paths = tuple(path for path in wanted if path.is_file())
        if not paths:
            raise ClipDataError.at(wanted[0], 'is missing', COMPLETE_DATA)
        indices = tuple(index_sav(path, self.read_limits) for path in paths)
        masks = SAVMasks(
            indices=indices,
            position_of=self._match_frames(indices, frames),
            limits=self.read_limits,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)

    def _match_frames(
        self, indices: Sequence[SAVIndex], frames: FrameReader
    ) -> dict[int, int]:
        """Position in the annotation of each annotated frame."""
        distances = {self.ann_every or index.ann_every for index in indices}
        if len(distances) > 1:
            problem = f'frames are annotated at the distances {sorted(distances)}'
            raise ClipDataError.at(indices[0].path, problem, 'set ann_every')
        every = distances.pop()
        complete = set.intersection(*({*index.complete} for index in indices))
        frame_of = {number: i for i, number in enumerate(frame_numbers(frames))}
        matched = {
            frame_of[position * every]: position
            for position in sorted(complete)
            if position * every in frame_of
        }
        if complete and not matched:
            problem = (
                f'annotates every {every}. frame from 0 on, of which none is among the '
                f'{len(frame_of)} frames of the video'
            )
            remedy = 'call the frames by their numbers in the video, or set ann_every'
            raise ClipDataError.at(indices[0].path, problem, remedy)
        return matched


def frame_numbers(frames: FrameReader) -> list[int]:
    """Number of each frame in its video.

    Args:
        frames: Frames that were extracted, not necessarily all.

    Returns:
        The numbers by which they are called, or their positions.
    """
    names = [frames.frame_name(i) for i in range(frames.num_frames)]
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names]
    return list(range(len(names)))
