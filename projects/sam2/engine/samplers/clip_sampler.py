"""Shuffled clips, each with the epoch that it is drawn in."""

from collections.abc import Iterator, Sized
from math import ceil

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from projects.sam2.structures.epoch_index import EpochIndex, set_dataset_epoch

__all__ = ['ClipSampler']

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

        Args:
            epoch: Epochs completed so far.
        """
        self.epoch = epoch
        set_dataset_epoch(self.dataset, epoch)
