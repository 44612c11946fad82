"""J and F written out pixel by pixel, and results of videos to score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import METRICS
from numpy.typing import NDArray
from torch import distributed

from projects.sam2.evaluation import JFAccumulator, ObjectScores, VideoScores
from projects.sam2.structures import (
    FrameMasks,
    FramePrediction,
    VideoRecord,
    VideoResult,
    VideoSource,
)

Mask = NDArray[np.bool_]


def plain_contour(mask: Mask) -> list[tuple[int, int]]:
    """Pixels that differ from the one to the right, below, or below right."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            others = (mask[y, right], mask[below, x], mask[below, right])
            if any(mask[y, x] != other for other in others):
                found.append((y, x))
    return found


def plain_j(pred: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Intersection over union, pixel by pixel."""
    counted = [
        (bool(p), bool(t))
        for p, t, v in zip(
            pred.flat, truth.flat, _void_of(truth, void).flat, strict=True
        )
        if not v
    ]
    union = sum(p or t for p, t in counted)
    return sum(p and t for p, t in counted) / union if union else 1.0


def plain_f(pred: Mask, truth: Mask, void: Mask | None = None) -> float:
    """F of the contours, each pixel compared with each."""
    kept = ~_void_of(truth, void)
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    contours = [plain_contour(mask & kept) for mask in (pred, truth)]
    if not contours[0] and not contours[1]:
        return 1.0
    shares = []
    for own, other in (contours, contours[::-1]):
        near = sum(
            any((y - b) ** 2 + (x - a) ** 2 <= radius**2 for b, a in other)
            for y, x in own
        )
        # Where there is no contour nothing about it is wrong.
        shares.append(near / len(own) if own else 1.0)
    total = sum(shares)
    return 2 * shares[0] * shares[1] / total if total else 0.0


def _void_of(truth: Mask, void: Mask | None) -> Mask:
    return np.zeros_like(truth) if void is None else void


def predict(
    source: VideoSource, frame_index: int, masks: Mapping[int, Mask]
) -> FramePrediction:
    """A prediction of masks by object."""
    truth = source.read_masks(frame_index)
    size = source.read_frame(frame_index).shape[:2]
    return FramePrediction(
        frame_index=frame_index,
        object_ids=tuple(masks),
        masks=np.stack(list(masks.values())) if masks else np.zeros((0, *size), bool),
        truth=truth,
    )


def predict_truth(source: VideoSource, frame_index: int) -> FramePrediction:
    """The ground truth as a prediction, nothing where the frame has none."""
    truth = source.read_masks(frame_index)
    return predict(source, frame_index, {} if truth is None else masks_of(truth))


def masks_of(truth: FrameMasks) -> dict[int, Mask]:
    """Masks by object."""
    return dict(zip(truth.object_ids, truth.masks, strict=True))


def score(
    source: VideoSource,
    predictions: Sequence[FramePrediction],
    protocol: Mapping[str, Any] | None = None,
) -> VideoScores:
    """What the accumulator makes of predictions."""
    accumulator = JFAccumulator(protocol=protocol)
    accumulator.begin(record_of(source))
    for prediction in predictions:
        accumulator.add(prediction)
    result = VideoResult(metainfo={'sample_index': 0, 'video_name': source.name})
    accumulator.finish(result)
    scores: VideoScores = result.scores
    return scores


def record_of(source: VideoSource, sample_index: int = 0) -> VideoRecord:
    """A validation item."""
    return VideoRecord(metainfo={'source': source, 'sample_index': sample_index})


def video_scores(name: str, **by_object: tuple[float, float]) -> VideoScores:
    """Scores with one frame an object: ``o3=(j, f)`` for object 3."""
    return VideoScores(
        video_name=name,
        objects=tuple(
            ObjectScores(
                object_id=int(key.removeprefix('o')),
                frames=(1,),
                frame_j=(j,),
                frame_f=(f,),
            )
            for key, (j, f) in by_object.items()
        ),
    )


def random_results(number: int) -> list[dict[str, Any]]:
    """Results of videos of 1 to 3 objects, as MMEngine's evaluator hands them on."""
    rng = np.random.default_rng(number)
    return [
        {
            'sample_index': index,
            'video_name': f'clip {index}',
            'scores': video_scores(
                f'clip {index}',
                **{f'o{n}': tuple(rng.random(2)) for n in range(1 + index % 3)},
            ),
        }
        for index in range(number)
    ]


def gathered_scores(
    shares: Sequence[list[dict[str, Any]]], size: int
) -> dict[str, float]:
    """What ``JFMetric`` reports where each process has a share of the videos."""
    metric = METRICS.build({'type': 'JFMetric'})
    metric.process(None, shares[distributed.get_rank()])
    reported: dict[str, float] = metric.evaluate(size)
    return reported
