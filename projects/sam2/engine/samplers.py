"""Samplers: which clips a process trains on, in which order, from which batch on.

The order depends on the seed and the epoch only. N processes with batches of b clips
see, step by step, the clips that one process with batches of N * b clips sees, and an
epoch can be resumed at any batch without loading what comes before it.
"""

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

SEED_STRIDE = 1_000_003  # run 0, epoch 1 and run 1, epoch 0 differ in their order


@DATA_SAMPLERS.register_module()
class ClipSampler(Sampler[EpochIndex]):
    """Shuffles the clips of an epoch and distributes them over the processes.

    If the clips do not divide evenly, the first ones of the order are repeated, so that
    all processes take the same number of steps.

    Args:
        dataset: The clips. Its epoch is set as well, for wrappers that do not pass on
            the epoch of an index (MMEngine's ``ClassBalancedDataset``).
        seed: Of the order; the Runner passes its own. None draws one that is equal on
            all processes.

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
        """Number of clips of this process in an epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[EpochIndex]:
        """Yield this process's clips of the current epoch."""
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


class ResumableBatchSampler(Sampler[list[EpochIndex]]):
    """Base of batch samplers whose epoch can start at any batch."""

    def __init__(self) -> None:
        self._first = 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches of a whole epoch, wherever the next one starts."""

    @property
    @abstractmethod
    def clips_per_step(self) -> list[int]:
        """Number of clips per step over all processes, for each dataset.

        Runs in which these are equal see the same clips, step by step.
        """

    @abstractmethod
    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Yield the batches of the current epoch from ``first`` on."""

    def start_at(self, batch_index: int) -> None:
        """Let the next epoch, and only that one, start at a later batch.

        The clips of earlier batches are not loaded.

        Args:
            batch_index: First batch to yield, 0 to the number of batches.

        Raises:
            ValueError: If the epoch has fewer batches.
        """
        if not 0 <= batch_index <= len(self):
            msg = f'Cannot start at batch {batch_index} of an epoch of {len(self)}'
            raise ValueError(msg)
        self._first = batch_index

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        """Yield the remaining batches of the epoch."""
        # Being a generator, this runs with the first batch only: a loader with workers
        # creates two iterators and uses the second.
        first, self._first = self._first, 0
        yield from self.batches_from(first)


@DATA_SAMPLERS.register_module()
class ClipBatchSampler(ResumableBatchSampler):
    """Groups clips into batches; the last one of an epoch may be smaller.

    Args:
        sampler: Yields the clips.
        batch_size: Number of clips of a batch.

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
        """Number of batches of a whole epoch, wherever the next one starts."""
        return ceil(len(self.sampler) / self.batch_size)

    @property
    def clips_per_step(self) -> list[int]:
        """Number of clips per step over all processes."""
        return [self.batch_size * self.sampler.world_size]

    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Yield the batches of the current epoch from ``first`` on."""
        clips = islice(self.sampler, first * self.batch_size, None)
        while batch := list(islice(clips, self.batch_size)):
            yield batch


@DATA_SAMPLERS.register_module()
class ClipMixBatchSampler(ResumableBatchSampler):
    """Mixes the datasets of a ``ConcatDataset``; each batch comes from one of them.

    In each step all processes take their batch from the same dataset. An epoch shows
    every dataset ``repeats`` times (a ``num_phases``-th of that if one pass is split
    into phases), and its length never changes.

    Args:
        sampler: Holds the datasets, the seed and the epoch.
        batch_size: Number of clips of a batch of one process.
        batch_sizes: One batch size per dataset, in place of ``batch_size``.
        weights: Relative frequency of each dataset while it has batches left; None
            draws in proportion to the batches that are left. If the weights do not
            match the lengths, an epoch ends with batches of the longest dataset alone.
        repeats: How often each dataset is shown, fractions included; None for once.
        num_phases: Number of epochs into which one pass over the data is split.

    Raises:
        TypeError: If the dataset is not a ``ConcatDataset``.
        ValueError: If a list does not have one positive number per dataset.
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
        batch_sizes = batch_sizes or [batch_size] * len(ends)
        repeats = repeats or [1.0] * len(ends)
        for name, values in (
            ('weights', weights),
            ('batch_sizes', batch_sizes),
            ('repeats', repeats),
            ('num_phases', [num_phases] * len(ends)),
        ):
            if values and (len(values) != len(ends) or min(values) <= 0):
                msg = (
                    f'{name}={list(values)}: give one positive number for each of the '
                    f'{len(ends)} datasets'
                )
                raise ValueError(msg)
        self.sampler = sampler
        self.weights = weights
        self.num_phases = num_phases
        self.offsets = [0, *ends[:-1]]
        self.parts = [
            MixedDataset(
                num_clips=end - offset,
                batch_size=int(size),
                repeat=repeat,
                num_phases=num_phases,
                world_size=sampler.world_size,
            )
            for offset, end, size, repeat in zip(
                self.offsets, ends, batch_sizes, repeats, strict=True
            )
        ]

    def __len__(self) -> int:
        """Number of batches of a whole epoch, wherever the next one starts."""
        return sum(part.num_batches for part in self.parts)

    @property
    def clips_per_step(self) -> list[int]:
        """Number of clips per step over all processes, for each dataset."""
        return [part.batch_size * part.world_size for part in self.parts]

    def batches_from(self, first: int) -> Iterator[list[EpochIndex]]:
        """Yield the batches of the current epoch from ``first`` on."""
        seed, epoch = self.sampler.seed, self.sampler.epoch
        pass_index, phase = divmod(epoch, self.num_phases)
        dataset_of_batch = draw_datasets(
            [part.num_batches for part in self.parts], self.weights, (seed, epoch)
        )
        orders = [
            part.shuffle((seed, pass_index, index))
            for index, part in enumerate(self.parts)
        ]
        next_batch = np.bincount(dataset_of_batch[:first], minlength=len(self.parts))
        for index in dataset_of_batch[first:].tolist():
            entries = self.parts[index].batch(
                orders[index],
                phase=phase,
                batch_index=int(next_batch[index]),
                rank=self.sampler.rank,
            )
            next_batch[index] += 1
            yield [self._clip(index, entry) for entry in entries]

    def _clip(self, dataset_index: int, entry: int) -> EpochIndex:
        """Index of a clip in the ``ConcatDataset``; repetitions differ in position."""
        repetition, clip_index = divmod(entry, self.parts[dataset_index].num_clips)
        index = self.offsets[dataset_index] + clip_index
        return EpochIndex(
            index,
            self.sampler.epoch,
            self.sampler.seed,
            position=index + repetition * self.sampler.num_clips,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedDataset:
    """How one dataset of a mixture is split into batches.

    Attributes:
        num_clips: Number of clips of the dataset.
        batch_size: Number of clips of a batch of one process.
        repeat: How often one pass shows the dataset. A fraction shows a random part of
            the clips once more (or at all), a different part in each pass.
        num_phases: Number of epochs of one pass.
        world_size: Number of processes.
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
        """Number of clips of one pass, repetitions included."""
        return round(self.num_clips * self.repeat)

    @property
    def num_batches(self) -> int:
        """Number of batches of one phase, on every process."""
        step = self.batch_size * self.world_size
        return ceil(self.num_shown / (step * self.num_phases))

    def shuffle(self, seed: Sequence[int]) -> NDArray[np.int64]:
        """Shuffle the clips of one pass.

        Returns:
            (num_shown,), indices in the dataset plus ``num_clips`` for each earlier
            repetition of the same clip.
        """
        rng = np.random.default_rng(seed)
        num_full = self.num_shown // self.num_clips * self.num_clips
        rest = rng.permutation(self.num_clips)[: self.num_shown - num_full]
        order = np.concatenate([np.arange(num_full), num_full + rest])
        rng.shuffle(order)
        return order

    def batch(
        self, order: NDArray[np.int64], *, phase: int, batch_index: int, rank: int
    ) -> list[int]:
        """Entries of ``order`` that make up one batch of one process.

        All processes together take a contiguous part of the order. After its end the
        order starts again, so that every batch is full.

        Args:
            order: From :meth:`shuffle`.
            phase: 0 to ``num_phases - 1``; the phases share the order.
        """
        step = phase * self.num_batches + batch_index
        positions = step * self.batch_size + np.arange(self.batch_size)
        positions = positions * self.world_size + rank
        entries: list[int] = order[positions % len(order)].tolist()
        return entries


def draw_datasets(
    num_batches: Sequence[int], weights: Sequence[float] | None, seed: Sequence[int]
) -> NDArray[np.int64]:
    """Draw the dataset of each batch of an epoch.

    Args:
        weights: Relative frequency of each dataset while it has batches left; None
            draws uniformly from all batches that are left.

    Returns:
        (sum of num_batches,), indices of datasets.
    """
    rng = np.random.default_rng(seed)
    datasets = np.repeat(np.arange(len(num_batches)), num_batches)
    if weights is None:
        rng.shuffle(datasets)
        return datasets
    # Each dataset is a Poisson process with its weight as the rate. Merged in order of
    # time, the next batch comes from a dataset in proportion to the weights.
    times = [
        rng.exponential(1 / weight, count).cumsum()
        for weight, count in zip(weights, num_batches, strict=True)
    ]
    order = np.argsort(np.concatenate(times), kind='stable')
    drawn: NDArray[np.int64] = datasets[order]
    return drawn


@DATA_SAMPLERS.register_module()
class ClipVideoSampler(Sampler[int]):
    """Distributes videos over the processes by length, for validation.

    Each video goes to exactly one process: the processes may get different numbers of
    videos. The longest videos come first.

    Args:
        dataset: The videos. Its ``video_lengths`` (number of frames of each video) is
            read if it has one; otherwise all videos count as equally long.
        seed: Unused, since the order is fixed; the Runner passes one to every sampler.

    Raises:
        ValueError: If ``video_lengths`` does not have one entry per video.
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
        self.indices = balance_videos(lengths, world_size)[rank]

    def __len__(self) -> int:
        """Number of videos of this process."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process's videos in the dataset.

        An ``EpochIndex`` keeps its position when a ``ConcatDataset`` shifts the index.
        """
        return (EpochIndex(index, epoch=0) for index in self.indices)


def balance_videos(lengths: list[int], num_processes: int) -> list[list[int]]:
    """Give each video, longest first, to the process with the fewest frames so far.

    Returns:
        Indices of the videos of each process; each video occurs once.
    """
    videos: list[list[int]] = [[] for _ in range(num_processes)]
    num_frames = [0] * num_processes
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        process = min(range(num_processes), key=num_frames.__getitem__)
        videos[process].append(index)
        num_frames[process] += lengths[index]
    return videos
