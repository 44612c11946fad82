"""Dropout that keeps a seed in place of its noise."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = [
    'KeepMasks',
    'ReLUDropout',
    'ResidualDropout',
    'draw_seed',
    'is_plain_cpu',
]

# Noise is compared in 16 bits: rates are exact to 1 / 65536.
NOISE_LEVELS = 65536
NOISE_PER_WORD = 4  # 16-bit numbers in a 64-bit word
# Elements that get their noise at once: a multiple of the words, small for the cache.
PIECE = 2**17


def draw_seed() -> int:
    """Draw a seed from torch's own stream, so that it is saved and restored with it.

    Returns:
        A non-negative integer.
    """
    return int(torch.randint(2**62, ()).item())


class KeepMasks:
    """Which elements dropout keeps, drawn anew from a seed as often as wanted.

    On a CPU this is ten times as fast as torch's Bernoulli numbers.

    Args:
        seed: The same seed gives the same masks in the same order.
        rate: Share of elements dropped, in [0, 1).
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._seed = seed
        self._threshold = round(rate * NOISE_LEVELS)
        self.scale = 1 / (1 - rate)  # makes up for what is dropped
        self.restart()

    def restart(self) -> None:
        """Begin with the first mask again."""
        self._words = np.random.SFC64(self._seed)

    def draw(self, count: int) -> NDArray[np.bool_]:
        """Draw the next mask.

        Args:
            count: Of elements.

        Returns:
            (count,), True for what is kept.
        """
        words = self._words.random_raw(-(-count // NOISE_PER_WORD))
        return words.view(np.uint16)[:count] >= self._threshold

    def apply(self, tensor: Tensor) -> Tensor:
        """Set what is dropped to 0, in place.

        Args:
            tensor: On the CPU, contiguous, without a graph.

        Returns:
            ``tensor``.
        """
        elements = tensor.view(-1).numpy()
        for start in range(0, len(elements), PIECE):
            piece = elements[start : start + PIECE]
            # NumPy multiplies by booleans faster than torch does, or fills by a mask.
            np.multiply(piece, self.draw(len(piece)), out=piece)
        return tensor


class ResidualDropout(nn.Module):
    """Drops elements of a branch and adds the branch to its shortcut.

    On a CPU a seed is kept for the backward pass, not noise.

    Args:
        rate: Share of elements dropped in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Drop, scale up what stays, and add.

        Args:
            shortcut: Of any shape.
            branch: Of the same shape.

        Returns:
            The same shape.
        """
        rate = self.rate if self.training else 0.0
        if rate == 0:
            return shortcut + branch
        if not is_plain_cpu(branch):
            return shortcut + functional.dropout(branch, rate)
        masks = KeepMasks(draw_seed(), rate)
        added: Tensor = _DropAndAdd.apply(branch, shortcut, masks)  # type: ignore[no-untyped-call]  # torch
        return added


class ReLUDropout(nn.Module):
    """ReLU, then dropout, in place: of both only the result is there in the end.

    Where the result is 0 there is no gradient, be it that the input was negative or
    that it was dropped.

    Args:
        rate: Share of elements dropped in training, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, tensor: Tensor) -> Tensor:
        """Rectify and drop.

        Args:
            tensor: Of any shape; what some layer has made, and nothing else reads.

        Returns:
            The same shape.
        """
        rate = self.rate if self.training else 0.0
        if rate == 0 or torch.compiler.is_compiling():
            return functional.dropout(functional.relu(tensor), rate)
        dropped: Tensor = _ReLUDropout.apply(tensor, rate)  # type: ignore[no-untyped-call]  # torch
        return dropped


def is_plain_cpu(tensor: Tensor) -> bool:
    """Say whether a tensor is worked on by functions written for the CPU.

    Args:
        tensor: Of any shape.

    Returns:
        Whether it lies there, in a type that the CPU multiplies fast, and nothing is
        being compiled.
    """
    is_fine = tensor.dtype in (torch.float32, torch.float64)
    return is_fine and tensor.is_cpu and not torch.compiler.is_compiling()


def _drop_anew(tensor: Tensor, masks: KeepMasks) -> Tensor:
    """What the first of the masks makes of a tensor, as a new one."""
    masks.restart()
    return masks.apply((tensor * masks.scale).contiguous())


class _DropAndAdd(torch.autograd.Function):
    """Dropout and a sum in one new tensor; nothing but the seed is kept."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        branch: Tensor,
        shortcut: Tensor,
        masks: KeepMasks,
    ) -> Tensor:
        """Drop, scale and add."""
        ctx.masks = masks
        return _drop_anew(branch, masks).add_(shortcut)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, None]:
        """Drop and scale what was dropped and scaled; the shortcut gets all."""
        return _drop_anew(gradient, ctx.masks), gradient, None


class _ReLUDropout(torch.autograd.Function):
    """ReLU and dropout, whose result tells where the gradient goes."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        tensor: Tensor,
        rate: float,
    ) -> Tensor:
        """Rectify and drop."""
        result = tensor.relu_()
        if is_plain_cpu(tensor) and tensor.is_contiguous():
            masks = KeepMasks(draw_seed(), rate)
            masks.apply(result.mul_(masks.scale))
        else:
            functional.dropout(result, rate, inplace=True)
        ctx.mark_dirty(tensor)
        ctx.rate = rate
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        gradient: Tensor,
    ) -> tuple[Tensor, None]:
        """Pass on what was kept."""
        (result,) = ctx.saved_tensors
        # threshold_backward is ReLU's own: one pass, no mask in between.
        kept = torch.ops.aten.threshold_backward(gradient, result, 0)
        return kept.mul_(1 / (1 - ctx.rate)), None
