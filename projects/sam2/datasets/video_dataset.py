"""Whole videos for validation."""

from collections import Counter
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.views import StridedVideoSource
from projects.sam2.structures import VideoRecord, VideoSource
from projects.sam2.structures.epoch_index import EpochIndex


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
        """List the files of a video, without decoding any.

        Args:
            name: Name of the video.

        Returns:
            Its reader.
        """
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

        Args:
            idx: Position in the dataset.

        Returns:
            As :meth:`ClipDataset.get_cat_ids`.
        """
        return self.videos.get_cat_ids(idx)

    def __getitem__(self, idx: int) -> VideoRecord:  # type: ignore[override]
        """Describe a video.

        Args:
            idx: Position in the dataset. An :class:`EpochIndex` knows the one among
                all videos of the loader too, by which metrics tell videos apart.

        Returns:
            The record; nothing is decoded.
        """
        info = self.get_data_info(int(idx))
        position = idx.position if isinstance(idx, EpochIndex) else info['sample_idx']
        source = self.open_video(info['video_name'])
        return VideoRecord(metainfo={'source': source, 'sample_index': int(position)})
