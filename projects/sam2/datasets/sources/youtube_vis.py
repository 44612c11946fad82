"""Videos with YouTube-VIS annotations: one JSON file for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmengine.registry import DATASETS

from ...structures import FrameMasks
from ..annotated_video import AnnotatedVideo, FrameSize, ObjectIds
from ..io.errors import (
    DEFAULT_LIMITS,
    ClipDataError,
    ReadLimits,
    reports_clip_errors,
)
from ..io.frames import ImageFrames
from ..io.json_files import FIX_FILE, check_type, check_unique, get_field
from ..io.listing import safe_join
from .coco import (
    group_annotations,
    owner_ids,
    read_owner_id,
    split_crowds,
)
from .records import (
    Record,
    RecordDataset,
    checked_name,
    damaged_record,
)
from .segmentations import decode_objects, seen_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class YouTubeVISMasks:
    """Reads the masks of a video.

    Attributes:
        where: File of the annotations and name of the video, for errors.
        num_frames: Frames of the video, all annotated.
        codes_of: Encoded mask on each frame, None where it is not seen, by the
            object's id.
        limits: Checked before decoding.
    """

    where: str
    num_frames: int
    codes_of: Mapping[int, Sequence[object]]
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))

    def object_ids(self) -> ObjectIds:
        """Ids of the annotations."""
        return tuple(self.codes_of)

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        code_of = self._codes(frame_index)
        return decode_objects(code_of, object_ids, size, self.where, self.limits)

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects with a pixel, see :class:`ObjectLister`."""
        return seen_objects(self._codes(frame_index), size, self.where)

    def _codes(self, frame_index: int) -> dict[int, object]:
        """Encoded mask of each object."""
        return {key: codes[frame_index] for key, codes in self.codes_of.items()}


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipYouTubeVISDataset(RecordDataset):
    """Videos with YouTube-VIS annotations; those without an object are left out.

    ``<data_root>/<frame_folder>/<video>/*.jpg``, and one JSON file with ``videos``
    (``file_names`` relative to the folder) and ``annotations`` (``segmentations``, one
    for each frame or null). Crowds are left out.

    A video is called by the folder of its frames; where they have none of their own,
    ``video_<id>``; an entry that is no video, by its position (``videos[3]``).

    Beside the options of :class:`RecordDataset`:

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.
        frame_folder: Folder of the frames, likewise.
        crowd_as_objects: Takes crowds (``iscrowd=1``) as objects like all others.
    """

    annotation_file: str = 'train.json'
    frame_folder: str = 'JPEGImages'
    crowd_as_objects: bool = False

    def records_in(self, content: object) -> Iterator[tuple[str, Record | None]]:
        """Records of the videos, see :meth:`RecordDataset.records_in`."""
        return video_records(
            content, self.annotation_path, crowd_as_objects=self.crowd_as_objects
        )

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find the frames and masks of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If the video is not in the file, a name climbs out of the
                folder, or an annotation is damaged.
        """
        record = self.read_record(name)
        where = f'{self.annotation_path} (video {name})'
        folder, files = self.root / self.frame_folder, record['file_names']
        for file in files:
            safe_join(folder, file)
        objects, _ = split_crowds(
            record['annotations'], where, crowd_as_objects=self.crowd_as_objects
        )
        check_unique([each['id'] for each in objects], 'annotations', where)
        masks = YouTubeVISMasks(
            where=where,
            num_frames=len(files),
            codes_of={each['id']: _codes(each, len(files), where) for each in objects},
            limits=self.read_limits,
        )
        frames = ImageFrames(
            folder=folder,
            files=tuple(files),
            limits=self.read_limits,
            intensity_range=self.read_range,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


def _codes(annotation: Record, num_frames: int, where: str) -> list[object]:
    """Encoded masks of an object, one for each frame."""
    codes = get_field(annotation, 'segmentations', list, where)
    if len(codes) != num_frames:
        problem = (
            f'annotation {annotation["id"]} has {len(codes)} segmentations for '
            f'{num_frames} frames'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    return list(codes)


def video_records(
    content: object, where: Path, *, crowd_as_objects: bool = False
) -> Iterator[tuple[str, Record | None]]:
    """Put the annotations of a file to their videos.

    Args:
        crowd_as_objects: See :class:`ClipYouTubeVISDataset`.

    Yields:
        Name and record of each video, None where it has no object; of a damaged entry,
        its position and what is wrong with it.

    Raises:
        ClipDataError: If the file has another form, two videos share an id, or no
            annotation is an object.
    """
    videos = get_field(content, 'videos', list, where)
    groups = group_annotations(
        content, 'video_id', owner_ids(videos, 'videos', where), where, crowd_as_objects
    )
    for position, video in enumerate(videos):
        place = f'videos[{position}]'
        video_id = None
        try:
            video_id = read_owner_id(video, f'{where}, {place}')
            annotations = groups.get(video_id)
            yield _video_record(video, video_id, annotations, f'{where}, {place}')
        except ClipDataError as error:
            if video_id is None or video_id in groups:
                yield place, damaged_record(error)


def _video_record(
    video: object, video_id: int | str, annotations: list[Record] | None, where: str
) -> tuple[str, Record | None]:
    """Name and record of a video; None where it has no annotation."""
    files = get_field(video, 'file_names', list, where)
    names = [check_type(file, str, 'file_names', where) for file in files]
    if not names:
        raise ClipDataError.at(where, f'video {video_id} has no frame', FIX_FILE)
    folder = PurePosixPath(names[0]).parent.as_posix()
    name = f'video_{video_id}' if folder == '.' else folder
    name = checked_name(name, where)
    if annotations is None:
        return name, None
    return name, {'file_names': names, 'annotations': annotations}
