"""What a forward pass keeps for the backward pass."""

from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from projects.sam2.models.layers import checkpointing


def kept_storages(forward: Callable[[], object]) -> list[int]:
    """Run a forward pass and see what it keeps.

    Returns:
        Bytes of each piece of memory kept, each once, leaves (parameters) left out.
    """
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if not tensor.is_leaf:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        patch.object(checkpointing, 'keep', note),
    ):
        forward()
    return [tensor.untyped_storage().nbytes() for tensor in kept.values()]
