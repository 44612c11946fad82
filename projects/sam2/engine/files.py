"""Python's own types in place of NumPy's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import LocalBackend, register_backend

from ..ops import write_atomically


def to_plain(value: Any) -> Any:
    """Turn what NumPy made into Python's own types, at any depth."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(entry) for entry in value)
    if isinstance(value, list):
        return [to_plain(entry) for entry in value]
    return value


ATOMIC_BACKEND = 'sam2_atomic'


@register_backend(ATOMIC_BACKEND)
class SAM2AtomicBackend(LocalBackend):
    """Local files that are written aside, flushed to the disk and then renamed.

    Whoever reads the file, at whatever moment and after whatever crash, finds the
    old content or the new one, whole.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        write_atomically(Path(filepath), obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)
