"""Tables and files of scores."""

import csv
import json
from pathlib import Path

import pytest

from projects.sam2.evaluation import VideoScores, summarise
from projects.sam2.evaluation.report import (
    FRAME_FILE,
    OBJECT_FILE,
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
    assert content['videos'][0]['objects'][1] == {
        'object_id': 2,
        'frames': [1],
        'frame_j': [0.1],
        'frame_f': [0.1],
    }
    assert {path.name for path in folder.iterdir()} == {OBJECT_FILE, FRAME_FILE}
