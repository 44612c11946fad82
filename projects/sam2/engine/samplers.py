"""Epochs of batches that can begin in the middle."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from math import ceil

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..structures.clip import EpochIndex, set_dataset_epoch


class ResumableBatchSampler(Sampler[list[EpochIndex]]):
    """Batches of an epoch, from any one on. What a batch holds is up to subclasses."""

    def __init__(self) -> None:
        self._first = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next one begins."""

    @property
    @abstractmethod
    def clips_per_step(self) -> list[int]:
        """Clips of a step of all processes together, of each dataset that is dealt.

        Where these are equal, other processes see the same clips step by step.
        """

    @abstractmethod
    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Give batches of the current epoch."""

    def start_at(self, batch_index: int) -> None:
        """Let the next epoch, and only that, begin at a later batch.

        What lies before is skipped as numbers: no clip of it is loaded.

        Args:
            batch_index: The first batch to give, 0 to the number of batches.

        Raises:
            ValueError: If the epoch has fewer batches.
        """
        if not 0 <= batch_index <= len(self):
            msg = f'Cannot start at batch {batch_index} of an epoch of {len(self)}'
            raise ValueError(msg)
        self._first = batch_index

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        """Give the batches that are left of the epoch."""
        # This runs when the first batch is asked for: a loader with workers makes
        # two iterators and uses the second.
        first, self._first = self._first, 0
        yield from self.batches_from(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPart:
    """One dataset of a mixture.

    Attributes:
        num_clips: Clips of the dataset.
        batch_size: Clips of one batch of one process.
        repeat: How often an epoch of all phases shows it; a fraction shows a part of
            the clips once more (or at all), another one each time.
        num_phases: Epochs among which its clips are dealt.
        world_size: Processes.
    """

    num_clips: int
    batch_size: int
    repeat: float
    num_phases: int
    world_size: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.batch_size < 1 or self.num_shown < 1:
            msg = (
                f'A dataset of {self.num_clips} clips with batch size '
                f'{self.batch_size} and repeat {self.repeat} gives no clip; give '
                f'positive numbers, and a repeat that leaves one clip'
            )
            raise ValueError(msg)

    @property
    def num_shown(self) -> int:
        """Clips that all phases together show, repetitions included."""
        return round(self.num_clips * self.repeat)

    @property
    def num_batches(self) -> int:
        """Batches of one phase, on every process."""
        step = self.batch_size * self.world_size
        return ceil(self.num_shown / (step * self.num_phases))

    def order(self, seed: Sequence[int]) -> NDArray[np.int64]:
        """Shuffle the clips of all phases.

        Returns:
            (num_shown,), positions in the dataset plus ``num_clips`` for each earlier
            repetition, so that repetitions are told apart.
        """
        rng = np.random.default_rng(seed)
        whole = self.num_shown // self.num_clips * self.num_clips
        rest = rng.permutation(self.num_clips)[: self.num_shown - whole]
        shown = np.concatenate([np.arange(whole), whole + rest])
        rng.shuffle(shown)
        return shown

    def batch(
        self, order: NDArray[np.int64], *, phase: int, number: int, rank: int
    ) -> list[int]:
        """Clips of one batch of one process.

        All processes together take a contiguous piece of the order, so that they see
        what one process with batches as large sees. Behind the end the order begins
        anew: every batch is full.

        Args:
            order: As :meth:`order` gives it.
            phase: Of the phases that share the order.
        """
        step = phase * self.num_batches + number
        places = step * self.batch_size + np.arange(self.batch_size)
        places = places * self.world_size + rank
        picked: list[int] = order[places % len(order)].tolist()
        return picked


def choose_parts(
    num_batches: Sequence[int], weights: Sequence[float] | None, seed: Sequence[int]
) -> NDArray[np.int64]:
    """Choose the dataset of each batch of an epoch.

    Args:
        weights: With which a dataset is drawn, as long as it has batches left; None
            draws from all batches that are left alike.

    Returns:
        (sum of num_batches,), positions of datasets.
    """
    rng = np.random.default_rng(seed)
    parts = np.repeat(np.arange(len(num_batches)), num_batches)
    if weights is None:
        rng.shuffle(parts)
        return parts
    # Batches come at the events of independent clocks, each with its dataset's rate:
    # the next one is then of a dataset in proportion to its weight.
    times = [
        rng.exponential(1 / weight, count).cumsum()
        for weight, count in zip(weights, num_batches, strict=True)
    ]
    chosen: NDArray[np.int64] = parts[np.argsort(np.concatenate(times), kind='stable')]
    return chosen


SEED_STRIDE = 1_000_003  # keeps the orders of run 0, epoch 1 and run 1, epoch 0 apart


@DATA_SAMPLERS.register_module()
class ClipSampler(Sampler[EpochIndex]):
    """Deals the clips of an epoch to the processes.

    The order depends on the seed and the epoch alone: N processes with batches of b
    clips see, step by step, what one process with batches of N * b clips sees. Where
    the clips do not divide among the processes, the first ones of the order are dealt
    again, so that all processes take the same number of steps.

    Args:
        dataset: The clips; its length is read, and it is told the epoch, which
            ``ClassBalancedDataset`` does not hand on with the index.
        seed: Of the order; the Runner gives its own. None draws one, equal on all
            processes.

    Raises:
        ValueError: If the dataset is empty.
    """

    def __init__(self, *, dataset: Sized, seed: int | None = None) -> None:
        if len(dataset) == 0:
            msg = 'The dataset has no clip; check data_root and the split list'
            raise ValueError(msg)
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.num_clips = len(dataset)
        self.num_samples = ceil(self.num_clips / self.world_size)
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def __len__(self) -> int:
        """Clips of this process in an epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[EpochIndex]:
        """Give this process's clips of the current epoch."""
        generator = torch.Generator().manual_seed(self.seed * SEED_STRIDE + self.epoch)
        order = torch.randperm(self.num_clips, generator=generator).tolist()
        for step in range(self.num_samples):
            position = (step * self.world_size + self.rank) % self.num_clips
            yield EpochIndex(order[position], self.epoch, self.seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the clips' random numbers.

        MMEngine's ``DistSamplerSeedHook`` calls it.
        """
        self.epoch = epoch
        set_dataset_epoch(self.dataset, epoch)


@DATA_SAMPLERS.register_module()
class ClipVideoSampler(Sampler[int]):
    """Deals videos, longest first, each to the process with the least to do.

    Every video is dealt once: the processes may get different numbers of them. The
    indices keep their position among all videos where a ``ConcatDataset`` shifts them.

    Args:
        dataset: The videos. Its ``video_lengths`` (frames of each video) is read
            where it has one; otherwise all count as equally long.
        seed: Not used, the order is fixed; the Runner gives one to every sampler.

    Raises:
        ValueError: If ``video_lengths`` does not have one entry for each video.
    """

    def __init__(self, *, dataset: Sized, seed: int | None = None) -> None:
        del seed
        lengths = list(getattr(dataset, 'video_lengths', [1] * len(dataset)))
        if len(lengths) != len(dataset):
            msg = (
                f'video_lengths of {type(dataset).__name__} has {len(lengths)} '
                f'entries for {len(dataset)} videos; it needs one for each'
            )
            raise ValueError(msg)
        rank, world_size = get_dist_info()
        self.indices = deal_videos(lengths, world_size)[rank]

    def __len__(self) -> int:
        """Videos of this process."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Give the positions of this process's videos in the dataset."""
        return (EpochIndex(index, epoch=0) for index in self.indices)


def deal_videos(lengths: list[int], num_hands: int) -> list[list[int]]:
    """Deal videos, longest first, each to the hand with the fewest frames so far.

    Returns:
        Positions of each hand's videos; together they are all, once.
    """
    hands: list[list[int]] = [[] for _ in range(num_hands)]
    frames = [0] * num_hands
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        hand = min(range(num_hands), key=frames.__getitem__)
        hands[hand].append(index)
        frames[hand] += lengths[index]
    return hands


@DATA_SAMPLERS.register_module()
class ClipBatchSampler(ResumableBatchSampler):
    """Groups clips into batches; the last one of an epoch may be smaller.

    Args:
        sampler: Gives the clips.
        batch_size: Clips of a batch.

    Raises:
        ValueError: If the batch size is not positive.
    """

    def __init__(self, *, sampler: ClipSampler, batch_size: int) -> None:
        super().__init__()
        if batch_size < 1:
            msg = f'batch_size is {batch_size}; a batch needs at least one clip'
            raise ValueError(msg)
        self.sampler = sampler
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next one begins."""
        return ceil(len(self.sampler) / self.batch_size)

    @property
    def clips_per_step(self) -> list[int]:
        """Clips of a step of all processes together."""
        return [self.batch_size * self.sampler.world_size]

    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Give batches of the current epoch."""
        clips = islice(self.sampler, first * self.batch_size, None)
        while batch := list(islice(clips, self.batch_size)):
            yield batch


@DATA_SAMPLERS.register_module()
class ClipMixBatchSampler(ResumableBatchSampler):
    """Mixes the datasets of a ``ConcatDataset``: every batch comes from one of them.

    Which one is equal on all processes. An epoch shows every dataset ``repeats``
    times, or its share of that where it is cut into phases; its length is always the
    same. The order depends on the seed and the epoch alone and can be taken up at any
    batch.

    Args:
        sampler: A :class:`ClipSampler`: knows the datasets, the seed and the epoch.
        batch_size: Clips of a batch of one process.
        batch_sizes: The same for each dataset, in place of ``batch_size``.
        weights: With which each dataset is drawn as long as it has batches left; None
            draws in proportion to the batches that are left. Where the weights do not
            match the lengths, an epoch ends with what is left of the longest.
        repeats: How often each dataset is shown, fractions included; None for once.
        num_phases: Epochs into which one pass over the data is cut.

    Raises:
        TypeError: If the dataset is no ``ConcatDataset``.
        ValueError: If a list does not have one positive number for each dataset.
    """

    def __init__(
        self,
        *,
        sampler: ClipSampler,
        batch_size: int,
        batch_sizes: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        repeats: Sequence[float] | None = None,
        num_phases: int = 1,
    ) -> None:
        super().__init__()
        ends = getattr(sampler.dataset, 'cumulative_sizes', None)
        if ends is None:
            msg = (
                f'ClipMixBatchSampler mixes the parts of a ConcatDataset, but the '
                f'dataset is a {type(sampler.dataset).__name__}'
            )
            raise TypeError(msg)
        self.sampler = sampler
        self.offsets = [0, *ends[:-1]]
        self.num_phases = num_phases
        self.weights = weights and self._one_each('weights', weights)
        sizes = self._one_each('batch_sizes', batch_sizes or [batch_size] * len(ends))
        factors = self._one_each('repeats', repeats or [1.0] * len(ends))
        self._one_each('num_phases', [num_phases] * len(ends))
        self.parts = [
            MixedPart(
                num_clips=int(length),
                batch_size=int(size),
                repeat=factor,
                num_phases=num_phases,
                world_size=sampler.world_size,
            )
            for length, size, factor in zip(
                np.diff([0, *ends]), sizes, factors, strict=True
            )
        ]

    def _one_each(self, name: str, values: Sequence[float]) -> Sequence[float]:
        """Check that there is a positive number for each dataset."""
        if len(values) != len(self.offsets) or min(values) <= 0:
            msg = (
                f'{name}={list(values)}: give one positive number for each of the '
                f'{len(self.offsets)} datasets'
            )
            raise ValueError(msg)
        return values

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next one begins."""
        return sum(part.num_batches for part in self.parts)

    @property
    def clips_per_step(self) -> list[int]:
        """Clips of a step of all processes together, of each dataset."""
        return [part.batch_size * part.world_size for part in self.parts]

    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Give batches of the current epoch."""
        seed, epoch = self.sampler.seed, self.sampler.epoch
        turn, phase = divmod(epoch, self.num_phases)
        counts = [part.num_batches for part in self.parts]
        chosen = choose_parts(counts, self.weights, (seed, epoch))
        orders = [
            part.order((seed, turn, index)) for index, part in enumerate(self.parts)
        ]
        given = np.bincount(chosen[:first], minlength=len(self.parts))
        for index in chosen[first:].tolist():
            picked = self.parts[index].batch(
                orders[index],
                phase=phase,
                number=int(given[index]),
                rank=self.sampler.rank,
            )
            given[index] += 1
            yield [self._clip(index, entry) for entry in picked]

    def _clip(self, part: int, entry: int) -> EpochIndex:
        """The index of a clip in the ``ConcatDataset``, and a place of its own."""
        repetition, inside = divmod(entry, self.parts[part].num_clips)
        value = self.offsets[part] + inside
        return EpochIndex(
            value,
            self.sampler.epoch,
            self.sampler.seed,
            position=value + repetition * self.sampler.num_clips,
        )
