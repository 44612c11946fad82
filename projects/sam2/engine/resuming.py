"""Finds the checkpoint that a run goes on from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from projects.sam2.checkpoints import CheckpointFileError, load_file

POINTER = 'last_checkpoint'
MAX_POINTER_BYTES = 1 << 13  # a path has 4,096 at most
# What a checkpoint to resume from has and one of weights alone lacks.
PARTS = frozenset({'state_dict', 'meta', 'message_hub', 'optimizer'})
# A thousand steps a second for a century.
MAX_ITERATIONS = 10**12
# In a file of torch: how its tensors are put together. Reading it checks its bytes.
RECIPE = '/data.pkl'
# zipfile raises the last three for encrypted members and unknown compressions.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    MemoryError,
    BadZipFile,
    RuntimeError,
    NotImplementedError,
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
        except CheckpointFileError as error:
            problems.append(str(error))
            continue
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
        with pointer.open('rb') as file:
            text = file.read(MAX_POINTER_BYTES).decode(errors='replace').strip()
        target = _existing_file(text)
        if target is None:
            problems.append(f'{pointer} names {text[:80]!r}, which is not there')
        elif target.parent.resolve() != work_dir.resolve():
            folders.append(target.parent)
            problems.append(
                f'{pointer} names {target}, outside of the work directory; '
                f'checkpoints of that folder count as well. If they are not of this '
                f'run, remove {pointer}'
            )
    seen = set()
    for folder in folders:
        for path in sorted(folder.glob('*.pth')):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _existing_file(name: str) -> Path | None:
    """The file of a name; None where there is none."""
    try:
        return Path(name) if name.isprintable() and Path(name).is_file() else None
    except OSError:  # the name is too long
        return None


def _iteration(path: Path) -> int | None:
    """Iterations that a checkpoint holds; None where one cannot resume from it."""
    if path.stat().st_size == 0:
        msg = 'the file is empty'
        raise ValueError(msg)
    # Mapped into memory: the weights are not read.
    held = load_file(path, 'cpu', mmap=True)
    # torch reads past changed bytes; of those that say how to read, it takes any.
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(RECIPE):
                archive.read(name)
    if not isinstance(held, dict) or not held.keys() >= PARTS:
        return None
    for name in sorted(PARTS):
        if not isinstance(held[name], Mapping):
            msg = f'its {name} is {type(held[name]).__name__}, no dict'
            raise ValueError(msg)  # noqa: TRY004  the file is damaged
    meta = held['meta']
    for name in ('iter', 'epoch', 'seed'):
        count = meta.get(name, 0 if name == 'seed' else None)
        if name == 'seed' and count is None:
            continue
        if not _is_count(count):
            msg = f'its meta has {name}={str(count)[:50]}, which no run writes'
            raise ValueError(msg)
    return int(meta['iter'])


def _is_count(value: object) -> bool:
    """Whether a run may have counted to a number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return 0 <= int(value) <= MAX_ITERATIONS


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
