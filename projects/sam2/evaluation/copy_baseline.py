"""The weakest tracker: each object's first true mask on every later frame."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.sam2.evaluation.jf_accumulator import JFAccumulator
from projects.sam2.evaluation.scores import VideoScores
from projects.sam2.structures import (
    FramePrediction,
    VideoRecord,
    VideoResult,
    VideoSource,
)


def copy_first_masks(source: VideoSource) -> Iterator[FramePrediction]:
    """Predict each object where it was first seen.

    Args:
        source: The video; its frames are not decoded.

    Yields:
        A prediction for each annotated frame from the first that shows an object.
    """
    first: dict[int, NDArray[np.bool_]] = {}
    for frame_index in source.annotated_frames():
        truth = source.read_masks(frame_index)
        if truth is None:
            continue
        new = {
            object_id: mask
            for object_id, mask in zip(truth.object_ids, truth.masks, strict=True)
            if object_id not in first and mask.any()
        }
        first.update(new)
        if not first:
            continue
        yield FramePrediction(
            frame_index=frame_index,
            object_ids=tuple(first),
            masks=np.stack(list(first.values())),
            truth=truth,
            prompted_ids=tuple(new),
        )


def score_copy_baseline(
    sources: Sequence[VideoSource], *, protocol: Mapping[str, Any] | None = None
) -> list[VideoScores]:
    """Score the copied masks of videos as the model's masks are scored.

    Args:
        sources: The videos.
        protocol: Config of the protocol, as for :class:`JFAccumulator`.

    Returns:
        Scores of each video, in the given order.
    """
    accumulator = JFAccumulator(protocol=protocol)
    scores: list[VideoScores] = []
    for sample_index, source in enumerate(sources):
        record = VideoRecord(metainfo={'source': source, 'sample_index': sample_index})
        result = VideoResult(
            metainfo={'sample_index': sample_index, 'video_name': source.name}
        )
        accumulator.begin(record)
        for prediction in copy_first_masks(source):
            accumulator.add(prediction)
        accumulator.finish(result)
        scores.append(result.scores)
    return scores
