"""Tables and files of scores."""

import csv
import json
from pathlib import Path

import pytest

from projects.sam2.evaluation import (
    ObjectScores,
    PredictionGaps,
    VideoScores,
    summarise,
)
from projects.sam2.evaluation.jf_metric import (
    FRAME_FILE,
    OBJECT_FILE,
    VIDEO_FILE,
    describe_gaps,
    describe_nothing,
    describe_summary,
    format_tables,
    object_rows,
    video_rows,
    write_report,
)
from score_cases import video_scores


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
    assert 'No object of 1 videos counts' in describe_nothing([video])
    assert 'theirs' in describe_nothing([video])
