"""Means over frames, objects and videos."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.sam2.evaluation import ObjectScores, VideoScores, summarise
from projects.sam2.evaluation.scores import score_decay
from published_scores import published_videos
from score_cases import video_scores


@pytest.fixture
def video() -> VideoScores:
    first = ObjectScores(
        object_id=2, frames=(1, 2), frame_j=(0.25, 0.75), frame_f=(0.5, 1.0)
    )
    second = ObjectScores(object_id=7, frames=(2, 4), frame_j=(1, 0), frame_f=(0, 0))
    return VideoScores(video_name='clip', objects=(first, second))


def test_object_is_averaged_over_its_frames(video: VideoScores) -> None:
    assert video.object_ids == (2, 7)
    assert video.j == (0.5, 0.5)
    assert video.f == (0.75, 0.0)
    assert video.num_frames == 3


def test_each_object_of_any_video_weighs_the_same(video: VideoScores) -> None:
    other = video_scores('other', o1=(0.2, 0.9))
    summary = summarise([video, other])
    assert summary.j == pytest.approx(100 * (0.5 + 0.5 + 0.2) / 3)
    assert summary.f == pytest.approx(100 * (0.75 + 0 + 0.9) / 3)
    assert summary.j_and_f == pytest.approx((summary.j + summary.f) / 2)
    assert (summary.num_objects, summary.num_videos) == (3, 2)


def test_mean_of_nothing_is_unknown() -> None:
    summary = summarise([VideoScores(video_name='empty', objects=())])
    assert math.isnan(summary.j_and_f)
    assert (summary.num_objects, summary.num_videos) == (0, 1)


@pytest.mark.parametrize('protocol', [2, pickle.HIGHEST_PROTOCOL])
def test_scores_travel_between_processes(video: VideoScores, protocol: int) -> None:
    # MMEngine gathers with protocol 2.
    assert pickle.loads(pickle.dumps(video, protocol)) == video  # noqa: S301  own bytes


@pytest.mark.published_scores
def test_published_means_and_decays_are_met_to_the_last_bit(
    published: Path,
) -> None:
    for video in published_videos(published):
        for object_id, wanted in video.scores.items():
            frame_j, frame_f = (
                tuple(v for v in wanted[f'{score}_per_frame'] if v is not None)
                for score in 'JF'
            )
            frames = tuple(range(len(frame_j)))
            scores = ObjectScores(
                object_id=object_id, frames=frames, frame_j=frame_j, frame_f=frame_f
            )
            assert (scores.j, scores.f) == (wanted['J'], wanted['F'])
            assert scores.decays == (wanted['J_decay'], wanted['F_decay'])


@pytest.mark.parametrize(
    ('number', 'first', 'last'), [(1, 1, 1), (3, 2, 1), (5, 2, 2), (400, 101, 101)]
)
def test_decay_is_from_the_first_quarter_to_the_last(
    number: int, first: int, last: int
) -> None:
    # Quarters share a frame; beyond 256 frames the toolkit's own count overflows.
    values = np.random.default_rng(number).random(number)
    expected = values[:first].mean() - values[-last:].mean()
    assert score_decay(values.tolist()) == pytest.approx(expected, abs=1e-15)


def plain_recall(objects: list[list[float]]) -> float:
    """Recall as davis2017-evaluation means it, in percent.

    Of each object the share of its frames above one half; of these shares the mean.
    """
    shares = []
    for values in objects:
        above = 0
        for value in values:
            if value > 0.5:
                above += 1
        shares.append(above / len(values))
    return 100 * sum(shares) / len(shares)


def plain_decay(values: list[float]) -> float:
    """Decay as davis2017-evaluation means it: the first of four bins less the last.

    The bins' edges lie at even distances between the first and the last frame, rounded
    to whole frames (a half upwards); a frame on an edge is in both bins.
    """
    length = len(values)
    edges = [math.floor(part * (length - 1) / 4 + 0.5) for part in range(5)]
    bins = [values[edges[part] : edges[part + 1] + 1] for part in range(4)]
    return sum(bins[0]) / len(bins[0]) - sum(bins[3]) / len(bins[3])


# One half itself is not above it.
FRAME_SCORES = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.50001, 1.0]), min_size=1)


@given(st.lists(st.lists(FRAME_SCORES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_recall_and_decay_are_those_of_davis_2017(
    dataset: list[list[list[float]]],
) -> None:
    videos = [
        VideoScores(
            video_name=f'clip {number}',
            objects=tuple(
                ObjectScores(
                    object_id=object_id,
                    frames=tuple(range(len(values))),
                    frame_j=tuple(values),
                    frame_f=tuple(value / 2 for value in values),
                )
                for object_id, values in enumerate(objects, start=1)
            ),
        )
        for number, objects in enumerate(dataset)
    ]
    summary = summarise(videos)
    js = [values for objects in dataset for values in objects]
    fs = [[value / 2 for value in values] for values in js]
    assert summary.j_recall == pytest.approx(plain_recall(js))
    assert summary.f_recall == pytest.approx(plain_recall(fs))
    decays = [plain_decay(values) for values in js]
    assert summary.j_decay == pytest.approx(100 * np.mean(decays), abs=1e-9)


def test_recalls_of_frames_and_of_sequences_differ(
    video: VideoScores,
) -> None:
    first, second = video.objects
    assert (first.recalls, second.recalls) == ((0.5, 0.5), (0.5, 0.0))
    assert first.sequence_recalls == (0.0, 1.0)
    assert second.sequence_recalls == (0.0, 0.0)
    summary = summarise([video])
    assert (summary.j_recall, summary.f_recall) == (50.0, 25.0)
    assert (summary.j_sequence_recall, summary.f_sequence_recall) == (0.0, 50.0)
