"""Which clips each process sees, in which order, and from which batch on."""

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from torch.utils.data import DataLoader, Dataset

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.engine import samplers as module
from projects.sam2.engine.samplers import (
    ClipBatchSampler,
    ClipMixBatchSampler,
    ClipSampler,
    ClipVideoSampler,
    MixedDataset,
    draw_datasets,
)
from projects.sam2.structures.clip import EpochIndex

Rank = tuple[int, int]  # and the number of processes
ALONE: Rank = (0, 1)


def epoch_of(
    monkeypatch: pytest.MonkeyPatch,
    *,
    num_clips: int = 10,
    seed: int | None = 0,
    epoch: int = 0,
    rank: Rank = ALONE,
) -> list[EpochIndex]:
    """The clips of one process in an epoch."""
    monkeypatch.setattr(module, 'get_dist_info', lambda: rank)
    sampler = ClipSampler(dataset=range(num_clips), seed=seed)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    return indices


def test_epoch_is_a_permutation_by_seed_and_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    indices = epoch_of(monkeypatch, epoch=3)
    assert sorted(indices) == list(range(10))
    assert {(index.epoch, index.seed) for index in indices} == {(3, 0)}
    assert indices == epoch_of(monkeypatch, epoch=3)
    orders = {
        tuple(epoch_of(monkeypatch, seed=seed, epoch=epoch))
        for seed in range(2)
        for epoch in range(2)
    }
    assert len(orders) == 4


@pytest.mark.parametrize('world_size', [2, 3, 4])
def test_processes_see_step_by_step_the_clips_of_one_process(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    alone = epoch_of(monkeypatch, num_clips=12)
    ranks = [
        epoch_of(monkeypatch, num_clips=12, rank=(rank, world_size))
        for rank in range(world_size)
    ]
    assert [index for step in zip(*ranks, strict=True) for index in step] == alone


@pytest.mark.parametrize(('num_clips', 'world_size', 'each'), [(10, 4, 3), (2, 5, 1)])
def test_first_clips_are_repeated_if_they_do_not_divide(
    monkeypatch: pytest.MonkeyPatch, num_clips: int, world_size: int, each: int
) -> None:
    ranks = [
        epoch_of(monkeypatch, num_clips=num_clips, rank=(rank, world_size))
        for rank in range(world_size)
    ]
    assert {len(indices) for indices in ranks} == {each}
    counts = Counter(index for indices in ranks for index in indices)
    assert sorted(counts) == list(range(num_clips))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_seed_is_drawn_if_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'sync_random_seed', lambda: 5)
    assert epoch_of(monkeypatch, seed=None) == epoch_of(monkeypatch, seed=5)


def test_empty_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match='no clip; check data_root'):
        ClipSampler(dataset=[], seed=0)


class Wrapper(list[int]):
    """A dataset wrapper that does not pass on the epoch of an index."""

    def __init__(self) -> None:
        super().__init__(range(4))
        self.epochs: list[int] = []
        self.dataset = SimpleNamespace(set_epoch=self.epochs.append)


def test_epoch_reaches_the_dataset_in_a_wrapper() -> None:
    wrapper = Wrapper()
    ClipSampler(dataset=wrapper, seed=0).set_epoch(3)
    assert wrapper.epochs == [3]


class Clips(Dataset[int]):
    """Eleven clips; records which were loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        """Not a multiple of the batch size."""
        return 11

    def __getitem__(self, index: int) -> int:
        """Load a clip."""
        self.loaded.append(int(index))
        return int(index)


def batched(batch_size: int = 3) -> tuple[Clips, ClipBatchSampler]:
    clips = Clips()
    sampler = ClipSampler(dataset=clips, seed=0)
    return clips, ClipBatchSampler(sampler=sampler, batch_size=batch_size)


def test_batches_hold_the_samplers_clips_in_order() -> None:
    _, batches = batched()
    assert [len(batch) for batch in batches] == [3, 3, 3, 2]
    assert len(batches) == 4
    assert [index for batch in batches for index in batch] == list(batches.sampler)


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('first', [0, 2, 4])
def test_only_the_next_epoch_starts_later_and_loads_nothing_before(
    first: int, num_workers: int
) -> None:
    clips, batches = batched()
    whole = [list(map(int, batch)) for batch in batches]
    loader: DataLoader[Any] = DataLoader(
        clips, batch_sampler=batches, num_workers=num_workers, collate_fn=list
    )
    batches.start_at(first)
    iter(batches)  # an iterator that is not used leaves the start
    assert len(batches) == 4
    assert list(loader) == whole[first:]
    if not num_workers:
        assert clips.loaded == [index for batch in whole[first:] for index in batch]
    assert list(loader) == whole


@pytest.mark.parametrize('first', [-1, 5])
def test_start_outside_the_epoch_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match=f'batch {first} of an epoch of 4'):
        batched()[1].start_at(first)


def test_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match='batch_size is 0'):
        batched(batch_size=0)


class Entries(BaseDataset):
    """A dataset for ``ConcatDataset``."""

    def __init__(self, *, length: int) -> None:
        self.length = length
        super().__init__()

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry per clip."""
        return [{}] * self.length


VIDEOS = range(40, 52)


def mixed(
    monkeypatch: pytest.MonkeyPatch | None = None,
    *,
    rank: Rank = ALONE,
    epoch: int = 0,
    seed: int = 0,
    **options: Any,
) -> ClipMixBatchSampler:
    """A mixture of 40 images and 12 videos."""
    if monkeypatch is not None:
        monkeypatch.setattr(module, 'get_dist_info', lambda: rank)
    datasets = ConcatDataset([Entries(length=40), Entries(length=12)])
    sampler = ClipSampler(dataset=datasets, seed=seed)
    options = {'batch_sizes': (4, 1)} | options
    batches = ClipMixBatchSampler(sampler=sampler, batch_size=1, **options)
    sampler.set_epoch(epoch)
    return batches


def kinds(batches: Sequence[Sequence[int]]) -> list[int]:
    """Dataset of each batch; raises if a batch has clips of both."""
    found = []
    for batch in batches:
        (kind,) = {clip in VIDEOS for clip in batch}
        found.append(int(kind))
    return found


def test_every_batch_comes_from_one_dataset_with_its_own_size() -> None:
    batches = list(mixed())
    assert len(batches) == len(mixed()) == 10 + 12
    for batch, kind in zip(batches, kinds(batches), strict=True):
        assert len(batch) == (4, 1)[kind]
    assert sorted(clip for batch in batches for clip in batch) == list(range(52))
    assert {len(batch) for batch in mixed(batch_sizes=None)} == {1}


@pytest.mark.parametrize('world_size', [2, 3])
def test_all_processes_take_the_same_dataset_and_other_clips(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    alone = mixed().clips_per_step
    ranks = [mixed(monkeypatch, rank=(r, world_size)) for r in range(world_size)]
    batches = [list(sampler) for sampler in ranks]
    assert len({tuple(kinds(each)) for each in batches}) == 1
    assert ranks[0].clips_per_step == [world_size * count for count in alone]
    for step in zip(*batches, strict=True):
        clips = [clip for batch in step for clip in batch]
        assert len(set(clips)) == len(clips)


@pytest.mark.parametrize('first', [0, 1, 7, 22])
@pytest.mark.parametrize('weights', [None, (0.2, 0.8)])
def test_mixed_epoch_resumes_exactly_at_any_batch(
    first: int, weights: tuple[float, float] | None
) -> None:
    batches = mixed(epoch=3, weights=weights, repeats=(1, 1.5))

    def epoch() -> list[list[dict[str, int]]]:
        return [[vars(clip) for clip in batch] for batch in batches]

    whole = epoch()
    batches.start_at(first)
    assert epoch() == whole[first:]
    assert epoch() == whole


def test_mixed_epochs_differ_in_order_and_not_in_length() -> None:
    orders = set()
    for epoch in range(4):
        for seed in range(2):
            batches = mixed(epoch=epoch, seed=seed, repeats=(0.5, 2.5), num_phases=3)
            orders.add(str(list(batches)))
            assert len(list(batches)) == len(batches) == 2 + 10
    assert len(orders) == 8


def test_phases_show_all_clips_before_any_is_repeated() -> None:
    batches = mixed(num_phases=2)
    clips: list[int] = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        clips += [clip for batch in batches for clip in batch]
    assert sorted(clips) == list(range(52))
    batches.sampler.set_epoch(2)
    again = [clip for batch in batches for clip in batch]
    assert again != clips[: len(again)]


def test_repetitions_have_positions_of_their_own() -> None:
    batches = list(mixed(repeats=(1, 3), epoch=2, seed=5))
    clips = [clip for batch in batches for clip in batch]
    assert {(clip.epoch, clip.seed) for clip in clips} == {(2, 5)}
    positions = [clip.position for clip in clips]
    assert len(set(positions)) == len(positions) == 40 + 36
    assert all(clip.position % 52 == clip for clip in clips)


@pytest.mark.parametrize(
    'options',
    [
        {'batch_sizes': (1,)},
        {'weights': (1.0, 0.0)},
        {'repeats': (1, 1, 1)},
        {'num_phases': 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_lists_need_one_positive_number_per_dataset(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f'{name}=.*each of the 2 datasets'):
        mixed(**options)


def test_single_dataset_is_not_a_mixture() -> None:
    sampler = ClipSampler(dataset=range(4), seed=0)
    with pytest.raises(TypeError, match='ConcatDataset, but the dataset is a range'):
        ClipMixBatchSampler(sampler=sampler, batch_size=1)


def part(**changes: Any) -> MixedDataset:
    """Ten clips in batches of two."""
    options = {
        'num_clips': 10,
        'batch_size': 2,
        'repeat': 1.0,
        'num_phases': 1,
        'world_size': 1,
    }
    return MixedDataset(**(options | changes))


def batches_of(dataset: MixedDataset, phase: int = 0) -> list[list[int]]:
    """Batches of a phase, of each process in turn."""
    order = dataset.shuffle((0,))
    return [
        dataset.batch(order, phase=phase, batch_index=index, rank=rank)
        for index in range(dataset.num_batches)
        for rank in range(dataset.world_size)
    ]


@pytest.mark.parametrize('repeat', [0.3, 1.0, 2.0, 2.5])
def test_each_clip_is_shown_repeat_times_rounded_down_or_up(repeat: float) -> None:
    dataset = part(repeat=repeat)
    order = dataset.shuffle((0,))
    assert len(order) == dataset.num_shown == 10 * repeat
    assert len(set(order.tolist())) == len(order), 'repetitions are distinct'
    counts = np.bincount(order % 10, minlength=10)
    assert set(counts) <= {int(repeat), int(np.ceil(repeat))}
    if repeat < 1:  # another part of the clips in each pass
        assert len({frozenset(dataset.shuffle((i,)).tolist()) for i in range(20)}) > 10


@pytest.mark.golden
@pytest.mark.parametrize('golden', discover('data_golden*'))
def test_clips_are_repeated_as_often_as_in_released_epochs(golden: GoldenCase) -> None:
    if 'repeat' not in golden.spec:
        pytest.skip(f'{golden.name} holds no repeated epochs')
    # Each clip has its own factor there, whose fraction is drawn again in each epoch.
    epochs = golden.spec['repeat'].values()
    num_clips = 1 + max(max(epoch) for epoch in epochs)
    counts = np.array([np.bincount(epoch, minlength=num_clips) for epoch in epochs])
    shown = counts.T[counts.any(axis=0)]
    assert len(shown)
    for released in shown:
        # As many clips of one factor here as there are epochs of this one there.
        dataset = part(num_clips=len(released), repeat=released.mean())
        clips = dataset.shuffle((0,)) % len(released)
        found = np.bincount(clips, minlength=len(released))
        assert_exact(np.sort(found), np.sort(released), 'repetitions')
    with pytest.raises(ValueError, match='a repeat that leaves one clip'):
        part(num_clips=1, repeat=0.0)


def test_every_batch_is_full_and_no_clip_is_left_out() -> None:
    dataset = part(num_clips=11, batch_size=3, num_phases=2)
    phases = [batches_of(dataset, phase) for phase in range(2)]
    assert [len(phase) for phase in phases] == [2, 2]
    counts = Counter(clip for phase in phases for batch in phase for clip in batch)
    assert sum(counts.values()) == 12
    assert set(counts) == set(range(11))


def test_processes_together_see_the_larger_batches_of_one_process() -> None:
    alone = batches_of(part(batch_size=4))
    pairs = iter(batches_of(part(batch_size=2, world_size=2)))
    steps = [[*first, *second] for first, second in zip(pairs, pairs, strict=True)]
    assert [sorted(step) for step in steps] == [sorted(step) for step in alone]


@pytest.mark.parametrize('changes', [{'batch_size': 0}, {'repeat': 0.01}])
def test_dataset_that_gives_no_clip_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r'dataset of 10 clips .* gives no clip'):
        part(**changes)


@pytest.mark.parametrize('weights', [None, (1.0, 5.0, 2.0)])
def test_every_batch_of_every_dataset_is_drawn_once(
    weights: tuple[float, ...] | None,
) -> None:
    drawn = draw_datasets((3, 20, 7), weights, (0,))
    assert np.bincount(drawn).tolist() == [3, 20, 7]
    assert drawn.tolist() != draw_datasets((3, 20, 7), weights, (1,)).tolist()


@pytest.mark.parametrize(
    ('num_batches', 'weights', 'share'),
    [((300, 300), (3.0, 1.0), 0.75), ((900, 100), None, 0.9)],
)
def test_datasets_are_drawn_by_weight_or_by_their_batches(
    num_batches: tuple[int, int], weights: tuple[float, float] | None, share: float
) -> None:
    drawn = np.array(
        [draw_datasets(num_batches, weights, (seed,))[:100] for seed in range(30)]
    )
    assert np.mean(drawn == 0) == pytest.approx(share, abs=0.03)
    # Independent of the draw before.
    after = drawn[:, 1:][drawn[:, :-1] == 1]
    assert np.mean(after == 0) == pytest.approx(share, abs=0.06)


class Videos(list[None]):
    """As many videos as lengths."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__([None] * len(lengths))
        self.video_lengths = lengths


@pytest.mark.parametrize(
    ('dataset', 'expected'),
    [
        (Videos([5, 90, 20, 90]), [[1, 3, 2, 0]]),
        # In turns, the first process would get 100 + 30 frames, the second 70.
        (Videos([30, 100, 40, 30]), [[1], [2, 0, 3]]),
        ([None] * 5, [[0, 2, 4], [1, 3]]),
        (Videos([3, 1]), [[0], [1], []]),
    ],
)
def test_videos_are_balanced_by_length_the_longest_first(
    monkeypatch: pytest.MonkeyPatch, dataset: list[None], expected: list[list[int]]
) -> None:
    videos = []
    for rank in range(len(expected)):
        monkeypatch.setattr(module, 'get_dist_info', lambda r=rank: (r, len(expected)))
        sampler = ClipVideoSampler(dataset=dataset, seed=0)
        videos.append(list(sampler))
        assert len(sampler) == len(videos[-1])
    assert videos == expected


def test_videos_keep_their_position_in_a_concatenation() -> None:
    shifted = [index - 2 for index in ClipVideoSampler(dataset=Videos([9, 8, 7]))]
    positions = [index.position for index in shifted if isinstance(index, EpochIndex)]
    assert (shifted, positions) == ([-2, -1, 0], [0, 1, 2])


def test_wrong_number_of_video_lengths_is_refused() -> None:
    videos = Videos([3, 4])
    videos.append(None)
    with pytest.raises(ValueError, match='2 entries for 3 videos'):
        ClipVideoSampler(dataset=videos)
