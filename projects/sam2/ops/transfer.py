"""Copies tensors to a device without waiting for it."""

import torch
from torch import Tensor


def send_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device, without waiting for a GPU.

    The copy is queued behind the work that the GPU has. A plain ``to`` waits until all
    of that is done, and meanwhile the host queues nothing.

    Args:
        tensor: On the host. Its memory may be reused after the call.
        device: Where the copy goes; a tensor that is there already is returned.
    """
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()  # a copy from pageable memory would wait
    return tensor.to(device, non_blocking=True)
