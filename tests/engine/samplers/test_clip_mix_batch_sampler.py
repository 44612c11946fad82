"""Several datasets in one loader, each batch from one of them."""

from collections.abc import Sequence
from typing import Any

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset

from projects.sam2.engine import samplers as module
from projects.sam2.engine.samplers import ClipMixBatchSampler, ClipSampler
from projects.sam2.structures.clip import EpochIndex


class Clips(BaseDataset):
    """So many clips."""

    def __init__(self, *, length: int) -> None:
        self.length = length
        super().__init__()

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry for each clip."""
        return [{}] * self.length


VIDEOS = range(40, 52)


def make(
    monkeypatch: pytest.MonkeyPatch | None = None,
    *,
    rank: tuple[int, int] = (0, 1),
    epoch: int = 0,
    seed: int = 0,
    **settings: Any,
) -> ClipMixBatchSampler:
    """A mixture of 40 images and 12 videos."""
    if monkeypatch is not None:
        monkeypatch.setattr(module, 'get_dist_info', lambda: rank)
    datasets = ConcatDataset([Clips(length=40), Clips(length=12)])
    sampler = ClipSampler(dataset=datasets, seed=seed)
    settings = {'batch_sizes': (4, 1)} | settings
    mixed = ClipMixBatchSampler(sampler=sampler, batch_size=1, **settings)
    mixed.sampler.set_epoch(epoch)
    return mixed


def kinds(batches: Sequence[Sequence[int]]) -> list[int]:
    """The dataset of each batch; raises where a batch has clips of two."""
    found = []
    for batch in batches:
        (kind,) = {clip in VIDEOS for clip in batch}
        found.append(int(kind))
    return found


def test_every_batch_comes_from_one_dataset_with_its_own_size() -> None:
    batches = list(make())
    assert len(batches) == len(make()) == 10 + 12
    for batch, kind in zip(batches, kinds(batches), strict=True):
        assert len(batch) == (4, 1)[kind]
    assert sorted(clip for batch in batches for clip in batch) == list(range(52))


def test_one_batch_size_is_for_all_where_none_is_given() -> None:
    assert {len(batch) for batch in make(batch_sizes=None)} == {1}


@pytest.mark.parametrize('world_size', [2, 3])
def test_all_processes_take_the_same_dataset_and_other_clips(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    alone = make().clips_per_step
    ranks = [make(monkeypatch, rank=(r, world_size)) for r in range(world_size)]
    hands = [list(mixed) for mixed in ranks]
    assert len({len(hand) for hand in hands}) == 1
    assert len({tuple(kinds(hand)) for hand in hands}) == 1
    assert ranks[0].clips_per_step == [world_size * count for count in alone]
    for step in zip(*hands, strict=True):
        clips = [clip for batch in step for clip in batch]
        assert len(set(clips)) == len(clips)


@pytest.mark.parametrize('first', [0, 1, 7, 22])
@pytest.mark.parametrize('weights', [None, (0.2, 0.8)])
def test_an_epoch_is_taken_up_exactly_at_any_batch(
    first: int, weights: tuple[float, float] | None
) -> None:
    settings: dict[str, Any] = {'epoch': 3, 'weights': weights, 'repeats': (1, 1.5)}
    whole = [[vars(clip) for clip in batch] for batch in make(**settings)]
    mixed = make(**settings)
    mixed.start_at(first)
    assert [[vars(clip) for clip in batch] for batch in mixed] == whole[first:]
    assert [[vars(clip) for clip in batch] for batch in mixed] == whole


def test_epochs_and_seeds_have_their_own_order_and_one_length() -> None:
    settings: dict[str, Any] = {'repeats': (0.5, 2.5), 'num_phases': 3}
    orders = set()
    for epoch in range(4):
        for seed in range(2):
            mixed = make(epoch=epoch, seed=seed, **settings)
            orders.add(str(list(mixed)))
            assert len(list(mixed)) == len(mixed) == 2 + 10
    assert len(orders) == 8


def test_phases_show_all_clips_before_any_comes_again() -> None:
    mixed = make(num_phases=2)
    seen: list[int] = []
    for epoch in range(2):
        mixed.sampler.set_epoch(epoch)
        seen += [clip for batch in mixed for clip in batch]
    assert sorted(seen) == list(range(52))
    mixed.sampler.set_epoch(2)
    again = [clip for batch in mixed for clip in batch]
    assert again != seen[: len(again)]


def test_repetitions_are_other_draws_and_know_epoch_and_seed() -> None:
    batches = list(make(repeats=(1, 3), epoch=2, seed=5))
    clips = [clip for batch in batches for clip in batch]
    assert {(clip.epoch, clip.seed) for clip in clips} == {(2, 5)}
    places = [clip.position for clip in clips]
    assert len(set(places)) == len(places) == 40 + 36
    assert all(clip.position % 52 == clip for clip in clips)
    assert all(isinstance(clip, EpochIndex) for clip in clips)


def test_weights_draw_the_videos_first() -> None:
    early = [kinds(list(make(epoch=e, weights=(1, 9))))[:10] for e in range(20)]
    assert sum(map(sum, early)) > 0.8 * 200


@pytest.mark.parametrize(
    'settings',
    [
        {'batch_sizes': (1,)},
        {'weights': (1.0, 0.0)},
        {'repeats': (1, 1, 1)},
        {'num_phases': 0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_numbers_must_be_positive_and_one_for_each_dataset(
    settings: dict[str, Any],
) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f'{name}=.*each of the 2 datasets'):
        make(**settings)


def test_a_single_dataset_is_refused() -> None:
    sampler = ClipSampler(dataset=range(4), seed=0)
    with pytest.raises(TypeError, match='ConcatDataset, but the dataset is a range'):
        ClipMixBatchSampler(sampler=sampler, batch_size=1)
