"""Objects of a batch are taken apart where that is faster."""

import torch
from torch import Tensor

__all__ = ['chunks', 'objects_at_once']

# What the C library maps anew for each tensor, and gives back, starts here: on a CPU
# that costs more than a batch saves.
CPU_TENSOR_BYTES = 2**25


def objects_at_once(batch: Tensor, largest: int) -> int:
    """How many objects of a batch to work on at once.

    Args:
        batch: (O, ...).
        largest: Numbers of an object in the largest tensor that the work makes.

    Returns:
        All of them with a graph or on a GPU; on a CPU as many as keep that tensor
        small, at least one.
    """
    if torch.is_grad_enabled() or batch.device.type != 'cpu':
        return len(batch)
    return max((CPU_TENSOR_BYTES - 1) // (largest * batch.element_size()), 1)


def chunks(batch: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Take a batch apart.

    Args:
        batch: (O, ...).
        limit: Objects of a chunk at most.

    Returns:
        The chunks; the batch itself where it is not larger, for the gradient of a
        split is a copy.
    """
    return (batch,) if limit >= len(batch) else batch.split(limit)
