"""Pictures of a video and its masklets."""

from dataclasses import replace

import numpy as np
import pytest

from memory_videos import MemoryVideo
from picture_cases import true_masklets
from projects.sam2.structures import FrameMasklets, Masklets
from projects.sam2.visualization import draw_strip, draw_video
from projects.sam2.visualization.strips import choose_frames, prediction_overlay


@pytest.fixture
def video() -> MemoryVideo:
    return MemoryVideo(first_frames=(0, 0))


def indices(frames: tuple[FrameMasklets, ...]) -> list[int]:
    return [frame.frame_index for frame in frames]


@pytest.mark.parametrize(
    ('annotated', 'number', 'expected'),
    [
        (range(11), 3, [0, 5, 10]),
        (range(11), 20, list(range(11))),
        ((1, 4, 9), 6, [1, 4, 9]),
        ((0, 4), 3, [0, 5, 10]),
        ((), 2, [0, 10]),
    ],
)
def test_frames_are_spread_over_those_with_ground_truth(
    annotated: tuple[int, ...], number: int, expected: list[int]
) -> None:
    masklets = true_masklets(MemoryVideo(length=11), range(11))
    assert indices(choose_frames(masklets, annotated, number)) == expected


def test_packed_masks_are_drawn_as_they_were(video: MemoryVideo) -> None:
    frame = true_masklets(video).frames[2]
    overlay = prediction_overlay(frame, video.size)
    assert np.array_equal(overlay.masks, video.masks(2))
    nothing = replace(frame, object_ids=(), encoded=())
    assert prediction_overlay(nothing, video.size).masks.shape == (0, *video.size)


def test_right_prediction_looks_like_the_ground_truth(video: MemoryVideo) -> None:
    picture = next(draw_video(video, true_masklets(video, (1,)), title=''))
    left, right = np.split(picture[60:-8], 2, axis=1)
    assert np.array_equal(left[:, 6:280], right[:, 3:277])


def test_wrong_prediction_does_not(video: MemoryVideo) -> None:
    wrong = Masklets(frames=true_masklets(video, (0,)).frames)
    wrong = Masklets(frames=(replace(wrong.frames[0], frame_index=3),))
    picture = next(draw_video(video, wrong, title=''))
    left, right = np.split(picture[60:-8], 2, axis=1)
    assert not np.array_equal(left[:, 6:280], right[:, 3:277])


def test_every_kept_frame_is_shown_in_one_size(video: MemoryVideo) -> None:
    pictures = list(draw_video(video, true_masklets(video, (0, 2, 4)), title='squares'))
    assert len(pictures) == 3
    assert len({picture.shape for picture in pictures}) == 1
    assert video.reads == [0, 2, 4]


def test_frame_without_ground_truth_says_so() -> None:
    video = MemoryVideo(annotated=(0,))
    with_truth, without = draw_video(video, true_masklets(video, (0, 1)), title='')
    half = with_truth.shape[1] // 2
    assert without[70:-10, :half].mean() < 0.6 * with_truth[70:-10, :half].mean()


def test_strip_reads_no_more_frames_than_it_shows(video: MemoryVideo) -> None:
    strip = draw_strip(video, true_masklets(video), title='squares', num_columns=3)
    assert video.reads == [0, 2, 5]
    assert strip.dtype == np.uint8
    assert strip.shape[0] > 3 * 180
    assert strip.shape[1] > 3 * 300
