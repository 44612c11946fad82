"""Other views of a source: every n-th frame, or one object at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ..structures import FrameMasks, ObjectSource, VideoRecord, VideoSource
from ..structures.clip import EpochIndex
from .annotated_video import (
    ObjectIds,
    read_objects,
    video_objects,
    void_note,
)
from .clip_dataset import ClipDataset
from .io.errors import ClipDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class StridedVideoSource:
    """Every n-th frame of a video.

    Attributes:
        source: The whole video.
        stride: Distance between the frames that are kept.
    """

    source: VideoSource
    stride: int

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.source.name

    @property
    def num_frames(self) -> int:
        """Frames that are kept."""
        return len(range(0, self.source.num_frames, self.stride))

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return self.source.frame_name(frame_index * self.stride)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        return self.source.read_frame(frame_index * self.stride)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame; None where it is not annotated."""
        return self.source.read_masks(frame_index * self.stride)

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """Objects seen on a frame; None where only decoding all masks tells."""
        if not isinstance(self.source, ObjectSource):
            return None
        return self.source.seen_objects(frame_index * self.stride)

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode a mask for each of some objects."""
        return read_objects(self.source, frame_index * self.stride, object_ids)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return tuple(
            index // self.stride
            for index in self.source.annotated_frames()
            if index % self.stride == 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OneObjectSource:
    """One object of a video.

    Attributes:
        name: Name of the clip.
        source: The video with all its objects.
        object_id: The one.
    """

    name: str
    source: VideoSource
    object_id: int

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self.source.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return self.source.frame_name(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        return self.source.read_frame(frame_index)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return self.source.annotated_frames()

    def object_ids(self) -> ObjectIds:
        """The one object."""
        return (self.object_id,)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode its mask, if it is seen; None where the frame is not annotated."""
        masks = read_objects(self.source, frame_index, self.object_ids())
        if masks is None or masks.masks.any():
            return masks
        return FrameMasks(object_ids=(), masks=masks.masks[:0], void=masks.void)

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """The object, where it is seen; None where only decoding its mask tells."""
        if not isinstance(self.source, ObjectSource):
            return None
        seen = self.source.seen_objects(frame_index)
        return None if seen is None else tuple(i for i in seen if i == self.object_id)

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode a mask for each of some objects."""
        return read_objects(self.source, frame_index, object_ids)


@DATASETS.register_module()
class ClipStrideDataset(ClipDataset):
    """Every n-th frame of another source.

    Args:
        dataset: Config of the source.
        stride: Distance between the frames that are kept.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.

    Raises:
        ValueError: If ``stride`` is not positive.
    """

    def __init__(
        self,
        *,
        dataset: dict[str, Any],
        stride: int,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        if stride < 1:
            msg = f'stride is {stride}; give a positive number'
            raise ValueError(msg)
        self.videos: ClipDataset = DATASETS.build(dataset)
        self.stride = stride
        super().__init__(
            data_root=self.videos.data_root or None,
            pipeline=pipeline,
            max_bad_share=max_bad_share,
        )

    def list_videos(self) -> list[str]:
        """Names of the videos, those of the source."""
        return self.videos.list_videos()

    def open_video(self, name: str) -> VideoSource:
        """Open a video of the source, see :meth:`ClipDataset.open_video`."""
        return StridedVideoSource(
            source=self.videos.open_video(name), stride=self.stride
        )


@DATASETS.register_module()
class ClipOneObjectDataset(ClipDataset):
    """One clip for each object of another source, called ``<clip>/<object id>``.

    All videos are opened when it is built. Sources of palette PNG and other views
    decode masks for it, since their objects stand nowhere else. A clip whose objects
    cannot be told is called ``<clip>/`` and counts as one bad clip when it is drawn.

    Args:
        dataset: Config of the source, which may be another view.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.
    """

    def __init__(
        self,
        *,
        dataset: dict[str, Any],
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        self.videos: ClipDataset = DATASETS.build(dataset)
        super().__init__(
            data_root=self.videos.data_root or None,
            pipeline=pipeline,
            max_bad_share=max_bad_share,
        )

    def list_videos(self) -> list[str]:
        """Names of the videos, each with the id of an object."""
        names = []
        for name in self.videos.list_videos():
            try:
                ids = video_objects(self.videos.open_video(name))
            except ClipDataError:
                ids = ()
            names += [f'{name}/{object_id}' for object_id in ids] or [f'{name}/']
        return names

    def open_video(self, name: str) -> OneObjectSource:
        """Open a video with one object.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If files are missing or damaged, or no object was found.
        """
        inner, _, object_id = name.rpartition('/')
        video = self.videos.open_video(inner)
        if not object_id:
            video_objects(video)  # says what is wrong
            note = void_note(video)
            problem = f'showed no object when the clips were listed{note}'
            remedy = 'annotate one and build again, or put it on the exclude list'
            raise ClipDataError.at(inner, problem, remedy)
        return OneObjectSource(name=name, source=video, object_id=int(object_id))


@DATASETS.register_module()
class ClipVideoDataset(BaseDataset):
    """Whole videos, read on demand, of any :class:`ClipDataset`.

    A video that cannot be used raises a ``ClipDataError``: a score over fewer videos
    would be another score.

    Args:
        dataset: Config of the source of videos.
        frame_stride: Takes every n-th frame.

    Raises:
        ValueError: If ``frame_stride`` is not positive, or a video is listed twice: it
            would count twice in the score.
    """

    METAINFO = ClipDataset.METAINFO

    def __init__(self, *, dataset: dict[str, Any], frame_stride: int = 1) -> None:
        if frame_stride < 1:
            msg = f'frame_stride is {frame_stride}; give a positive number'
            raise ValueError(msg)
        self.videos: ClipDataset = DATASETS.build(dataset)
        self.frame_stride = frame_stride
        super().__init__(data_root=self.videos.data_root, test_mode=True)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Index the videos and their lengths, by which the sampler orders them."""
        names = self.videos.list_videos()
        doubles = [name for name, count in Counter(names).items() if count > 1]
        if doubles:
            msg = (
                f'{len(doubles)} videos are listed more than once, {doubles[0]} among '
                f'them; name each once in the list of the split'
            )
            raise ValueError(msg)
        return [
            {'video_name': name, 'num_frames': self.open_video(name).num_frames}
            for name in names
        ]

    def open_video(self, name: str) -> VideoSource:
        """List the files of a video, without decoding any."""
        source = self.videos.open_video(name)
        if self.frame_stride == 1:
            return source
        return StridedVideoSource(source=source, stride=self.frame_stride)

    @property
    def video_lengths(self) -> list[int]:
        """Frames of each video."""
        return [self.get_data_info(i)['num_frames'] for i in range(len(self))]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Category of a video for balancing: its number of objects.

        Returns:
            As :meth:`ClipDataset.get_cat_ids`.
        """
        return self.videos.get_cat_ids(idx)

    def __getitem__(self, idx: int) -> VideoRecord:  # type: ignore[override]
        """Describe a video.

        Args:
            idx: Position in the dataset. An :class:`EpochIndex` knows the one among
                all videos of the loader too, by which metrics tell videos apart.
        """
        info = self.get_data_info(int(idx))
        position = idx.position if isinstance(idx, EpochIndex) else info['sample_idx']
        source = self.open_video(info['video_name'])
        return VideoRecord(metainfo={'source': source, 'sample_index': int(position)})
