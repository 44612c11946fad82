"""Atomic writes of files and folders, and imports of optional packages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write to a temporary file or folder, flush it to the disk and rename it.

    At any moment, and after any crash, the target is the old content or the new one,
    complete.

    Args:
        target: Missing parent folders are created. An existing file is replaced; an
            existing folder must be empty.

    Yields:
        The temporary path, beside the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that the next run removes what a killed one left behind; with the
    # suffix of the target, by which some libraries choose the format.
    partial = target.with_name(f'.{target.stem}.partial{target.suffix}')
    _remove(partial)
    try:
        yield partial
        flush_and_rename(partial, target)
    except BaseException:
        _remove(partial)
        raise


def write_atomically(target: Path, content: bytes | str) -> None:
    """Write a file with :func:`atomic_write`; text is encoded as UTF-8."""
    encoded = content.encode() if isinstance(content, str) else content
    with atomic_write(target) as partial:
        partial.write_bytes(encoded)


def flush_and_rename(partial: Path, target: Path) -> None:
    """Flush a complete file or folder to the disk, then rename it.

    Args:
        target: New name on the same file system. An existing file is replaced; an
            existing folder must be empty.
    """
    for path in (*partial.rglob('*'), partial):
        if not path.is_symlink():  # what it points to is not ours
            _fsync(path)
    try:
        partial.replace(target)
    except IsADirectoryError as error:  # it would name the temporary file
        msg = f'{target} is a folder; give the path of a file'
        raise IsADirectoryError(msg) from error
    _fsync(target.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    if os.name != 'posix' and path.is_dir():  # only POSIX can flush folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def import_optional(name: str, *, purpose: str, install: str | None = None) -> Any:
    """Import a package that only some features need.

    Args:
        purpose: The feature that needs it, the subject of the error's sentence.
        install: What to pass to ``pip install``; None for the name of the package.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ImportError: If it is installed but cannot be imported.
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
        f'({type(problem).__name__}: {problem}); fix that, or reinstall it: {command} '
        f'--upgrade'
    )
    raise ImportError(msg, name=package) from problem
