"""Sums up the terms of the loss by kind of step and by frame, on the device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from projects.sam2.structures import DecoderStep, FrameOutput

__all__ = ['LossParts', 'kind_of_step']


def kind_of_step(step: DecoderStep, index: int) -> str:
    """Name what led to an answer of the model.

    Args:
        step: The answer.
        index: Its position among those of its frame.

    Returns:
        ``'mask'``, ``'points'`` (a box among them), ``'tracked'``, or ``'corrected'``
        by a click on an answer before.
    """
    if index:
        return 'corrected'
    if step.full_logits is not None:
        return 'mask'
    return 'tracked' if step.points is None else 'points'


class LossParts:
    """Means of what :class:`SAM2MultiStepLoss` tells of its steps, per object."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._terms: tuple[str, ...] = ()

    def add(self, output: FrameOutput, steps: Sequence[Mapping[str, Tensor]]) -> None:
        """Take note of a frame; nothing is waited for.

        Args:
            output: What was decoded on it.
            steps: Weighted terms of each step, summed over objects.
        """
        for index, (step, terms) in enumerate(zip(output.steps, steps, strict=True)):
            self._terms = tuple(terms)
            values = torch.stack([terms[name].detach() for name in self._terms])
            kind = kind_of_step(step, index)
            for key in (('step', kind), ('frame', f'{output.frame_index:02}')):
                earlier = self._sums.get(key)
                self._sums[key] = values if earlier is None else earlier + values
                # Groups of objects differ in size, as clips do.
                number = len(step.mask_logits)
                self._counts[key] = self._counts.get(key, 0) + number

    def take(self) -> dict[str, float]:
        """Read the means and begin anew; the device is waited for once.

        Returns:
            ``step/<kind>/<term>`` and ``frame/<index>/<term>``.
        """
        keys = list(self._sums)
        if not keys:
            return {}
        sums = torch.stack([self._sums[key] for key in keys]).tolist()
        means = {
            f'{by}/{which}/{name}': value / self._counts[by, which]
            for (by, which), row in zip(keys, sums, strict=True)
            for name, value in zip(self._terms, row, strict=True)
        }
        self._sums, self._counts = {}, {}
        return means
