"""Weights of models with low-rank adapters (LoRA, DoRA), in the names of ``peft``.

A layer ``x`` with an adapter keeps its own weights in ``x.base_layer`` and those of the
adapter in ``x.lora_A.default`` and the like.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

# Field of a file that holds only what a run has trained.
ADAPTER_FIELD = 'adapter_state_dict'
_BASE = '.base_layer.'
_MAGNITUDE = '.lora_magnitude_vector.default.weight'


def is_adapter_key(key: str) -> bool:
    """Whether a weight belongs to an adapter and not to the layer that it adapts."""
    return '.lora_' in key


def to_plain_key(key: str) -> str:
    """Translate the name of an adapted layer's own weight to that of a plain model."""
    return key.replace(_BASE, '.')


def fit_adapters(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Extend the weights of a plain model to a model with adapters.

    Args:
        expected: State dict of the model.

    Returns:
        Weights by the model's names. Adapters keep the model's current values; new
        adapters do not change the output. Weights that contain adapters, and weights
        for a model without adapters, are returned unchanged.
    """
    if any(map(is_adapter_key, weights)) or not any(map(is_adapter_key, expected)):
        return dict(weights)
    adapted = {to_plain_key(key): key for key in expected if _BASE in key}
    fitted = {adapted.get(key, key): value for key, value in weights.items()}
    for key, value in expected.items():
        if is_adapter_key(key):
            base = fitted.get(f'{key.removesuffix(_MAGNITUDE)}{_BASE}weight')
            # DoRA trains the length of each row of a matrix as a weight of its own.
            fitted[key] = value if base is None else vector_norm(base, dim=1)
    return fitted


def adapter_weights_of(checkpoint: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Get the weights of a file that holds only what a run has trained.

    Raises:
        ValueError: If it is another kind of file.
    """
    if ADAPTER_FIELD not in checkpoint:
        msg = (
            f'{source} is no file of adapters, but has {sorted(checkpoint)}; write one '
            f'by tools/model_converters/convert_adapters.py save'
        )
        raise ValueError(msg)
    return dict(checkpoint[ADAPTER_FIELD])
