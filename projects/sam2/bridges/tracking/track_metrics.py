"""Metrics of tracks in mmdetection's samples: YouTube-VIS and J&F.

Both take whole videos or, with ``TrackImgSampler``, one frame at a time, and keep masks
run-length encoded. For MOT use mmdetection's ``MOTChallengeMetric``.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import METRICS, TASK_UTILS

from ...apis.inputs import read_choice
from ...evaluation import JFMetric, VideoScores
from ...evaluation.protocol import JFProtocol, VideoScorer
from ...ops import EncodedMask, decode_masks, encode_masks
from ...structures import FrameMasks
from ..mmcv_operators import ensure_operators
from ..samples import mask_array
from .association import match, overlap_of

ensure_operators()  # before mmdet.models is imported

from mmdet.evaluation.metrics import (  # noqa: E402
    BaseVideoMetric,
    YouTubeVISMetric,
)
from mmdet.structures import DetDataSample  # noqa: E402

VIS_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module()
class MaskletVISMetric(YouTubeVISMetric):
    """YouTube-VIS's mAP of masklets: mmdetection's metric, for NumPy 2 as well.

    The base fails where NumPy has no ``np.float``, where videos come frame by frame,
    and without any prediction (here 0); it takes objects of two videos for one where
    their ids are equal. Arguments and names of the results are those of the base.
    """

    def process_video(self, data_samples: Sequence[DetDataSample]) -> None:
        """Take a whole video."""
        for sample in data_samples:
            self.process_image([sample], len(data_samples))

    def process_image(
        self, data_samples: Sequence[DetDataSample], video_len: int
    ) -> None:
        """Take the next frame of a video.

        Raises:
            ValueError: If its tracks have no masks.
        """
        (sample,) = data_samples
        info = sample.metainfo
        frame_index = int(info['frame_id'])
        if frame_index == 0:
            self.per_video_res.clear()  # of a video that ended early
        tracks = _tracks_of(sample)
        self.per_video_res.append(
            (
                {
                    'img_id': info['img_id'],
                    'masks': _encode(tracks.masks),
                    'scores': tracks.scores.cpu().numpy(),
                    'labels': tracks.labels.cpu().numpy(),
                    'instances_id': tracks.instances_id.cpu().numpy(),
                },
                {
                    'img_id': info['img_id'],
                    'height': info['ori_shape'][0],
                    'width': info['ori_shape'][1],
                    'frame_id': frame_index,
                    'video_id': info['video_id'],
                    'video_length': video_len,
                    'anns': info.get('instances', []),
                },
            )
        )
        if frame_index == video_len - 1:
            preds, truths = zip(*self.per_video_res, strict=True)
            # The truth first: it notes the video that the predictions belong to.
            truth = self._format_one_video_gts(truths)
            self.results.append((self._format_one_video_preds(preds), truth))
            self.per_video_res.clear()

    def format_gts(self, gts: tuple[list[Any]]) -> dict[str, Any]:
        """Gather the ground truth, and number its objects over all videos."""
        truth: dict[str, Any] = super().format_gts(gts)
        # The evaluation takes id 0 for no object, and equal ids for one object.
        for number, annotation in enumerate(truth['annotations'], start=1):
            annotation['id'] = number
        return truth

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the mAP over all videos."""
        if not self.format_only and not any(preds for preds, _ in results):
            print_log(
                'No video has a track: the mAP is 0',
                logger='current',
                level=logging.WARNING,
            )
            return {f'segm_{item}': 0.0 for item in self.metric_items or VIS_ITEMS}
        with numpy_float():
            scores: dict[str, float] = super().compute_metrics(results)
        return scores


@contextmanager
def numpy_float() -> Iterator[None]:
    """Restore ``np.float``, which NumPy removed and mmdetection's evaluation uses."""
    if 'float' in vars(np):
        yield
        return
    vars(np)['float'] = float
    try:
        yield
    finally:
        del vars(np)['float']


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Masks of a frame, encoded, by id."""

    frame_index: int
    size: tuple[int, int]
    truth: Mapping[int, EncodedMask]
    void: EncodedMask | None
    tracks: Mapping[int, EncodedMask]


@METRICS.register_module()
class JFTrackMetric(BaseVideoMetric):
    """J&F of tracks, 0 to 100: :class:`JFMetric` on mmdetection's samples.

    Reports ``J&F``, ``J`` and ``F``, and logs the same tables. Truth is what the
    dataset's annotations have, with ignored instances as void.

    Args:
        match: ``'masks'`` matches each true object with one track, so that the sum of
            their IoUs in the video is largest, as trackers number objects on their own;
            the other tracks do not count. ``'ids'`` takes the track of the same id.
        protocol: Config of the protocol, see :class:`JFAccumulator`. By default each
            object counts on all frames from its first one on, since none was given to
            the tracker.
        out_dir: See :class:`JFMetric`.
        prefix: See ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: If ``match`` is unknown.
    """

    default_prefix = ''

    def __init__(
        self,
        *,
        match: Literal['masks', 'ids'] = 'masks',
        protocol: Mapping[str, Any] | None = None,
        out_dir: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device='cpu', prefix=prefix)
        self.match = read_choice(match, name='match', choices=('masks', 'ids'))
        self.protocol: JFProtocol = TASK_UTILS.build(
            dict(protocol or {'type': 'JFAppearanceProtocol', 'skip_first': False})
        )
        self.out_dir = out_dir
        self._frames: list[_Frame] = []

    def process_video(self, data_samples: Sequence[DetDataSample]) -> None:
        """Take a whole video."""
        for sample in data_samples:
            self.process_image([sample], len(data_samples))

    def process_image(
        self, data_samples: Sequence[DetDataSample], video_len: int
    ) -> None:
        """Take the next frame of a video.

        Raises:
            ValueError: If its tracks have no masks.
        """
        (sample,) = data_samples
        frame_index = int(sample.metainfo['frame_id'])
        if frame_index == 0:
            self._frames = []
        self._frames.append(_read_frame(sample))
        if frame_index == video_len - 1:
            self.results.append(self._score(str(sample.metainfo['video_id'])))
            self._frames = []

    def compute_metrics(self, results: list[VideoScores]) -> dict[str, float]:
        """Average over the objects of all videos, and log the tables."""
        return JFMetric(out_dir=self.out_dir).average(results)

    def _score(self, video_name: str) -> VideoScores:
        """Score the frames of a video."""
        names = match_tracks(self._frames) if self.match == 'masks' else {}
        scorer = VideoScorer(self.protocol)
        scorer.begin([frame.frame_index for frame in self._frames])
        for frame in self._frames:
            scorer.add_masks(
                frame.frame_index,
                str(frame.frame_index),
                truth=FrameMasks(
                    object_ids=tuple(frame.truth),
                    masks=_decode(frame.truth, frame.size),
                    void=None if frame.void is None else decode_masks([frame.void])[0],
                ),
                pred={
                    names.get(key, key): decode_masks([code])[0]
                    for key, code in frame.tracks.items()
                    if self.match == 'ids' or key in names
                },
            )
        return scorer.finish(video_name)


def match_tracks(frames: Sequence[_Frame]) -> dict[int, int]:
    """Match tracks with true objects by their IoU in the whole video.

    Returns:
        The true object of each track that has one.
    """
    track_ids = sorted({key for frame in frames for key in frame.tracks})
    true_ids = sorted({key for frame in frames for key in frame.truth})
    intersection = np.zeros((len(track_ids), len(true_ids)))
    track_areas, true_areas = np.zeros(len(track_ids)), np.zeros(len(true_ids))
    for frame in frames:
        rows = [track_ids.index(key) for key in frame.tracks]
        columns = [true_ids.index(key) for key in frame.truth]
        overlap = overlap_of(
            torch.from_numpy(_decode(frame.tracks, frame.size)),
            torch.from_numpy(_decode(frame.truth, frame.size)),
        )
        intersection[np.ix_(rows, columns)] += overlap.intersection
        track_areas[rows] += overlap.areas[0]
        true_areas[columns] += overlap.areas[1]
    union = track_areas[:, None] + true_areas - intersection
    pairs = match(intersection / np.maximum(union, 1), 0.0)
    return {track_ids[row]: true_ids[column] for row, column in pairs}


def _tracks_of(sample: DetDataSample) -> Any:
    """Tracks of a frame, which must have masks."""
    tracks = sample.get('pred_track_instances')
    if tracks is None or 'masks' not in tracks:
        info = sample.metainfo
        msg = (
            f'Frame {info["frame_id"]} of video {info["video_id"]} has no tracks with '
            f'masks; evaluate a model that predicts them, such as SAM2DetectorTracker'
        )
        raise ValueError(msg)
    return tracks


def _read_frame(sample: DetDataSample) -> _Frame:
    """Encode the masks of a frame."""
    info = sample.metainfo
    size = (int(info['ori_shape'][0]), int(info['ori_shape'][1]))
    tracks = _tracks_of(sample)
    instances = info.get('instances', [])
    masks = mask_array([instance.get('mask') for instance in instances], size)
    ignored = np.array([bool(i.get('ignore_flag')) for i in instances], dtype=bool)
    # Pixels of an object are not void.
    void = masks[ignored].any(axis=0) & ~masks[~ignored].any(axis=0)
    true_ids = [int(i['instance_id']) for i in instances if not i.get('ignore_flag')]
    return _Frame(
        frame_index=int(info['frame_id']),
        size=size,
        truth=dict(zip(true_ids, encode_masks(masks[~ignored]), strict=True)),
        void=encode_masks(void[None])[0] if void.any() else None,
        tracks=dict(
            zip(tracks.instances_id.tolist(), _encode(tracks.masks), strict=True)
        ),
    )


def _encode(masks: Any) -> list[EncodedMask]:
    return encode_masks(mask_array(masks))


def _decode(masks: Mapping[int, EncodedMask], size: tuple[int, int]) -> Any:
    """Decode masks, (O, height, width), of which there may be none."""
    if not masks:
        return np.zeros((0, *size), bool)
    return decode_masks(list(masks.values()))
