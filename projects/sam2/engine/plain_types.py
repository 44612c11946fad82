"""Python's own types in place of NumPy's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ['to_plain']


def to_plain(value: Any) -> Any:  # noqa: ANN401  whatever a checkpoint may hold
    """Turn what NumPy made into Python's own types, at any depth.

    Args:
        value: Dicts, lists and tuples of anything.

    Returns:
        The same with NumPy scalars as numbers, arrays as lists, mappings as dicts.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(entry) for entry in value)
    if isinstance(value, list):
        return [to_plain(entry) for entry in value]
    return value
