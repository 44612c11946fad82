"""How several datasets share an epoch."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.engine.samplers import MixedDataset, draw_datasets


def part(**changes: Any) -> MixedDataset:
    """Ten clips in batches of two."""
    usual = {
        'num_clips': 10,
        'batch_size': 2,
        'repeat': 1.0,
        'num_phases': 1,
        'world_size': 1,
    }
    return MixedDataset(**(usual | changes))


def clips_of(mixed: MixedDataset, *, phase: int = 0, seed: int = 0) -> list[list[int]]:
    """Batches of a phase, of each process in turn."""
    order = mixed.shuffle((seed,))
    return [
        mixed.batch(order, phase=phase, batch_index=number, rank=rank)
        for number in range(mixed.num_batches)
        for rank in range(mixed.world_size)
    ]


@pytest.mark.parametrize('repeat', [0.3, 1.0, 2.0, 2.5])
def test_each_clip_is_shown_as_often_as_the_factor_rounded_down_or_up(
    repeat: float,
) -> None:
    mixed = part(repeat=repeat)
    order = mixed.shuffle((0,))
    assert len(order) == mixed.num_shown == 10 * repeat
    assert len(set(order.tolist())) == len(order), 'repetitions are told apart'
    counts = np.bincount(order % 10, minlength=10)
    assert set(counts) <= {int(repeat), int(np.ceil(repeat))}


@pytest.mark.golden
@pytest.mark.parametrize('golden', discover('data_golden*'))
def test_clips_are_repeated_as_often_as_in_released_epochs(golden: GoldenCase) -> None:
    if 'repeat' not in golden.spec:
        pytest.skip(f'{golden.name} holds no repeated epochs')
    # Each clip has its own factor there, whose fraction decides each epoch anew.
    epochs = golden.spec['repeat'].values()
    num_clips = 1 + max(max(epoch) for epoch in epochs)
    counts = np.array([np.bincount(epoch, minlength=num_clips) for epoch in epochs])
    shown = counts.T[counts.any(axis=0)]
    assert len(shown)
    for released in shown:
        # As many clips of one factor here as there are epochs of this one there.
        mixed = part(num_clips=len(released), repeat=released.mean())
        clips = mixed.shuffle((0,)) % len(released)
        found = np.bincount(clips, minlength=len(released))
        assert_exact(np.sort(found), np.sort(released), 'repetitions')
    with pytest.raises(ValueError, match='a repeat that leaves one clip'):
        part(num_clips=1, repeat=0.0)


def test_a_fraction_shows_others_each_time() -> None:
    mixed = part(repeat=0.3)
    assert len({frozenset(mixed.shuffle((turn,)).tolist()) for turn in range(20)}) > 10


def test_phases_together_show_every_clip_once() -> None:
    mixed = part(num_clips=12, num_phases=3)
    assert mixed.num_batches == 2
    phases = [clips_of(mixed, phase=phase) for phase in range(3)]
    shown = [clip for phase in phases for batch in phase for clip in batch]
    assert sorted(shown) == list(range(12))


def test_every_batch_is_full_and_nothing_is_left_out() -> None:
    mixed = part(num_clips=11, batch_size=3, num_phases=2)
    phases = [clips_of(mixed, phase=phase) for phase in range(2)]
    assert [len(phase) for phase in phases] == [2, 2]
    counts = Counter(clip for phase in phases for batch in phase for clip in batch)
    assert sum(counts.values()) == 12
    assert set(counts) == set(range(11))


def test_processes_together_see_what_one_with_larger_batches_sees() -> None:
    alone = clips_of(part(batch_size=4))
    together = clips_of(part(batch_size=2, world_size=2))
    steps = [[*one, *other] for one, other in zip(*[iter(together)] * 2, strict=True)]
    assert [sorted(step) for step in steps] == [sorted(step) for step in alone]


@pytest.mark.parametrize('changes', [{'batch_size': 0}, {'repeat': 0.01}])
def test_part_that_gives_no_clip_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r'dataset of 10 clips .* gives no clip'):
        part(**changes)


def test_every_batch_of_every_dataset_comes_once() -> None:
    for weights in (None, (1.0, 5.0, 2.0)):
        chosen = draw_datasets((3, 20, 7), weights, (0,))
        assert np.bincount(chosen).tolist() == [3, 20, 7]
        others = draw_datasets((3, 20, 7), weights, (1,))
        assert chosen.tolist() != others.tolist()


def test_datasets_are_drawn_with_their_weights() -> None:
    firsts = np.array(
        [draw_datasets((300, 300), (3.0, 1.0), (seed,))[:100] for seed in range(30)]
    )
    assert 0.72 < np.mean(firsts == 0) < 0.78
    # Independent of the draw before.
    after = firsts[:, 1:][firsts[:, :-1] == 1]
    assert 0.7 < np.mean(after == 0) < 0.8


def test_without_weights_datasets_come_in_proportion_to_their_batches() -> None:
    firsts = [draw_datasets((900, 100), None, (seed,))[:100] for seed in range(30)]
    assert 0.87 < np.mean(np.array(firsts) == 0) < 0.93
