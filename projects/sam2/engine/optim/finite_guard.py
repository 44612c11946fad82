"""Steps whose loss is not finite are not taken."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

__all__ = ['FiniteGuard', 'NonFiniteLossError']


class NonFiniteLossError(RuntimeError):
    """Too many losses were not finite."""


class FiniteGuard:
    """Stands before any optimizer wrapper and drops steps that would spoil the weights.

    Whether a loss is finite is decided before its backward pass and by all processes
    together: if one of them has a bad loss, none goes backward, so that nobody waits
    for gradients that do not come. Where gradients are accumulated, the whole step is
    dropped: what had been gathered for it, and the rest of its batches. A step is
    dropped, too, if clipping finds that its gradients have no finite norm; a wrapper
    that scales the loss looks after that itself.

    All that is not an update (state, counts, rates) is the wrapper's own.

    Args:
        wrapper: The wrapper of the run.

    Attributes:
        is_bad: Whether the last batch had a bad loss or gradient, on any process.
        is_own: Whether it was this process's.
    """

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.wrapper: Any = wrapper
        self.is_bad = False
        self.is_own = False
        self._is_dropping = False
        self._clip: Any = None
        if wrapper.clip_grad_kwargs and not hasattr(wrapper, 'loss_scaler'):
            self._watch_clipping()

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        """The wrapper's own context of the forward pass.

        Args:
            model: That is trained.

        Returns:
            The context.
        """
        context: AbstractContextManager[None] = self.wrapper.optim_context(model)
        return context

    def update_params(self, loss: Tensor) -> None:
        """Go backward and step, unless the loss of any process is not finite.

        Args:
            loss: Of the batch.
        """
        wrapper = self.wrapper
        self.is_own = not bool(loss.isfinite().all())
        self.is_bad = _anywhere(is_true=self.is_own)
        self._is_dropping |= self.is_bad
        if self._is_dropping:
            # Counted all the same: the next step begins where it would have.
            wrapper._inner_count += 1  # noqa: SLF001  it has no public name
        else:
            wrapper.backward(wrapper.scale_loss(loss))
        if wrapper.should_update():
            if not self._is_dropping:
                wrapper.step()
            wrapper.zero_grad()
            self._is_dropping = False

    def _watch_clipping(self) -> None:
        """Learn the norm that clipping measures."""
        self._clip, self.wrapper.clip_func = self.wrapper.clip_func, self._clip_or_drop

    def _clip_or_drop(
        self, parameters: Sequence[nn.Parameter], **settings: float
    ) -> Tensor | None:
        """Clip, and where that is in vain leave nothing to step with."""
        norm: Tensor | None = self._clip(parameters, **settings)
        if norm is None or math.isfinite(float(norm)):
            return norm
        for parameter in parameters:
            parameter.grad = None
        self.is_bad = self.is_own = True
        return None


def _anywhere(*, is_true: bool) -> bool:
    """Whether something is true on any process."""
    flag = torch.tensor(int(is_true))
    all_reduce(flag, op='max')
    return bool(flag.item())
