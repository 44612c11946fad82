"""Video datasets of mmdetection as clips."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..datasets import AnnotatedVideo, ClipDataError, ClipDataset
from ..datasets.annotated_video import FrameSize, MaskReader, ObjectIds
from ..datasets.io.errors import ReadLimits, reports_clip_errors
from ..datasets.io.frames import ImageFrames
from ..datasets.io.images import checked_intensity_range
from ..datasets.sources.coco import CocoMasks
from ..datasets.sources.records import Record, RecordStore, damaged_record
from ..structures import FrameMasks
from .image_dataset import (
    IMAGE_PREFIXES,
    annotation_file_of,
    build_inner,
    folder_of,
    name_inside,
)

MOT_FRAMES = 'img1'  # folder of the frames in each video of the MOT challenge
NO_ID = (
    'number the instance_id of the file from 1: mmdetection replaces 0 by the position '
    'in the frame'
)
OTHER_FORM = (
    'its video datasets take images with video_id and annotations with image_id and '
    'instance_id; for the official files of YouTube-VIS take ClipYouTubeVISDataset'
)


@DATASETS.register_module()
class ClipVideoBridgeDataset(ClipDataset):
    """Any video dataset that mmdetection builds from a config.

    It takes datasets whose items are videos with ``images`` (``BaseVideoDataset``,
    ``YouTubeVISDataset``, ``MOTChallengeDataset``). Each ``instance_id`` is an object
    of the video; ignored instances, and the boxes of instances without a mask, are
    void. All frames are kept, those without an instance as well, unless the dataset's
    config says otherwise (``test_mode=False`` with a ``filter_cfg``). Videos without an
    object are left out.

    The name of a video is the folder of its frames, or ``video_<id>`` where videos
    share a folder.

    A config gives the full import path, which imports the bridge:
    ``type='projects.sam2.bridges.video_dataset.ClipVideoBridgeDataset'``.

    Args:
        dataset: Config of the dataset, its type with the scope (``mmdet.…``); its
            pipeline is not used.
        boxes_as_masks: Take the box of an instance as its mask, for datasets without
            masks, such as those of the MOT challenge. A model that is trained so learns
            boxes; ``SAM2MaskDetector`` makes masks from boxes.
        limits: See :class:`ReadLimits`.
        intensity_range: See :class:`ListedDataset`.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.

    Raises:
        ClipDataError: If the dataset has no videos or no instance of its classes, no
            instance has a mask, or the file has another form.
    """

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any],
        boxes_as_masks: bool = False,
        limits: Mapping[str, int] | None = None,
        intensity_range: Sequence[float] | None = None,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        # In test mode mmdetection leaves out no frame.
        self.inner = {'test_mode': True, **dataset, 'pipeline': []}
        self.boxes_as_masks = boxes_as_masks
        self.limits = ReadLimits.of(limits)
        self.read_range = checked_intensity_range(intensity_range)
        super().__init__(data_root=None, pipeline=pipeline, max_bad_share=max_bad_share)

    @cached_property
    def _content(self) -> tuple[Path, RecordStore]:
        """Folder of the frames, and a record for each video."""
        where = annotation_file_of(self.inner)
        try:
            dataset = build_inner(self.inner)
        except KeyError as error:
            if not str(error.args[0]).isidentifier():  # no field of the file
                raise
            problem = f'mmdetection finds no field {error.args[0]!r} in it'
            raise ClipDataError.at(where, problem, OTHER_FORM) from error
        records = video_records(dataset, where, boxes_as_masks=self.boxes_as_masks)
        store = RecordStore(records, where)
        return Path(folder_of(dataset, IMAGE_PREFIXES)), store

    def list_videos(self) -> list[str]:
        """Names of the videos, see :meth:`ClipDataset.list_videos`."""
        return self._content[1].names()

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find the frames and masks of a video, without decoding any.

        Raises:
            ClipDataError: If the video is not in the dataset, or two instances of a
                frame have the same id.
        """
        folder, records = self._content
        frames = records.read(name)['frames']
        return AnnotatedVideo(
            name=name,
            frames=ImageFrames(
                folder=folder,
                files=tuple(frame['file'] for frame in frames),
                limits=self.limits,
                intensity_range=self.read_range,
            ),
            masks=InstanceMasks(
                frames=tuple(
                    CocoMasks(
                        source=str(folder / frame['file']),
                        size=(frame['height'], frame['width']),
                        objects=dict(frame['objects']),
                        crowds=tuple(frame['crowds']),
                        limits=self.limits,
                    )
                    for frame in frames
                )
            ),
        )


@dataclass(frozen=True, kw_only=True)
class InstanceMasks(MaskReader):
    """Reads the masks of a video whose frames are annotated one by one.

    Attributes:
        frames: Reads the masks of each frame.
    """

    lists_seen: ClassVar[bool] = True
    frames: tuple[CocoMasks, ...]

    @property
    def void_meaning(self) -> str:
        """See :class:`MaskReader`."""
        return 'those of ignored instances, which are void'

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(len(self.frames)))

    def object_ids(self) -> ObjectIds:
        """Ids of the instances of all frames, in the order in which they appear."""
        return tuple(dict.fromkeys(i for each in self.frames for i in each.objects))

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of a frame, see :class:`MaskReader`."""
        return self.frames[frame_index].read(0, size, object_ids)

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects with a pixel, see :class:`MaskReader`."""
        return self.frames[frame_index].seen(0, size)


def video_records(
    dataset: BaseDataset, where: Path, *, boxes_as_masks: bool
) -> Iterator[tuple[str, Record]]:
    """Yield the name and the record of each video that has an object.

    Args:
        dataset: Its items have ``images``, each with ``img_path`` and ``instances``.
        where: File of the annotations, for errors.

    Raises:
        ClipDataError: If the items are no videos, a file lies outside of the dataset's
            folder, there is no instance, or none has a mask.
    """
    names = video_names(dataset, where)
    num_boxes = num_masks = num_damaged = 0
    for index, name in enumerate(names):
        video = dataset.get_data_info(index)
        try:
            frames = [
                _frame_record(dataset, image, boxes_as_masks=boxes_as_masks)
                for image in _in_order(video['images'])
            ]
        except ClipDataError as error:
            num_damaged += 1
            yield name, damaged_record(error)
            continue
        objects = sum(len(frame['objects']) for frame in frames)
        num_masks += objects
        num_boxes += sum(len(frame['crowds']) for frame in frames)
        if objects:
            yield name, {'frames': frames}
    if not (num_boxes or num_masks or num_damaged):
        classes = ', '.join(map(str, dataset.metainfo.get('classes') or ()))
        problem = f'no video shows an instance of the classes {classes or "(none)"}'
        raise ClipDataError.at(where, problem, 'correct metainfo or the file')
    if num_boxes and not num_masks:
        problem = f'none of {num_boxes} instances has a mask'
        remedy = (
            'make masks from the boxes with SAM2MaskDetector, or set '
            'boxes_as_masks=True to take the boxes as masks'
        )
        raise ClipDataError.at(where, problem, remedy)


def video_names(dataset: BaseDataset, where: Path) -> list[str]:
    """Name the videos of a dataset, in its order.

    Raises:
        ClipDataError: If the items are no videos, or an image lies outside of the
            dataset's folder.
    """
    folders: list[str] = []
    fallbacks: list[str] = []
    root = folder_of(dataset, IMAGE_PREFIXES)
    for index in range(len(dataset)):
        video = dataset.get_data_info(index)
        if 'images' not in video:
            problem = f'{type(dataset).__name__} is a dataset of images, not of videos'
            raise ClipDataError.at(where, problem, 'take ClipBridgeDataset')
        fallbacks.append(f'video_{video.get("video_id", index)}')
        images = video['images'] or [{'img_path': root}]
        folder = Path(name_inside(root, str(images[0]['img_path']))).parent
        folder = folder.parent if folder.name == MOT_FRAMES else folder
        folders.append(folder.as_posix())
    counts = Counter(folders)
    return [
        fallback if folder == '.' or counts[folder] > 1 else folder
        for folder, fallback in zip(folders, fallbacks, strict=True)
    ]


def _in_order(images: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Frames by their ``frame_id``; as they come in files that have none."""
    if all('frame_id' in image for image in images):
        return sorted(images, key=lambda image: int(image['frame_id']))
    return images


def _frame_record(
    dataset: BaseDataset, image: Mapping[str, Any], *, boxes_as_masks: bool
) -> Record:
    """File and masks of a frame, still encoded."""
    path = str(image['img_path'])
    objects: list[tuple[int, Any]] = []
    crowds: list[Any] = []
    for instance in image['instances']:
        mask = instance.get('mask')
        box = box_polygon(instance['bbox'], image['height'], image['width'])
        if instance.get('ignore_flag'):
            crowds.append(mask or box)
        elif mask or boxes_as_masks:
            objects.append((int(instance['instance_id']), mask or box))
        else:
            crowds.append(box)
    ids = [object_id for object_id, _ in objects]
    doubled = [object_id for object_id, count in Counter(ids).items() if count > 1]
    if doubled:
        problem = f'{len(ids)} instances, but instance_id {doubled[0]} occurs twice'
        raise ClipDataError.at(path, problem, NO_ID)
    return {
        'file': name_inside(folder_of(dataset, IMAGE_PREFIXES), path),
        'height': image['height'],
        'width': image['width'],
        'objects': objects,
        'crowds': crowds,
    }


def box_polygon(box: Sequence[float], height: int, width: int) -> list[list[float]]:
    """Turn a box, ``(x, y, x, y)``, to a polygon within the frame."""
    left, right = (min(max(float(x), 0.0), float(width)) for x in (box[0], box[2]))
    top, bottom = (min(max(float(y), 0.0), float(height)) for y in (box[1], box[3]))
    return [[left, top, right, top, right, bottom, left, bottom]]
