"""When the frames of an mp4 file are shown, from its boxes."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.sam2.ops import read_video_timing, seeks_exactly
from projects.sam2.ops.mp4_timing import VideoTiming
from uneven_videos import TABLE_PATH, find_boxes, set_durations

RATE, NUM_FRAMES = 24, 20


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / 'ant.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), RATE, (32, 16))
    for _ in range(NUM_FRAMES):
        writer.write(np.zeros((16, 32, 3), np.uint8))
    writer.release()
    return path


def test_number_and_durations_are_those_that_were_written(video: Path) -> None:
    (timing,) = read_video_timing(video)
    assert timing.num_samples == NUM_FRAMES
    assert timing.runs[:, 0].sum() == NUM_FRAMES
    assert set(timing.runs[:, 1] / timing.ticks_per_second) == {1 / RATE}
    assert seeks_exactly(video, RATE)


def test_another_rate_than_the_decoder_has_is_not_exact(video: Path) -> None:
    assert not seeks_exactly(video, RATE * 1.1)
    assert not seeks_exactly(video, float('nan'))


def test_unevenly_spaced_video_is_not_exact(video: Path) -> None:
    set_durations(video, [(8, 512), (1, 1024), (11, 512)])
    (timing,) = read_video_timing(video)
    assert timing.runs.tolist() == [[8, 512], [1, 1024], [11, 512]]
    assert not seeks_exactly(video, RATE)


@pytest.mark.parametrize(
    ('ticks', 'runs', 'is_even'),
    [
        # 30 frames a second in thousandths: 33, 33, 34 ms.
        (1000, [(2, 33), (1, 34)] * 50, True),
        (30_000, [(149, 1000), (1, 9000)], True),
        (30_000, [(75, 1000), (75, 1010)], False),
        (30_000, [(1, 900), (1, 1100)] * 75, True),
        (30_000, [(1, 600), (1, 1400)] * 75, False),
        (30_000, [], False),
        (30_000, [(0, 5)], False),
    ],
    ids=['rounded', 'long_last', 'slower', 'wavering', 'unsteady', 'none', 'empty'],
)
def test_drift_of_a_quarter_of_a_frame_is_tolerated(
    ticks: int,
    runs: list[tuple[int, int]],
    is_even: bool,
) -> None:
    table = np.array(runs, np.uint32).reshape(-1, 2)
    timing = VideoTiming(num_samples=150, ticks_per_second=ticks, runs=table)
    assert timing.is_even(30.0) is is_even


def test_truncated_file_is_not_exact(video: Path) -> None:
    content = video.read_bytes()
    boxes = find_boxes(content, TABLE_PATH)
    for length in (0, 7, boxes[0] + 9, boxes[2] + 40, boxes[-1] + 12, len(content) - 1):
        video.write_bytes(content[:length])
        assert not seeks_exactly(video, RATE)


def test_table_longer_than_its_box_is_refused(video: Path) -> None:
    data = bytearray(video.read_bytes())
    place = find_boxes(data, TABLE_PATH)[-1]
    for num_runs in (2, 2**31):
        data[place + 12 : place + 16] = num_runs.to_bytes(4, 'big')
        video.write_bytes(data)
        assert read_video_timing(video) == ()


def test_endless_boxes_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / 'bad.mp4'
    path.write_bytes(b'\0\0\0\x08free' * 100_000)
    assert read_video_timing(path) == ()
    path.write_bytes(b'\0\0\0\0moov' * 50)  # each goes on to the end
    assert read_video_timing(path) == ()
