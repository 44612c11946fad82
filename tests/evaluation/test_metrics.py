"""Metrics over all videos, in one process and in two, and their report."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import METRICS

from loss_cases import in_processes
from memory_videos import MemoryVideo
from projects.sam2.evaluation import (
    ClipPromptIoUMetric,
    JFAccumulator,
    JFMetric,
    JFRoundsMetric,
    ObjectScores,
    PredictionGaps,
    VideoScores,
    summarise,
)
from projects.sam2.evaluation.metrics import (
    FRAME_FILE,
    MAX_ROWS,
    OBJECT_FILE,
    VIDEO_FILE,
    describe_gaps,
    describe_no_objects,
    describe_summary,
    format_brief_table,
    format_tables,
    object_rows,
    read_report,
    video_rows,
    write_report,
)
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


def test_two_processes_report_the_same_as_one(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ('name', 'accumulator'),
    [
        ('JFMetric', 'JFAccumulator'),
        ('JFRoundsMetric', 'JFRoundsAccumulator'),
        ('ClipPromptIoUMetric', 'ClipPromptIoUAccumulator'),
        ('ClipLossMetric', 'ClipLossAccumulator'),
    ],
)
def test_missing_accumulator_is_named(name: str, accumulator: str) -> None:
    metric = METRICS.build({'type': name})
    with pytest.raises(ValueError, match=rf"clip 7: .*type='{accumulator}'"):
        metric.process(None, [{'sample_index': 7, 'video_name': 'clip 7'}])


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


def test_tables_are_logged_without_a_warning_about_the_prefix(tmp_path: Path) -> None:
    log = tmp_path / 'run.log'
    MMLogger.get_instance('scores', log_file=str(log))
    report(random_results(2))
    text = log.read_text()
    assert 'mean of 3 objects' in text
    assert 'clip 1' in text
    assert 'prefix' not in text


def test_mean_iou_weights_objects_equally_and_counts_each_image_once() -> None:
    first, second = {'box': (0.5, 1.0, 0.9)}, {'box': (0.0,)}
    results: list[tuple[int, Any]] = [(4, second), (0, first), (4, second), (2, {})]
    reported = ClipPromptIoUMetric().compute_metrics(results)
    assert reported == {'mIoU_box': pytest.approx(60.0)}


def test_mean_j_and_f_by_annotated_frames_is_that_of_the_objects() -> None:
    def scores(*values: float) -> VideoScores:
        objects = tuple(
            ObjectScores(object_id=n, frames=(0,), frame_j=(v,), frame_f=(v / 2,))
            for n, v in enumerate(values)
        )
        return VideoScores(video_name='v', objects=objects)

    long = {'1_frame': scores(0.2, 0.4), '2_frames': scores(0.8, 0.8)}
    short = {'1_frame': scores(0.6), '2_frames': scores(0.8)}
    reported = JFRoundsMetric().compute_metrics([(1, short), (0, long), (1, short)])
    assert reported == {
        'J&F_1_frame': pytest.approx(30.0),
        'J&F_2_frames': pytest.approx(60.0),
        'J&F_mean': pytest.approx(45.0),
    }
    assert JFRoundsMetric().compute_metrics([(0, {})]) == {}


@pytest.fixture
def videos() -> list[VideoScores]:
    return [
        video_scores('tennis', o1=(0.5, 0.7), o2=(0.1, 0.1)),
        video_scores('a longer name', o3=(1.0, 1.0)),
    ]


def test_rows_hold_percent(videos: list[VideoScores]) -> None:
    assert object_rows(videos) == [
        ('tennis', '1', '1', '60.0', '50.0', '70.0'),
        ('tennis', '2', '1', '10.0', '10.0', '10.0'),
        ('a longer name', '3', '1', '100.0', '100.0', '100.0'),
    ]
    assert video_rows(videos) == [
        ('tennis', '2', '1', '35.0', '30.0', '40.0'),
        ('a longer name', '1', '1', '100.0', '100.0', '100.0'),
    ]


def test_video_without_objects_has_dashes() -> None:
    empty = VideoScores(video_name='short', objects=())
    assert video_rows([empty]) == [('short', '0', '0', '-', '-', '-')]
    assert 'nan' in format_tables([empty], summarise([empty]))


def test_tables_are_aligned_and_end_with_the_mean(videos: list[VideoScores]) -> None:
    by_video, by_object = format_tables(videos, summarise(videos)).split('\n\n')
    for table in (by_video, by_object):
        assert len({len(line) for line in table.splitlines()}) == 1
    assert len(by_video.splitlines()) == 3
    assert by_object.splitlines()[-1].split() == [
        *('mean', 'of', '3', 'objects'),
        *('56.7', '53.3', '60.0'),
    ]


def test_one_table_is_enough_for_one_object_a_video() -> None:
    videos = [video_scores('a', o1=(0.5, 0.5)), video_scores('b', o1=(0.5, 0.5))]
    assert '\n\n' not in format_tables(videos, summarise(videos))
    assert 'mean of 1 object ' in format_tables(videos[:1], summarise(videos[:1]))


def test_files_hold_each_object_and_each_frame(
    tmp_path: Path, videos: list[VideoScores]
) -> None:
    folder = tmp_path / 'new' / 'scores'
    for _ in range(2):  # a second report replaces the first
        write_report(folder, videos, summarise(videos))
    with (folder / OBJECT_FILE).open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['J&F'] for row in rows] == ['60.0', '10.0', '100.0']
    content = json.loads((folder / FRAME_FILE).read_text())
    assert content['summary']['num_objects'] == 3
    scores = [content['summary'][key] for key in ('j_and_f', 'j', 'f')]
    assert scores == pytest.approx([56.667, 53.333, 60.0], abs=1e-3)
    assert content['videos'][0]['objects'][1] == {
        'object_id': 2,
        'frames': [1],
        'frame_j': [0.1],
        'frame_f': [0.1],
        'shown': [],
    }
    assert {path.name for path in folder.iterdir()} == {
        OBJECT_FILE,
        VIDEO_FILE,
        FRAME_FILE,
    }


def test_rows_of_files_hold_recall_and_decay(tmp_path: Path) -> None:
    scores = ObjectScores(
        object_id=4,
        frames=tuple(range(8)),
        frame_j=(1.0, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2),
        frame_f=(0.6,) * 8,
    )
    video = VideoScores(video_name='a', objects=(scores,))
    empty = VideoScores(video_name='b', objects=())
    write_report(tmp_path, [video, empty], summarise([video, empty]))
    for name in (OBJECT_FILE, VIDEO_FILE):
        with (tmp_path / name).open(newline='') as file:
            rows = list(csv.DictReader(file))
        recalls = {
            name: [rows[0][f'{score} {name}'] for score in 'JF']
            for name in ('recall', 'sequence recall')
        }
        assert recalls == {
            'recall': ['25.0', '100.0'],
            'sequence recall': ['0.0', '100.0'],
        }
        # Frames 1 to 3 less frames 6 to 8, of 8.
        assert [rows[0][f'{score} decay'] for score in 'JF'] == ['46.7', '0.0']
    assert rows[1]['J decay'] == '-'
    text = describe_summary(summarise([video]))
    assert text == (
        'recall (frames above 50): J 25.0, F 100.0; sequence recall (objects above 50):'
        ' J 0.0, F 100.0; decay: J 46.7, F 0.0'
    )


def test_gaps_are_named_but_not_too_many() -> None:
    gaps = PredictionGaps(
        missing_frames=tuple(f'{i:05}' for i in range(7)),
        missing_objects=(3,),
        extra_objects=(8, 9),
    )
    video = VideoScores(video_name='cat', objects=(), gaps=gaps, protocol='theirs')
    first, *others = describe_gaps([video, VideoScores(video_name='dog', objects=())])
    assert first.startswith('cat: 7 frames (00000, 00001, 00002, 00003, 00004, …) not')
    assert others == [
        'cat: 1 object (3) never predicted, counted as empty',
        'cat: 2 objects (8, 9) predicted, but not in the ground truth',
    ]
    assert 'No object of 1 videos counts' in describe_no_objects([video])
    assert 'theirs' in describe_no_objects([video])


def scores_of(j: float, num_videos: int = 2) -> list[VideoScores]:
    obj = ObjectScores(object_id=1, frames=(1, 2), frame_j=(j, j), frame_f=(j, j))
    return [
        VideoScores(video_name=f'clip {index}', objects=(obj,))
        for index in range(num_videos)
    ]


def test_scores_of_the_last_and_the_best_validation_lie_beside_the_log(
    tmp_path: Path,
) -> None:
    MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / 'run.log'))
    metric = JFMetric()
    for j in (0.25, 0.75, math.nan, 0.5):
        metric.average(scores_of(j))
    assert read_report(tmp_path / 'scores' / 'last') == scores_of(0.5)
    assert read_report(tmp_path / 'scores' / 'best') == scores_of(0.75)
    # A folder that cannot be written is no reason to end the run.
    folder = tmp_path / 'scores' / 'last'
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text('no folder')
    assert metric.average(scores_of(1.0))['J&F'] == 100
    assert 'could not be written' in (tmp_path / 'run.log').read_text()


def test_screen_shows_the_worst_of_many_videos() -> None:
    videos = [
        *scores_of(0.5, MAX_ROWS),
        VideoScores(video_name='bad', objects=scores_of(0.125)[0].objects),
        VideoScores(video_name='none', objects=()),
    ]
    lines = format_brief_table(videos, summarise(videos)).splitlines()
    assert lines[1].split()[0] == 'bad'
    assert '… and 2 better ones' in lines[MAX_ROWS + 1]
    assert lines[-1].split()[:4] == ['mean', 'over', 'objects', str(MAX_ROWS + 1)]
    assert len(lines) == MAX_ROWS + 3
