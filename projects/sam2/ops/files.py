"""Files and folders that are whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file or a folder beside its place, flush it to the disk and rename it.

    Whoever looks at the place, at whatever moment and after whatever crash, finds
    what was there before or the new content, whole.

    Args:
        target: The place; missing parent folders are made. A file may be there
            already, a folder only if it is empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that leftovers are found again; with the ending, by which some
    # libraries tell what to write.
    aside = target.with_name(f'.{target.stem}.partial{target.suffix}')
    _remove(aside)
    try:
        yield aside
        flush_and_rename(aside, target)
    except BaseException:
        _remove(aside)
        raise


def write_atomically(target: Path, content: bytes | str) -> None:
    """Write a file as :func:`atomic_write` says.

    Args:
        content: Text is encoded as UTF-8.
    """
    encoded = content.encode() if isinstance(content, str) else content
    with atomic_write(target) as aside:
        aside.write_bytes(encoded)


def flush_and_rename(aside: Path, target: Path) -> None:
    """Rename what is whole, once it is on the disk.

    Args:
        target: Its name, on the same file system. A file may be there already, a
            folder only if it is empty.
    """
    for path in (*aside.rglob('*'), aside):
        _flush(path)
    aside.replace(target)
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


def import_optional(name: str, *, purpose: str, install: str | None = None) -> Any:
    """Import a package that only some uses need.

    Args:
        purpose: What needs it, the subject of the error's sentence.
        install: What pip is told to install; None for the package alone.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ImportError: If it is installed, but cannot be imported.
    """
    package = name.partition('.')[0]
    command = f'pip install {install or package}'
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == package:
            msg = f'{purpose} needs {package}, which is not installed: {command}'
            raise ModuleNotFoundError(msg, name=package) from error
        problem: Exception = error
    except Exception as error:  # noqa: BLE001  a broken package may raise anything
        problem = error
    msg = (
        f'{purpose} needs {package}, which is installed but cannot be imported '
        f'({type(problem).__name__}: {problem}); mend what it names, or install it '
        f'again: {command} --upgrade'
    )
    raise ImportError(msg, name=package) from problem
