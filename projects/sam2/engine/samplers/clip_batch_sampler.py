"""Batches that can begin in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from math import ceil

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from projects.sam2.engine.samplers.clip_sampler import ClipSampler
from projects.sam2.structures.epoch_index import EpochIndex

__all__ = ['ClipBatchSampler']


@DATA_SAMPLERS.register_module()
class ClipBatchSampler(Sampler[list[EpochIndex]]):
    """Groups clips into batches; the last one of an epoch may be smaller.

    Args:
        sampler: Gives the clips.
        batch_size: Clips of a batch.

    Raises:
        ValueError: If the batch size is not positive.
    """

    def __init__(self, *, sampler: ClipSampler, batch_size: int) -> None:
        if batch_size < 1:
            msg = f'batch_size is {batch_size}; a batch needs at least one clip'
            raise ValueError(msg)
        self.sampler = sampler
        self.batch_size = batch_size
        self._first = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next one begins."""
        return ceil(len(self.sampler) / self.batch_size)

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
        clips = islice(self.sampler, first * self.batch_size, None)
        while batch := list(islice(clips, self.batch_size)):
            yield batch
