"""Steps whose loss or gradient is not finite are not taken."""

import math
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
    dropped, too, if its gradients have no finite norm; a wrapper that scales the loss
    looks after that itself.

    All that is not an update (state, counts, rates) is the wrapper's own.

    Args:
        wrapper: The wrapper of the run.

    Attributes:
        is_bad: Whether the last batch had a bad loss or gradient, on any process.
        is_own: Whether it was this process's; a gradient is that of all processes.
    """

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.wrapper: Any = wrapper
        self.is_bad = False
        self.is_own = False
        self._is_dropping = False
        scaler = getattr(wrapper, 'loss_scaler', None)
        self._looks_at_gradients = scaler is None or not scaler.is_enabled()

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
        """Go backward and step, unless a loss or the gradient is not finite.

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
            if self._looks_at_gradients and not self._is_dropping:
                self._is_dropping = not self._has_finite_gradients()
                self.is_bad = self.is_own = self._is_dropping
            if not self._is_dropping:
                wrapper.step()
            wrapper.zero_grad()
            self._is_dropping = False

    def _has_finite_gradients(self) -> bool:
        """Whether the gradients have a finite norm, on all processes."""
        groups = self.wrapper.optimizer.param_groups
        parameters = [one for group in groups for one in group['params']]
        # Without a limit the gradients stay as they are.
        norm = nn.utils.clip_grad_norm_(parameters, max_norm=math.inf)
        return not _anywhere(is_true=not bool(norm.isfinite()))


def _anywhere(*, is_true: bool) -> bool:
    """Whether something is true on any process."""
    flag = torch.tensor(int(is_true))
    all_reduce(flag, op='max')
    return bool(flag.item())
