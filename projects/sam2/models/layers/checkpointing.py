"""What is cheap is computed twice rather than kept (Chen et al., 2016)."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Result = TypeVar('Result')

# Smaller tensors are kept: they are not worth the time of a second call.
SMALLEST_BYTES = 2**20


def recomputed(
    function: Callable[..., Result],
    *args: Any,
    **kwargs: Any,
) -> Result:
    """Call a function and keep its arguments alone for the backward pass.

    What it computes inside is computed again there, with the same dropout, as far as
    the backward pass needs it: of a norm or an activation followed by a product (a
    linear layer, a convolution) only the input of the product is made again.

    Args:
        function: A module or a function; called twice, so it must change nothing.
    """
    # A compiler decides itself what to compute twice.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*args, **kwargs)
    result: Result = checkpoint(function, *args, use_reentrant=False, **kwargs)
    return result


def apply_after(
    step: Callable[[Tensor], Tensor] | None,
    layer: Callable[[Tensor], Tensor],
    tensor: Tensor,
) -> Tensor:
    """Apply a layer to what a cheap step makes, which is kept only where it is small.

    Args:
        step: A norm, an activation, another order of the elements; None for none.

    Returns:
        ``layer(step(tensor))``.
    """
    if step is None:
        return layer(tensor)
    # While a compiler traces, sizes may be symbols, and it decides anyway.
    if torch.compiler.is_compiling() or tensor.nbytes < SMALLEST_BYTES:
        return _chain(step, layer, tensor)
    return recomputed(_chain, step, layer, tensor)


def _chain(
    step: Callable[[Tensor], Tensor], layer: Callable[[Tensor], Tensor], tensor: Tensor
) -> Tensor:
    """One after the other."""
    return layer(step(tensor))


# What the C library maps anew for each tensor, and gives back, starts here: on a CPU
# that costs more than a batch saves.
CPU_TENSOR_BYTES = 2**25


def objects_at_once(batch: Tensor, largest: int) -> int:
    """How many objects of a batch to work on at once.

    Args:
        batch: (O, ...).
    """
    if torch.is_grad_enabled() or batch.device.type != 'cpu':
        return len(batch)
    return max((CPU_TENSOR_BYTES - 1) // (largest * batch.element_size()), 1)


def chunks(batch: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Take a batch apart.

    Args:
        batch: (O, ...).

    Returns:
        The chunks; the batch itself where it is not larger, for the gradient of a
        split is a copy.
    """
    return (batch,) if limit >= len(batch) else batch.split(limit)
