"""Metrics of tracks, where the truth is the prediction and where it is not."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from numpy.typing import NDArray

from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.bridges.samples import det_sample, track_sample
from projects.sam2.datasets.sources.shapes import CLASSES, ShapesClip, draw_shapes
from projects.sam2.evaluation import JFMetric
from projects.sam2.evaluation.protocol import JFSAVProtocol, VideoScorer
from projects.sam2.ops import encode_masks
from projects.sam2.structures import FrameMasks

pytest.importorskip('mmdet', reason='mmdet is not installed')
ensure_operators()

from projects.sam2.bridges.tracking import track_metrics

pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::UserWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
]
Masks = NDArray[np.bool_]
FLOOD = 99  # id of a track that covers every frame


@pytest.fixture(scope='module')
def clips() -> list[ShapesClip]:
    """Two clips, whose objects have the ids 1, 2, … each."""
    return [draw_shapes('val', i, num_frames=12, side=64) for i in (0, 2)]


def masks_of(clip: ShapesClip, frame_index: int) -> Masks:
    """Masks of all objects, (O, height, width)."""
    ids = np.arange(1, len(clip.classes) + 1)
    masks: Masks = clip.labels[frame_index] == ids[:, None, None]
    return masks


def shifted(masks: Masks, pixels: int) -> Masks:
    """Masks that are wrong at their borders."""
    return np.roll(masks, pixels, axis=2)


def samples_of(
    clip: ShapesClip,
    video_id: int,
    *,
    shift: int = 0,
    rename: Sequence[int] | None = None,
    is_flooded: bool = False,
    is_empty: bool = False,
) -> Any:
    """The truth of a clip, as annotations and as the prediction.

    Args:
        shift: Shifts the predictions.
        rename: Id of the track of each object.
        is_flooded: A further track covers every frame.
        is_empty: There are no tracks.
    """
    frames = []
    count = len(clip.classes)
    ids = np.array(rename or range(1, count + 1))
    for frame_index in range(len(clip.frames)):
        truth = masks_of(clip, frame_index)
        visible = truth.any(axis=(1, 2))
        instances = []
        for obj in np.flatnonzero(visible):
            rows, columns = np.nonzero(truth[obj])
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            instances.append(
                {
                    'bbox': [float(side) for side in box],
                    'bbox_label': clip.classes[obj],
                    'category_id': 1,
                    'mask': encode_masks(truth[obj][None])[0],
                    'instance_id': int(obj) + 1,
                    'ignore_flag': 0,
                    'mot_conf': 1,
                    'visibility': 1.0,
                }
            )
        kept = visible & (not is_empty)
        flood = np.ones((int(is_flooded), *truth.shape[1:]), bool)
        frames.append(
            det_sample(
                np.concatenate([shifted(truth[kept], shift), flood]),
                labels=[*np.array(clip.classes)[kept], *[0] * len(flood)],
                object_ids=[*ids[kept], *[FLOOD] * len(flood)],
                metainfo={
                    'img_id': 100 * video_id + frame_index,
                    'img_path': f'mot/train/{clip.name}/img1/{frame_index:06d}.jpg',
                    'video_id': video_id,
                    'ori_shape': truth.shape[1:],
                    'instances': instances,
                },
            )
        )
    return track_sample(frames)


def score(metric: Any, videos: Sequence[Any], *, by_frame: bool = False) -> Any:
    """Evaluate a metric as mmdetection's test loop does."""
    metric.dataset_meta = {'classes': CLASSES}
    for video in videos:
        frames = video.video_data_samples
        parts = [[frame] for frame in frames] if by_frame else [frames]
        for part in parts:
            metric.process({}, [{'video_data_samples': part}])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return metric.evaluate(size=len(videos))


@pytest.mark.parametrize('by_frame', [False, True])
def test_true_tracks_have_a_youtube_vis_map_of_1_though_ids_start_anew(
    clips: list[ShapesClip], *, by_frame: bool
) -> None:
    metric = METRICS.build({'type': 'MaskletVISMetric'})
    videos = [samples_of(clip, number) for number, clip in enumerate(clips, start=1)]
    scores = score(metric, videos, by_frame=by_frame)
    assert scores['youtube_vis/segm_mAP'] == 1.0
    assert not hasattr(np, 'float')


def test_a_video_that_ended_early_does_not_count_in_the_next_one(
    clips: list[ShapesClip],
) -> None:
    metric = METRICS.build({'type': 'MaskletVISMetric'})
    jf_metric = METRICS.build({'type': 'JFTrackMetric'})
    for unfinished in (metric, jf_metric):
        frames = samples_of(clips[1], 9).video_data_samples
        unfinished.process({}, [{'video_data_samples': frames[:1]}])
    video = samples_of(clips[0], 1)
    assert score(metric, [video])['youtube_vis/segm_mAP'] == 1.0
    assert score(jf_metric, [video])['J&F'] == 100.0


def test_no_track_at_all_has_a_map_of_0(clips: list[ShapesClip]) -> None:
    metric = METRICS.build({'type': 'MaskletVISMetric'})
    scores = score(metric, [samples_of(clips[0], 1, is_empty=True)])
    assert scores['youtube_vis/segm_mAP'] == 0.0


def test_true_tracks_of_one_class_have_a_hota_of_1(clips: list[ShapesClip]) -> None:
    pytest.importorskip('trackeval', reason='trackeval is not installed')
    from mmdet.evaluation import MOTChallengeMetric  # noqa: PLC0415

    metric = MOTChallengeMetric(metric=['HOTA', 'CLEAR'])
    scores = score(metric, [samples_of(clip, i) for i, clip in enumerate(clips)])
    assert scores['motchallenge-metric/HOTA'] == 1.0
    assert scores['motchallenge-metric/IDSW'] == 0


@pytest.mark.parametrize('match', ['ids', 'masks'])
def test_j_and_f_of_tracks_is_that_of_jf_metric(
    clips: list[ShapesClip], match: str
) -> None:
    jf_metric = JFMetric()
    for index, clip in enumerate(clips):
        scorer = VideoScorer(JFSAVProtocol())
        scorer.begin(range(len(clip.frames)))
        ids = tuple(range(1, len(clip.classes) + 1))
        for frame_index in range(len(clip.frames)):
            truth = masks_of(clip, frame_index)
            scorer.add_masks(
                frame_index,
                '',
                truth=FrameMasks(object_ids=ids, masks=truth),
                pred=dict(zip(ids, shifted(truth, 2), strict=True)),
            )
        video = {'sample_index': index, 'video_name': '', 'scores': scorer.finish('')}
        jf_metric.process(None, [video])
    expected = jf_metric.evaluate(size=len(clips))
    assert 50 < expected['J'] < 95

    protocol = {'type': 'JFSAVProtocol'}
    metric = METRICS.build(
        {'type': 'JFTrackMetric', 'match': match, 'protocol': protocol}
    )
    videos = []
    for number, clip in enumerate(clips):
        # Trackers number objects on their own; some objects change places.
        backwards = range(len(clip.classes), 0, -1)
        rename = [*backwards] if match == 'masks' else None
        videos.append(samples_of(clip, number, shift=2, rename=rename, is_flooded=True))
    scores = score(metric, videos, by_frame=True)
    assert scores == pytest.approx(expected, abs=1e-9)


def test_tracks_without_masks_are_named(clips: list[ShapesClip]) -> None:
    frame = samples_of(clips[0], 3).video_data_samples[0]
    del frame.pred_track_instances.masks
    for name in ('MaskletVISMetric', 'JFTrackMetric'):
        metric = METRICS.build({'type': name})
        with pytest.raises(ValueError, match='Frame 0 of video 3 has no tracks with'):
            metric.process_image([frame], 12)


def test_numpy_keeps_the_float_that_somebody_else_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = torch.float64
    monkeypatch.setitem(vars(np), 'float', theirs)
    with track_metrics.numpy_float():
        assert vars(np)['float'] is theirs
    assert vars(np)['float'] is theirs
