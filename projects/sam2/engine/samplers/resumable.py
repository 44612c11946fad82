"""Epochs of batches that can begin in the middle."""

from abc import abstractmethod
from collections.abc import Iterator

from torch.utils.data import Sampler

from projects.sam2.structures.epoch_index import EpochIndex

__all__ = ['ResumableBatchSampler']


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
        """Give batches of the current epoch.

        Args:
            first: The batch to begin with.

        Yields:
            The clips of a batch.
        """

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
