"""How several datasets share an epoch, as pure functions of seed and epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

__all__ = ['MixedPart', 'choose_parts']


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

        Args:
            seed: Of the order.

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
            number: Of the batch in its phase.
            rank: Of the process.

        Returns:
            Entries of the order.
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
        num_batches: Batches of each dataset.
        weights: With which a dataset is drawn, as long as it has batches left; None
            draws from all batches that are left alike.
        seed: Of the choice.

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
