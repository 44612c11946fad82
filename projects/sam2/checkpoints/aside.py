"""Files and folders that are whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['written_aside']


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Write a file or a folder beside its place, flush it to the disk and rename it.

    Whoever looks at the place, at whatever moment and after whatever crash, finds
    what was there before or the new content, whole.

    Args:
        target: The place; missing parent folders are made. A file may be there
            already, a folder only if it is empty.

    Yields:
        Where to write; what a killed writer left there is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that leftovers are found again.
    aside = target.with_name(f'.{target.name}.partial')
    _remove(aside)
    try:
        yield aside
        for path in (*aside.rglob('*'), aside):
            _flush(path)
        aside.replace(target)
    except BaseException:
        _remove(aside)
        raise
    _flush(target.parent)


def _remove(path: Path) -> None:
    """Remove a file or a folder that may not be there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk; so for a folder, where the system can."""
    if os.name != 'posix' and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
