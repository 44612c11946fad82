"""Finds the checkpoint that a run goes on from."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

POINTER = 'last_checkpoint'
# What a checkpoint to resume from has and one of weights alone lacks.
PARTS = frozenset({'state_dict', 'meta', 'message_hub', 'optimizer'})
# In a file of torch: how its tensors are put together. Reading it checks its bytes.
RECIPE = '/data.pkl'
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    BadZipFile,
    pickle.UnpicklingError,
)

__all__ = ['ResumePoint', 'find_resume_point']


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        path: The newest whole checkpoint; None where there is none.
        problems: What was passed over, and why.
    """

    path: Path | None
    problems: tuple[str, ...]


def find_resume_point(work_dir: Path) -> ResumePoint:
    """Find the newest whole checkpoint of a work directory.

    Newest is what has most iterations, whatever its name and date. It is whole if all
    of its bytes are those that were written. ``last_checkpoint`` only adds the folder
    that it points to: a run may have died before it was written.

    Args:
        work_dir: Of the run.

    Returns:
        The checkpoint, and those that are damaged.
    """
    problems: list[str] = []
    found: list[tuple[int, float, Path]] = []
    for path in _candidates(work_dir, problems):
        try:
            iteration = _iteration(path)
        except UNREADABLE as error:
            problems.append(f'{path} is damaged: {_first_line(error)}')
            continue
        if iteration is not None:
            found.append((iteration, path.stat().st_mtime, path))
    for *_, path in sorted(found, reverse=True):
        problem = _damage(path)
        if problem is None:
            return ResumePoint(path=path, problems=tuple(problems))
        problems.append(f'{path} is damaged: {problem}')
    return ResumePoint(path=None, problems=tuple(problems))


def _candidates(work_dir: Path, problems: list[str]) -> Iterator[Path]:
    """Files that may be checkpoints, each once."""
    folders = [work_dir]
    pointer = work_dir / POINTER
    if pointer.is_file():
        text = pointer.read_bytes().decode(errors='replace').strip()
        if text and '\0' not in text and Path(text).is_file():
            folders.append(Path(text).parent)
        else:
            problems.append(f'{pointer} names {text[:200]!r}, which is not there')
    seen = set()
    for folder in folders:
        for path in sorted(folder.glob('*.pth')):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _iteration(path: Path) -> int | None:
    """Iterations that a checkpoint holds; None where one cannot resume from it."""
    if path.stat().st_size == 0:
        msg = 'the file is empty'
        raise ValueError(msg)
    # torch reads past changed bytes, and fails in any way at all where they are not
    # weights but what says how to read them.
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(RECIPE):
                archive.read(name)
    # Mapped into memory: the weights are not read.
    held: Any = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    if not isinstance(held, dict) or not held.keys() >= PARTS:
        return None
    return int(held['meta']['iter'])


def _damage(path: Path) -> str | None:
    """What is wrong with the bytes of a file; torch itself reads past changed ones."""
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
    except UNREADABLE as error:
        return _first_line(error)
    return None if part is None else f'{part} has other bytes than were written'


def _first_line(error: Exception) -> str:
    """An error in one line."""
    return str(error).strip().partition('\n')[0] or type(error).__name__
