"""An index that knows its epoch, so that the same index gives the same clip."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class FollowsEpoch(Protocol):
    """A dataset whose items depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""


class EpochIndex(int):
    """An ``int`` that carries the epoch and the place from which it was asked for.

    Dataset wrappers compute with indices (``ConcatDataset`` subtracts an offset,
    ``RepeatDataset`` takes a remainder). The result still knows the epoch, and the
    position among all items of the loader: repetitions of one clip differ.

    Args:
        value: The index.
        epoch: Epoch that the sampler was set to.
        seed: Seed of the run.
        position: Index that the sampler drew; by default ``value``.
    """

    epoch: int
    seed: int
    position: int

    def __new__(
        cls, value: int, epoch: int, seed: int = 0, position: int | None = None
    ) -> 'EpochIndex':
        """Make an index; see the class for the arguments."""
        index = super().__new__(cls, value)
        index.epoch = int(epoch)
        index.seed = int(seed)
        index.position = int(value if position is None else position)
        return index

    @classmethod
    def of(cls, index: 'int | tuple[int, int]', epoch: int = 0) -> 'EpochIndex':
        """Read what a dataset was asked for.

        Args:
            index: An :class:`EpochIndex`, a pair ``(epoch, index)`` or a plain int.
            epoch: Epoch of a plain int.

        Returns:
            The index with its epoch.
        """
        if isinstance(index, EpochIndex):
            return index
        if isinstance(index, tuple):
            return cls(index[1], index[0])
        return cls(index, epoch)

    def moved_to(self, value: int) -> 'EpochIndex':
        """Another index, asked for from the same epoch and position.

        Args:
            value: The new index.

        Returns:
            The index with the epoch, seed and position of this one.
        """
        return EpochIndex(value, self.epoch, self.seed, self.position)

    def __add__(self, other: int) -> 'EpochIndex':
        """Shift up; the epoch stays."""
        return self.moved_to(int(self) + int(other))

    def __radd__(self, other: int) -> 'EpochIndex':
        """Shift up; the epoch stays."""
        return self + other

    def __sub__(self, other: int) -> 'EpochIndex':
        """Shift down; the epoch stays."""
        return self.moved_to(int(self) - int(other))

    def __mod__(self, other: int) -> 'EpochIndex':
        """Wrap around; the epoch stays."""
        return self.moved_to(int(self) % int(other))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Arguments with which a pickled index is made again."""
        return int(self), self.epoch, self.seed, self.position


def set_dataset_epoch(dataset: object, epoch: int) -> None:
    """Tell a dataset the epoch, through all wrappers around it.

    ``ClassBalancedDataset`` looks indices up in a list of its own, whose entries know
    no epoch; what is inside then takes the epoch that was set.

    Args:
        dataset: A dataset or a wrapper (with ``dataset`` or ``datasets``).
        epoch: The epoch that begins.
    """
    if isinstance(dataset, FollowsEpoch):
        dataset.set_epoch(epoch)
    inner = getattr(dataset, 'dataset', None)
    for part in getattr(dataset, 'datasets', [] if inner is None else [inner]):
        set_dataset_epoch(part, epoch)
