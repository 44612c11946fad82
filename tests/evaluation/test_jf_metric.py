"""J&F of a set of videos, under MMEngine's evaluator and under two processes."""

import math
from pathlib import Path
from typing import Any

import pytest
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from loss_cases import in_processes
from memory_videos import MemoryVideo
from projects.sam2.evaluation import JFAccumulator, JFMetric, summarise
from projects.sam2.structures import VideoResult
from score_cases import (
    gathered_scores,
    predict_truth,
    random_results,
    record_of,
    score,
    video_scores,
)


def report(results: list[dict[str, Any]]) -> dict[str, float]:
    metric = JFMetric()
    metric.process(None, results)
    reported: dict[str, float] = metric.evaluate(len(results))
    return reported


def test_figures_are_means_over_the_objects_of_all_videos() -> None:
    results = random_results(5)
    summary = summarise([result['scores'] for result in results])
    assert report(results) == {
        'J&F': summary.j_and_f,
        'J': summary.j,
        'F': summary.f,
    }
    assert 0 < summary.j < 100


def test_video_that_comes_twice_counts_once() -> None:
    results = random_results(4)
    metric = JFMetric()
    metric.process(None, [*results, results[0]])
    assert metric.evaluate(5) == report(results)


def test_order_of_the_videos_does_not_matter() -> None:
    results = random_results(7)
    assert report(results[::-1]) == report(results)


def test_two_processes_report_what_one_reports(tmp_path: Path) -> None:
    results = random_results(7)
    # Unequal shares, and one video in both, as a sampler that rounds up deals them.
    shares = [results[:5], results[4:]]
    reported = in_processes(gathered_scores, 2, tmp_path, shares, 8)
    assert reported == [report(results)] * 2


def test_process_without_a_video_takes_part(tmp_path: Path) -> None:
    results = random_results(3)
    reported = in_processes(gathered_scores, 2, tmp_path, [results, []], 3)
    assert reported == [report(results)] * 2


def test_no_object_at_all_is_unknown() -> None:
    result = {'sample_index': 0, 'video_name': 'x', 'scores': video_scores('x')}
    assert math.isnan(report([result])['J&F'])


def test_no_object_at_all_is_warned_of_with_the_protocol(tmp_path: Path) -> None:
    log = tmp_path / 'run.log'
    MMLogger.get_instance('scores', log_file=str(log))
    video = MemoryVideo(length=2, first_frames=(0,))
    scores = score(video, [predict_truth(video, index) for index in range(2)])
    report([{'sample_index': 0, 'video_name': 'x', 'scores': scores}])
    text = log.read_text()
    assert 'WARNING' in text
    assert 'JFDavisProtocol(skip_first=True, skip_last=True)' in text


def test_frames_that_were_not_predicted_are_warned_of(tmp_path: Path) -> None:
    log = tmp_path / 'run.log'
    MMLogger.get_instance('scores', log_file=str(log))
    video = MemoryVideo(first_frames=(0,))
    scores = score(video, [predict_truth(video, index) for index in (0, 1, 4)])
    report([{'sample_index': 0, 'video_name': 'x', 'scores': scores}])
    assert '2 frames (00002, 00003) not predicted, counted as empty' in log.read_text()


def test_missing_accumulator_is_named() -> None:
    with pytest.raises(ValueError, match=r'clip 7.*JFAccumulator'):
        JFMetric().process(None, [{'sample_index': 7, 'video_name': 'clip 7'}])


def test_results_pass_through_the_evaluator_of_mmengine(tmp_path: Path) -> None:
    video = MemoryVideo(first_frames=(0, 0))
    accumulator = JFAccumulator()
    accumulator.begin(record_of(video, 3))
    for index in range(6):
        accumulator.add(predict_truth(video, index))
    result = VideoResult(metainfo={'sample_index': 3, 'video_name': video.name})
    accumulator.finish(result)
    evaluator = Evaluator({'type': 'JFMetric', 'out_dir': str(tmp_path / 'scores')})
    evaluator.process([result])
    assert evaluator.evaluate(1) == {'J&F': 100.0, 'J': 100.0, 'F': 100.0}
    assert sorted(path.name for path in (tmp_path / 'scores').iterdir()) == [
        'jf_frames.json',
        'jf_objects.csv',
        'jf_videos.csv',
    ]


def test_tables_are_logged_and_no_prefix_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / 'run.log'
    MMLogger.get_instance('scores', log_file=str(log))
    report(random_results(2))
    text = log.read_text()
    assert 'mean of 3 objects' in text
    assert 'clip 1' in text
    assert 'prefix' not in text
