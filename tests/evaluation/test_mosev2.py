"""MOSEv2's scores against a literal implementation of their definition."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets import ClipSyntheticDataset
from projects.sam2.evaluation import (
    JFDavisProtocol,
    JFMosev2Accumulator,
    JFMosev2Metric,
    VideoScorer,
    VideoScores,
    boundary_map,
    copy_first_masks,
    disappearance_scores,
    reappearance_scores,
    score_masks_mosev2,
    summarise,
)
from projects.sam2.structures import VideoRecord, VideoResult

Mask = NDArray[np.bool_]


def literal_scores(pred: Mask, truth: Mask) -> tuple[float, float]:
    """J and F of a frame, pixel by pixel, as MOSEv2's evaluation defines them."""
    j = ((pred & truth).sum() + 1) / ((pred | truth).sum() + 1)
    radius = 0.008 * math.hypot(*truth.shape)
    if truth.any():
        radius = min(radius, math.ceil(0.1 * math.sqrt(truth.sum())))
    # The structuring element of scikit-image, anchored as OpenCV anchors it.
    axis = [-radius + k for k in range(math.ceil(2 * radius + 1))]
    anchor = len(axis) // 2
    disk = [
        (row - anchor, column - anchor)
        for row, y in enumerate(axis)
        for column, x in enumerate(axis)
        if x * x + y * y <= radius * radius
    ]
    contours = [{*map(tuple, np.argwhere(boundary_map(m)))} for m in (pred, truth)]

    def matched(points: set[Any], others: set[Any]) -> float:
        near = [any((y + dy, x + dx) in others for dy, dx in disk) for y, x in points]
        return sum(near) / len(near) if near else float(not others)

    if not all(contours):
        return float(j), float(contours[0] == contours[1])
    precision, recall = matched(contours[0], contours[1]), matched(*contours[::-1])
    total = precision + recall
    return float(j), 2 * precision * recall / total if total else 0.0


def blob(size: tuple[int, int], rng: np.random.Generator, radius: float) -> Mask:
    """A bumpy disk somewhere, or partly outside."""
    y, x = np.ogrid[: size[0], : size[1]]
    center = rng.uniform((0, 0), size)
    angle = np.arctan2(y - center[0], x - center[1])
    bumpy = radius * (1 + 0.3 * np.sin(5 * angle + rng.uniform(0, 6)))
    mask: Mask = np.hypot(y - center[0], x - center[1]) < bumpy
    return mask


@pytest.mark.parametrize('size', [(30, 41), (90, 160), (300, 420)])
@pytest.mark.parametrize('radius', [3, 20, 60])
def test_frame_is_scored_as_mosev2_defines_it(
    size: tuple[int, int], radius: float
) -> None:
    rng = np.random.default_rng(0)
    truth = blob(size, rng, radius)
    preds = [np.roll(truth, rng.integers(-5, 6, 2), (0, 1)), blob(size, rng, radius)]
    preds += [np.zeros(size, np.bool_), np.ones(size, np.bool_)]
    pairs = [(pred, truth) for pred in preds] + [(truth, np.zeros(size, np.bool_))]
    scores = score_masks_mosev2(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    )
    expected = [literal_scores(*pair) for pair in pairs]
    np.testing.assert_allclose([scores.j, scores.f], np.transpose(expected), atol=1e-12)


def scored(shown: str, num_objects: int = 1) -> VideoScores:
    """A video whose objects are shown on the frames marked with 1, half predicted."""
    scorer = VideoScorer(JFDavisProtocol(), measure='mosev2')
    scorer.begin(range(len(shown)))
    for index, mark in enumerate(shown):
        truth = np.zeros((20, 30), np.uint8)
        pred = truth.copy()
        for object_id in range(1, num_objects + 1):
            if mark == '1':
                truth[2:12, 3 * object_id] = object_id
            if index % (object_id + 1) == 0:
                pred[2:12, 3 * object_id] = object_id
        scorer.add_labels(index, str(index), truth=truth, pred=pred)
    return scorer.finish('video')


def literal_parts(video: VideoScores, shown: bool) -> list[tuple[float, float]]:
    """J and F of each object's runs, found frame by frame."""
    rows = []
    for obj in video.objects:
        runs: list[list[int]] = []
        for index, mark in enumerate(obj.shown):
            if index and mark == shown and obj.shown[index - 1] != shown:
                runs.append([])
            if mark == shown and runs:
                runs[-1].append(index)
        if runs:
            means = [
                [np.mean([values[i] for i in run]) for run in runs]
                for values in (obj.frame_j, obj.frame_f)
            ]
            rows.append((100 * np.mean(means[0]), 100 * np.mean(means[1])))
    return rows


@pytest.mark.parametrize(
    ('shown', 'num_gone', 'num_back'),
    [
        ('1111111', 0, 0),
        ('1101100011101', 2, 2),  # the last frame does not count
        ('1000110', 0, 2),  # gone from the first scored frame: no disappearance
        ('1110000', 2, 0),
        ('1' * 5 + '0' * 5 + '1' * 5, 2, 2),
    ],
)
def test_parts_are_the_runs_after_the_first(
    shown: str, num_gone: int, num_back: int
) -> None:
    video = scored(shown, num_objects=2)
    for scores, count, expected in (
        (disappearance_scores([video]), num_gone, literal_parts(video, shown=False)),
        (reappearance_scores([video]), num_back, literal_parts(video, shown=True)),
    ):
        assert scores.num_objects == len(expected) == count
        if expected:
            assert (scores.j, scores.f) == pytest.approx(np.mean(expected, axis=0))
        else:
            assert math.isnan(scores.j_and_f)


def test_metric_reports_the_means_of_all_videos() -> None:
    videos = [scored('11001100111'), scored('111111', num_objects=2)]
    metric = JFMosev2Metric()
    results = [
        {'sample_index': index, 'video_name': 'video', 'mosev2_scores': video}
        for index, video in enumerate(videos)
    ]
    metric.process(None, results)
    summary = summarise(videos)
    assert metric.evaluate(size=2) == {
        'mosev2/J&F_dot': summary.j_and_f,
        'mosev2/J': summary.j,
        'mosev2/F_dot': summary.f,
        'mosev2/J&F_dot_d': disappearance_scores(videos).j_and_f,
        'mosev2/J&F_dot_r': reappearance_scores(videos).j_and_f,
    }


def test_accumulator_scores_what_the_scorer_scores() -> None:
    clip = ClipSyntheticDataset(num_clips=1, num_frames=8)
    source = clip.open_video(clip.list_videos()[0])
    accumulator = JFMosev2Accumulator()
    accumulator.begin(VideoRecord(metainfo={'source': source, 'sample_index': 0}))
    scorer = VideoScorer(JFDavisProtocol(), measure='mosev2')
    scorer.begin(source.annotated_frames())
    for prediction in copy_first_masks(source):
        accumulator.add(prediction)
        assert prediction.truth is not None
        scorer.add_masks(
            prediction.frame_index,
            'frame',
            truth=prediction.truth,
            pred=dict(zip(prediction.object_ids, prediction.masks, strict=True)),
        )
    result = VideoResult()
    accumulator.finish(result)
    assert result.mosev2_scores.objects == scorer.finish('video').objects


def test_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="No measure 'mose'; choose one of davis, mos"):
        VideoScorer(JFDavisProtocol(), measure='mose')
