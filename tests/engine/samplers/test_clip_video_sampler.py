"""Validation videos are dealt once each, the long ones first."""

import pytest

from projects.sam2.engine import samplers as module
from projects.sam2.engine.samplers import ClipVideoSampler
from projects.sam2.structures.clip import EpochIndex


class Videos(list[None]):
    """As many videos as lengths."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__([None] * len(lengths))
        self.video_lengths = lengths


def deal(
    monkeypatch: pytest.MonkeyPatch, dataset: list[None], world_size: int
) -> list[list[int]]:
    hands = []
    for rank in range(world_size):
        monkeypatch.setattr(module, 'get_dist_info', lambda r=rank: (r, world_size))
        sampler = ClipVideoSampler(dataset=dataset, seed=0)
        hands.append(list(sampler))
        assert len(sampler) == len(hands[-1])
    return hands


def test_one_process_gets_the_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deal(monkeypatch, Videos([5, 90, 20, 90]), 1) == [[1, 3, 2, 0]]


def test_videos_know_their_position_behind_a_wrapper() -> None:
    shifted = [index - 2 for index in ClipVideoSampler(dataset=Videos([9, 8, 7]))]
    positions = [index.position for index in shifted if isinstance(index, EpochIndex)]
    assert (shifted, positions) == ([-2, -1, 0], [0, 1, 2])


@pytest.mark.parametrize('world_size', [2, 3, 8])
def test_every_video_is_dealt_exactly_once(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    hands = deal(monkeypatch, Videos([3, 1, 4, 1, 5, 9, 2]), world_size)
    assert sorted(index for hand in hands for index in hand) == list(range(7))


def test_frames_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dealt in turns, the first process would get 100 + 30 frames, the second 70.
    assert deal(monkeypatch, Videos([30, 100, 40, 30]), 2) == [[1], [2, 0, 3]]


def test_datasets_without_lengths_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert deal(monkeypatch, [None] * 5, 2) == [[0, 2, 4], [1, 3]]


def test_lengths_of_other_videos_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = Videos([3, 4])
    videos.append(None)
    with pytest.raises(ValueError, match='2 entries for 3 videos'):
        deal(monkeypatch, videos, 1)
