"""Batches that can begin in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from math import ceil

from mmengine.registry import DATA_SAMPLERS

from projects.sam2.engine.samplers.clip_sampler import ClipSampler
from projects.sam2.engine.samplers.resumable import ResumableBatchSampler
from projects.sam2.structures.epoch_index import EpochIndex

__all__ = ['ClipBatchSampler']


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
        """Give batches of the current epoch.

        Args:
            first: The batch to begin with.

        Yields:
            The clips of a batch.
        """
        clips = islice(self.sampler, first * self.batch_size, None)
        while batch := list(islice(clips, self.batch_size)):
            yield batch
