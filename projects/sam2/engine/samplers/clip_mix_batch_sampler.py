"""Batches from several datasets, each batch from one."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.registry import DATA_SAMPLERS

from projects.sam2.engine.samplers.clip_sampler import ClipSampler
from projects.sam2.engine.samplers.mixture import MixedPart, choose_parts
from projects.sam2.engine.samplers.resumable import ResumableBatchSampler
from projects.sam2.structures.epoch_index import EpochIndex

__all__ = ['ClipMixBatchSampler']


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
        """Give batches of the current epoch.

        Args:
            first: The batch to begin with.

        Yields:
            The clips of a batch, all of one dataset.
        """
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
