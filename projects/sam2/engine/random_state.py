"""Global random states of a process, in types that any checkpoint may hold."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

RandomState = dict[str, Any]

__all__ = ['RandomState', 'capture_random_state', 'restore_random_state']


def capture_random_state() -> RandomState:
    """Read the states of Python, NumPy, torch and of the current CUDA device.

    Returns:
        Numbers, strings, tuples, lists and tensors alone, so that ``torch.load``
        reads them with ``weights_only=True``.
    """
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  what others draw from
    inner = numpy_state['state']
    state: RandomState = {
        'python': random.getstate(),
        'numpy': {
            **numpy_state,
            'state': {'key': inner['key'].tolist(), 'pos': int(inner['pos'])},
        },
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: RandomState) -> None:
    """Set the states that :func:`capture_random_state` read.

    A state of a CUDA device is left alone on a machine without one.

    Args:
        state: What was captured; its tensors may lie on any device.
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])  # noqa: NPY002  as above
    torch.set_rng_state(_on_cpu(state['torch']))
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_on_cpu(state['cuda']))


def _on_cpu(state: Tensor) -> Tensor:
    """A generator's state where torch wants it; resuming moves tensors to the GPU."""
    return state.cpu()
