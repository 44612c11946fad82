"""The clips of an epoch do not depend on the number of processes."""

from collections import Counter
from types import SimpleNamespace

import pytest

from projects.sam2.engine import samplers as module
from projects.sam2.engine.samplers import ClipSampler
from projects.sam2.structures.clip import EpochIndex


def order(
    monkeypatch: pytest.MonkeyPatch,
    *,
    length: int = 10,
    seed: int | None = 0,
    epoch: int = 0,
    rank: tuple[int, int] = (0, 1),
) -> list[EpochIndex]:
    """What one of several processes gets."""
    monkeypatch.setattr(module, 'get_dist_info', lambda: rank)
    sampler = ClipSampler(dataset=range(length), seed=seed)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    return indices


def test_an_epoch_is_a_permutation_and_knows_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    indices = order(monkeypatch, epoch=3)
    assert sorted(indices) == list(range(10))
    assert indices != list(range(10))
    assert {(index.epoch, index.seed) for index in indices} == {(3, 0)}


def test_order_follows_seed_and_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert order(monkeypatch, epoch=1) == order(monkeypatch, epoch=1)
    orders = [
        order(monkeypatch, seed=seed, epoch=epoch)
        for seed in range(2)
        for epoch in range(2)
    ]
    assert len({tuple(each) for each in orders}) == 4


@pytest.mark.parametrize('world_size', [2, 3, 4])
def test_processes_together_see_step_by_step_what_one_process_sees(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    alone = order(monkeypatch, length=12)
    dealt = [
        order(monkeypatch, length=12, rank=(r, world_size)) for r in range(world_size)
    ]
    steps = list(zip(*dealt, strict=True))
    assert [index for step in steps for index in step] == alone


def test_clips_are_dealt_again_where_they_do_not_divide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dealt = [order(monkeypatch, length=10, rank=(r, 4)) for r in range(4)]
    assert {len(hand) for hand in dealt} == {3}
    counts = Counter(index for hand in dealt for index in hand)
    assert sorted(counts) == list(range(10))
    assert sorted(counts.values())[-3:] == [1, 2, 2]


def test_fewer_clips_than_processes_still_give_each_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dealt = [order(monkeypatch, length=2, rank=(r, 5)) for r in range(5)]
    assert all(len(hand) == 1 for hand in dealt)


def test_seed_is_drawn_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'sync_random_seed', lambda: 5)
    assert order(monkeypatch, seed=None) == order(monkeypatch, seed=5)


def test_empty_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match='no clip; check data_root'):
        ClipSampler(dataset=[], seed=0)


class Wrapped(list[int]):
    """A wrapper that hands on no epoch with its indices."""

    def __init__(self) -> None:
        super().__init__(range(4))
        self.epochs: list[int] = []
        self.dataset = SimpleNamespace(set_epoch=self.epochs.append)


def test_clips_behind_a_wrapper_are_told_the_epoch() -> None:
    wrapped = Wrapped()
    ClipSampler(dataset=wrapped, seed=0).set_epoch(3)
    assert wrapped.epochs == [3]
