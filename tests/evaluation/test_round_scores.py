"""Scores of rounds, against plain counting and the means that they stand for."""

from dataclasses import replace

import numpy as np
import pytest

from memory_videos import MemoryVideo
from projects.sam2.evaluation import (
    ClipPromptIoUAccumulator,
    ClipPromptIoUMetric,
    JFAccumulator,
    JFRoundsAccumulator,
    JFRoundsMetric,
    ObjectScores,
    RoundIoUs,
    RoundScores,
    VideoScores,
)
from projects.sam2.structures import (
    FramePrediction,
    PromptRound,
    RoundObserver,
    VideoRecord,
    VideoResult,
)
from score_cases import plain_j

PROTOCOL = {'type': 'JFSAVProtocol', 'skip_ends': False}
VIDEO = MemoryVideo(first_frames=(0, 0), length=3, size=(24, 40))
RECORD = VideoRecord(metainfo={'source': VIDEO, 'sample_index': 0})


def prediction(frame: int, name: str, shift: int) -> FramePrediction:
    """The truth, moved to the side."""
    truth = VIDEO.read_masks(frame)
    assert truth is not None
    return FramePrediction(
        frame_index=frame,
        object_ids=truth.object_ids,
        masks=np.roll(truth.masks, shift, axis=2),
        truth=truth,
        prompted_ids=truth.object_ids,
        prompt_round=PromptRound(name=name, is_final=False),
    )


def test_iou_of_each_round_is_counted_pixel_by_pixel() -> None:
    accumulator = ClipPromptIoUAccumulator()
    assert isinstance(accumulator, RoundObserver)
    accumulator.begin(RECORD)
    shifts = {'1_click': 5, '3_clicks': 2}
    for name, shift in shifts.items():
        accumulator.add_round(prediction(0, name, shift))
    result = VideoResult()
    accumulator.finish(result)
    for one, (name, shift) in zip(result.rounds, shifts.items(), strict=True):
        masks = VIDEO.masks(0)
        moved = np.roll(masks, shift, axis=2)
        expected = [plain_j(a, b) for a, b in zip(moved, masks, strict=True)]
        assert one.name == name
        assert one.ious == pytest.approx(expected, abs=1e-12)


def test_frame_without_truth_and_object_without_prompt_do_not_count() -> None:
    accumulator = ClipPromptIoUAccumulator()
    accumulator.begin(RECORD)
    accumulator.add_round(replace(prediction(0, 'box', 1), truth=None))
    accumulator.add_round(replace(prediction(1, 'box', 1), prompted_ids=(2,)))
    result = VideoResult()
    accumulator.finish(result)
    (one,) = result.rounds
    assert len(one.ious) == 1


def test_each_round_scores_as_it_would_alone() -> None:
    together = JFRoundsAccumulator(protocol=PROTOCOL)
    together.begin(RECORD)
    shifts = {'1_frame': 6, '2_frames': 1}
    for frame in range(3):
        for name, shift in shifts.items():
            together.add_round(prediction(frame, name, shift))
    result = VideoResult()
    together.finish(result)
    for one, (name, shift) in zip(result.rounds, shifts.items(), strict=True):
        alone, expected = JFAccumulator(protocol=PROTOCOL), VideoResult()
        alone.begin(RECORD)
        for frame in range(3):
            alone.add(prediction(frame, name, shift))
        alone.finish(expected)
        assert one == RoundScores(name=name, scores=expected.scores)
    assert result.rounds[0].scores != result.rounds[1].scores


def test_rounds_before_a_video_are_refused() -> None:
    with pytest.raises(ValueError, match='begin'):
        JFRoundsAccumulator(protocol=PROTOCOL).add_round(prediction(0, '1_frame', 0))


def test_mean_iou_weighs_objects_alike_and_counts_each_image_once() -> None:
    first = (RoundIoUs(name='box', ious=(0.5, 1.0, 0.9)),)
    second = (RoundIoUs(name='box', ious=(0.0,)),)
    found = ClipPromptIoUMetric().compute_metrics(
        [(4, second), (0, first), (4, second), (2, ())]
    )
    assert found == {'mIoU_box': pytest.approx(60.0)}


def test_mean_j_and_f_by_annotated_frames_is_that_of_the_objects() -> None:
    def scores(name: str, *values: float) -> RoundScores:
        objects = tuple(
            ObjectScores(object_id=n, frames=(0,), frame_j=(v,), frame_f=(v / 2,))
            for n, v in enumerate(values)
        )
        video = VideoScores(video_name='v', objects=objects)
        return RoundScores(name=name, scores=video)

    long = (scores('1_frame', 0.2, 0.4), scores('2_frames', 0.8, 0.8))
    short = (scores('1_frame', 0.6), scores('2_frames', 0.8))
    found = JFRoundsMetric().compute_metrics([(1, short), (0, long), (1, short)])
    assert found == {
        'J&F_1_frame': pytest.approx(30.0),
        'J&F_2_frames': pytest.approx(60.0),
        'J&F_mean': pytest.approx(45.0),
    }
    assert JFRoundsMetric().compute_metrics([(0, ())]) == {}


@pytest.mark.parametrize('metric', [ClipPromptIoUMetric(), JFRoundsMetric()])
def test_result_without_rounds_is_refused(metric: ClipPromptIoUMetric) -> None:
    with pytest.raises(ValueError, match=metric.accumulator):
        metric.process(None, [{'video_name': 'v', 'sample_index': 0}])
