"""Datasets around another one: whole videos, some of their frames, single objects."""

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
from .annotated_video import ObjectIds, read_objects, video_objects, void_note
from .clip_dataset import ClipDataset
from .io.errors import ClipDataError


@DATASETS.register_module()
class ClipVideoDataset(BaseDataset):
    """Whole videos of a :class:`ClipDataset`, read on demand, for validation.

    A corrupt video raises a ``ClipDataError``: a score over fewer videos could not be
    compared with others.

    Args:
        dataset: Config of the source of videos.
        frame_stride: Keep every n-th frame.

    Raises:
        ValueError: If ``frame_stride`` is not positive, or a video is listed twice and
            would count twice in the score.
    """

    METAINFO = ClipDataset.METAINFO

    def __init__(self, *, dataset: dict[str, Any], frame_stride: int = 1) -> None:
        _check_stride('frame_stride', frame_stride)
        self.videos: ClipDataset = DATASETS.build(dataset)
        self.frame_stride = frame_stride
        super().__init__(data_root=self.videos.data_root, test_mode=True)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the videos and their lengths, by which the sampler orders them."""
        names = self.videos.list_videos()
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            msg = (
                f'{len(repeated)} videos are listed more than once, {repeated[0]} '
                f'among them; name each once in the list of the split'
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
        """Number of frames of each video."""
        return [self.get_data_info(i)['num_frames'] for i in range(len(self))]

    def get_cat_ids(self, idx: int) -> list[int]:
        """See :meth:`ClipDataset.get_cat_ids`."""
        return self.videos.get_cat_ids(idx)

    def __getitem__(self, idx: int) -> VideoRecord:  # type: ignore[override]
        """Describe a video.

        Args:
            idx: Position in the dataset. An :class:`EpochIndex` also carries the
                position among all videos of the loader, by which metrics tell videos
                of several datasets apart.
        """
        info = self.get_data_info(int(idx))
        position = idx.position if isinstance(idx, EpochIndex) else info['sample_idx']
        source = self.open_video(info['video_name'])
        return VideoRecord(metainfo={'source': source, 'sample_index': int(position)})


class _ViewDataset(ClipDataset):
    """Clips made from the videos of another dataset."""

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


@DATASETS.register_module()
class ClipStrideDataset(_ViewDataset):
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
        _check_stride('stride', stride)
        self.stride = stride
        super().__init__(
            dataset=dataset, pipeline=pipeline, max_bad_share=max_bad_share
        )

    def list_videos(self) -> list[str]:
        """Return the names of the source."""
        return self.videos.list_videos()

    def open_video(self, name: str) -> VideoSource:
        """See :meth:`ClipDataset.open_video`."""
        source = self.videos.open_video(name)
        return StridedVideoSource(source=source, stride=self.stride)


@DATASETS.register_module()
class ClipRangeDataset(_ViewDataset):
    """A part of each video of another source, such as its first 800 frames.

    With one long video, one part can train and another validate.

    Args:
        dataset: Config of the source.
        start: First frame that is kept.
        stop: Frames from this one on are left out; None to keep all to the end. In a
            video of at most ``start`` frames nothing is left, so it is corrupt.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.

    Raises:
        ValueError: If ``start`` is negative, or not less than ``stop``.
    """

    def __init__(
        self,
        *,
        dataset: dict[str, Any],
        start: int = 0,
        stop: int | None = None,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        if start < 0 or (stop is not None and start >= stop):
            msg = (
                f'start={start}, stop={stop}: give 0 <= start < stop, counted in frames'
            )
            raise ValueError(msg)
        self.start, self.stop = start, stop
        super().__init__(
            dataset=dataset, pipeline=pipeline, max_bad_share=max_bad_share
        )

    def list_videos(self) -> list[str]:
        """Return the names of the source."""
        return self.videos.list_videos()

    def open_video(self, name: str) -> VideoSource:
        """Open a part of a video.

        Raises:
            ClipDataError: If the video is damaged, or has no frame in the range.
        """
        source = self.videos.open_video(name)
        if source.num_frames <= self.start:
            problem = f'has {source.num_frames} frames, none from {self.start} on'
            raise ClipDataError.at(name, problem, 'lower start, or exclude the video')
        return StridedVideoSource(source=source, start=self.start, stop=self.stop)


@DATASETS.register_module()
class ClipOneObjectDataset(_ViewDataset):
    """One clip for each object of another source, named ``<clip>/<object id>``.

    All videos are opened when it is built. Palette PNG sources and views decode all
    masks for this, because only the masks show which objects there are. A clip whose
    objects cannot be listed is named ``<clip>/`` and counts as one corrupt clip when it
    is drawn.

    Args:
        dataset: Config of the source, which may be another view.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.
    """

    def list_videos(self) -> list[str]:
        """Return the names of the videos, each with the id of an object."""
        names = []
        for name in self.videos.list_videos():
            try:
                ids = video_objects(self.videos.open_video(name))
            except ClipDataError:
                ids = ()
            names += [f'{name}/{object_id}' for object_id in ids] or [f'{name}/']
        return names

    def open_video(self, name: str) -> 'OneObjectSource':
        """Open a video with one object.

        Raises:
            ClipDataError: If files are missing or damaged, or no object was found.
        """
        video_name, _, object_id = name.rpartition('/')
        video = self.videos.open_video(video_name)
        if not object_id:
            video_objects(video)  # raises what is wrong with a file
            problem = f'showed no object when the clips were listed{void_note(video)}'
            remedy = 'annotate one and build again, or put it on the exclude list'
            raise ClipDataError.at(video_name, problem, remedy)
        return OneObjectSource(name=name, source=video, object_id=int(object_id))


def _check_stride(name: str, stride: int) -> None:
    if stride < 1:
        msg = f'{name} is {stride}; give a positive number'
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class StridedVideoSource:
    """Some frames of a video, chosen as by a slice ``[start:stop:stride]``.

    Attributes:
        source: The whole video.
        stride: Distance between the frames that are kept.
        start: First frame that is kept.
        stop: Frames from this one on are left out; None to keep all to the end.
    """

    source: VideoSource
    stride: int = 1
    start: int = 0
    stop: int | None = None

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.source.name

    @property
    def _kept(self) -> range:
        """Frames of the whole video that are kept."""
        return range(self.source.num_frames)[self.start : self.stop : self.stride]

    @property
    def num_frames(self) -> int:
        """Number of frames that are kept."""
        return len(self._kept)

    def frame_name(self, frame_index: int) -> str:
        """Return the stem of the frame's file."""
        return self.source.frame_name(self._kept[frame_index])

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (H, W, 3), RGB."""
        return self.source.read_frame(self._kept[frame_index])

    def annotated_frames(self) -> tuple[int, ...]:
        """Return the indices of the frames with ground truth, ascending."""
        kept = self._kept
        return tuple(
            kept.index(index)
            for index in self.source.annotated_frames()
            if index in kept
        )

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame; None without annotation."""
        return self.source.read_masks(self._kept[frame_index])

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """Return the visible objects; None if all masks must be decoded for it."""
        if not isinstance(self.source, ObjectSource):
            return None
        return self.source.seen_objects(self._kept[frame_index])

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode a mask for each of the objects; None without annotation."""
        return read_objects(self.source, self._kept[frame_index], object_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneObjectSource:
    """One object of a video.

    Attributes:
        name: Name of the clip.
        source: The video with all its objects.
        object_id: The object.
    """

    name: str
    source: VideoSource
    object_id: int

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.source.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Return the stem of the frame's file."""
        return self.source.frame_name(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (H, W, 3), RGB."""
        return self.source.read_frame(frame_index)

    def annotated_frames(self) -> tuple[int, ...]:
        """Return the indices of the frames with ground truth, ascending."""
        return self.source.annotated_frames()

    def object_ids(self) -> ObjectIds:
        """Return the one object."""
        return (self.object_id,)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the mask, if the object is visible; None without annotation."""
        masks = read_objects(self.source, frame_index, self.object_ids())
        if masks is None or masks.masks.any():
            return masks
        return FrameMasks(object_ids=(), masks=masks.masks[:0], void=masks.void)

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """Return the object if it is visible; None if its mask must be decoded."""
        if not isinstance(self.source, ObjectSource):
            return None
        seen = self.source.seen_objects(frame_index)
        return None if seen is None else tuple(i for i in seen if i == self.object_id)

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode a mask for each of the objects; None without annotation."""
        return read_objects(self.source, frame_index, object_ids)
