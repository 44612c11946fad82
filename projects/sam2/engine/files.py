"""How checkpoints are written: atomically, and in plain Python types."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import LocalBackend, register_backend

from ..ops import write_atomically

ATOMIC_BACKEND = 'sam2_atomic'


@register_backend(ATOMIC_BACKEND)
class SAM2AtomicBackend(LocalBackend):
    """Local file backend whose writes are atomic.

    A reader finds either the old content or the complete new content, even after a
    crash. MMEngine's own backend writes in place.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        write_atomically(Path(filepath), obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)


def to_plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays to Python's own types, at any depth."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = map(to_plain, value)
        return tuple(entries) if isinstance(value, tuple) else list(entries)
    return value
