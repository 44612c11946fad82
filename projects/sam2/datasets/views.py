"""Other views of a source: every n-th frame, or one object at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets.annotated_video import AnnotatedVideo, ObjectIds
from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.object_masks import read_objects
from projects.sam2.structures import FrameMasks, ObjectSource, VideoSource


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
class OneObjectMasks:
    """One object of a video's masks.

    Attributes:
        video: The video with all its objects.
        object_id: The one.
    """

    video: AnnotatedVideo
    object_id: int

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return self.video.annotated_frames()

    def object_ids(self) -> ObjectIds:
        """The one object."""
        return (self.object_id,)

    def read(
        self,
        frame_index: int,
        size: tuple[int, int],
        object_ids: ObjectIds | None = None,
    ) -> FrameMasks:
        """Decode its mask, see :class:`MaskReader`."""
        asked = (self.object_id,) if object_ids is None else object_ids
        masks = self.video.masks.read(frame_index, size, asked)
        if object_ids is not None or masks.masks.any():
            return masks
        return FrameMasks(object_ids=(), masks=masks.masks[:0], void=masks.void)


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

    All videos are opened when it is built. Sources of palette PNG decode all masks for
    it, since their objects stand nowhere else.

    Args:
        dataset: Config of the source, one whose videos are files.
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
        return [
            f'{name}/{object_id}'
            for name in self.videos.list_videos()
            for object_id in self._open(name).object_ids()
        ]

    def open_video(self, name: str) -> AnnotatedVideo:
        """Open a video with one object.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its reader.

        Raises:
            ClipDataError: If files are missing.
            TypeError: If the source's videos are not files.
        """
        inner, _, object_id = name.rpartition('/')
        video = self._open(inner)
        masks = OneObjectMasks(video=video, object_id=int(object_id))
        return AnnotatedVideo(name=name, frames=video.frames, masks=masks)

    def _open(self, name: str) -> AnnotatedVideo:
        video = self.videos.open_video(name)
        if isinstance(video, AnnotatedVideo):
            return video
        msg = f'{name} is a {type(video).__name__}; take a source of files'
        raise TypeError(msg)
