"""Videos with YouTube-VIS annotations: one JSON file for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmengine.registry import DATASETS

from ..annotated_video import AnnotatedVideo, ObjectIds
from ..io.errors import DEFAULT_LIMITS, ClipDataError, ReadLimits, reports_clip_errors
from ..io.frames import ImageFrames
from ..io.json_files import FIX_FILE, check_type, get_field
from ..io.listing import safe_join
from .coco import group_annotations, owner_ids, read_owner_id, split_crowds
from .records import Record, RecordDataset, checked_name, damaged_record
from .segmentations import EncodedMasks


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipYouTubeVISDataset(RecordDataset):
    """Videos with YouTube-VIS annotations; those without an object are left out.

    ``<data_root>/<frame_folder>/<video>/*.jpg``, and one JSON file with ``videos``
    (``file_names`` relative to the folder) and ``annotations`` (``segmentations``, one
    for each frame or null). Crowds are left out.

    The name of a video is the folder of its frames; if they have none of their own,
    ``video_<id>``; for a damaged entry, its position (``videos[3]``).

    Beside the options of :class:`RecordDataset`:

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.
        frame_folder: Folder of the frames, likewise.
        crowd_as_objects: Whether crowds (``iscrowd=1``) are objects.
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

        Raises:
            ClipDataError: If the video is not in the file, the name of a frame leads
                out of the folder, or an annotation is damaged.
        """
        record = self.read_record(name)
        where = f'{self.annotation_path} (video {name})'
        folder, files = self.root / self.frame_folder, record['file_names']
        for file in files:
            safe_join(folder, file)
        objects, _ = split_crowds(
            record['annotations'], where, crowd_as_objects=self.crowd_as_objects
        )
        masks = YouTubeVISMasks(
            source=where,
            num_frames=len(files),
            objects={each['id']: _codes(each, len(files), where) for each in objects},
            limits=self.read_limits,
        )
        frames = ImageFrames(
            folder=folder,
            files=tuple(files),
            limits=self.read_limits,
            intensity_range=self.read_range,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=masks)


@dataclass(frozen=True, kw_only=True)
class YouTubeVISMasks(EncodedMasks):
    """Reads the masks of a video.

    Attributes:
        source: File of the annotations and name of the video, for errors.
        num_frames: Number of frames; all are annotated.
        objects: Encoded mask of each object on each frame, None where it is absent.
        limits: Checked before decoding.
    """

    source: str
    num_frames: int
    objects: Mapping[int, Sequence[object]]
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))

    def object_ids(self) -> ObjectIds:
        """Ids of the annotations."""
        return tuple(self.objects)

    def codes(self, frame_index: int) -> Mapping[int, object]:
        """See :class:`EncodedMasks`."""
        return {key: codes[frame_index] for key, codes in self.objects.items()}

    def where(self, frame_index: int) -> str:
        """See :class:`EncodedMasks`."""
        return self.source


def _codes(annotation: Record, num_frames: int, where: str) -> list[object]:
    """Encoded masks of an object, one for each frame."""
    codes = get_field(annotation, 'segmentations', list, where)
    if len(codes) != num_frames:
        problem = (
            f'annotation {annotation["id"]} has {len(codes)} segmentations for '
            f'{num_frames} frames'
        )
        raise ClipDataError.at(where, problem, FIX_FILE)
    return codes


def video_records(
    content: object, where: Path, *, crowd_as_objects: bool = False
) -> Iterator[tuple[str, Record | None]]:
    """Group the annotations of a file by videos, see :meth:`RecordDataset.records_in`.

    Yields:
        Name and record of each video, None if it has no object; for a damaged entry,
        its position with the error.

    Raises:
        ClipDataError: If the file has another form, two videos share an id, or no
            annotation is an object.
    """
    videos = get_field(content, 'videos', list, where)
    groups = group_annotations(
        content, 'video_id', owner_ids(videos, 'videos', where), where, crowd_as_objects
    )
    for index, video in enumerate(videos):
        position = f'videos[{index}]'
        video_id = None
        try:
            video_id = read_owner_id(video, f'{where}, {position}')
            annotations = groups.get(video_id)
            yield _video_record(video, video_id, annotations, f'{where}, {position}')
        except ClipDataError as error:
            if video_id is None or video_id in groups:
                yield position, damaged_record(error)


def _video_record(
    video: object, video_id: int | str, annotations: list[Record] | None, where: str
) -> tuple[str, Record | None]:
    """Name and record of a video; None if it has no annotation."""
    files = get_field(video, 'file_names', list, where)
    names = [check_type(file, str, 'file_names', where) for file in files]
    if not names:
        raise ClipDataError.at(where, f'video {video_id} has no frame', FIX_FILE)
    folder = PurePosixPath(names[0]).parent.as_posix()
    name = checked_name(f'video_{video_id}' if folder == '.' else folder, where)
    if annotations is None:
        return name, None
    return name, {'file_names': names, 'annotations': annotations}
