"""Weights of models with low-rank adapters, named as the package ``peft`` does.

A layer ``x`` with an adapter has its own weights in ``x.base_layer``, and the adapter's
in ``x.lora_A.default`` and its like.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

__all__ = [
    'ADAPTER_FIELD',
    'adapter_weights_of',
    'fit_adapters',
    'is_adapter_key',
    'to_plain_key',
]

BASE = '.base_layer.'
ADAPTER_SIGN = '.lora_'
MAGNITUDE = '.lora_magnitude_vector.default.weight'
# Of files that hold what was trained alone.
ADAPTER_FIELD = 'adapter_state_dict'


def is_adapter_key(key: str) -> bool:
    """Tell adapters from the layers that they adapt.

    Args:
        key: Name of a weight.

    Returns:
        Whether it belongs to an adapter.
    """
    return ADAPTER_SIGN in key


def to_plain_key(key: str) -> str:
    """Translate the name of an adapted layer's weight.

    Args:
        key: Name of a weight, adapted or not.

    Returns:
        Its name in a model without adapters.
    """
    return key.replace(BASE, '.')


def fit_adapters(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Make weights of a plain model fit a model with adapters.

    Args:
        weights: Plain, or of a model with adapters already.
        wanted: The weights that the model has now.

    Returns:
        Weights by the model's names, with the adapters that the model has now: it
        then computes what a plain model would, if these are new. Weights that have
        adapters already, and those for a model without any, are left as they are.
    """
    if any(map(is_adapter_key, weights)) or not any(map(is_adapter_key, wanted)):
        return dict(weights)
    adapted = {to_plain_key(key): key for key in wanted if BASE in key}
    fitted = {adapted.get(key, key): value for key, value in weights.items()}
    for key, value in wanted.items():
        if is_adapter_key(key):
            base = fitted.get(f'{key.removesuffix(MAGNITUDE)}{BASE}weight')
            # DoRA keeps the lengths of a matrix's rows apart.
            fitted[key] = value if base is None else vector_norm(base, dim=1)
    return fitted


def adapter_weights_of(checkpoint: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Take the weights out of a file that holds what was trained alone.

    Args:
        checkpoint: As it was read.
        source: Where it comes from, for the error.

    Returns:
        Weights by our names.

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
