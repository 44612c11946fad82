"""Finds the checkpoint from which a run resumes.

MMEngine resumes from the path in ``last_checkpoint``. That file may be older than the
newest checkpoint, and the checkpoint that it names may be damaged: torch itself does
not notice changed bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from mmengine.config import Config

from ..checkpoints import CheckpointFileError, load_file

POINTER = 'last_checkpoint'
MAX_POINTER_BYTES = 8192  # twice the longest path
# Weights alone lack some of these: a run cannot resume from them.
RESUME_KEYS = frozenset({'state_dict', 'meta', 'message_hub', 'optimizer'})
MAX_ITERATIONS = 10**12  # a thousand steps a second for thirty years
PICKLE_SUFFIX = '/data.pkl'  # in a file of torch: how to put the tensors together
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    MemoryError,
    BadZipFile,
    # of zipfile, for encrypted members and unknown compressions
    RuntimeError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Checkpoint from which a run resumes.

    Attributes:
        path: The newest intact checkpoint; None if there is none.
        problems: Which files were skipped, and why.
    """

    path: Path | None
    problems: tuple[str, ...]


def apply_resume(cfg: Config, resume: str | None) -> tuple[str, ...]:
    """Set ``resume`` and ``load_from`` of a config.

    Args:
        cfg: Changed in place; its ``work_dir`` must be set.
        resume: None to start as the config says, ``'auto'`` for the newest intact
            checkpoint of the work directory, or the path of a checkpoint. If ``'auto'``
            finds none, the run starts as the config says, ``load_from`` included: the
            same command line starts and restarts a job.

    Returns:
        Messages for the log.
    """
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume is None:
        return ()
    if resume != 'auto':
        cfg.resume, cfg.load_from = True, resume
        return ()
    point = find_resume_point(Path(cfg.work_dir))
    cfg.resume = point.path is not None
    if point.path is None:
        message = f'No checkpoint in {cfg.work_dir} to resume from: starting a new run'
        return (*point.problems, message)
    cfg.load_from = str(point.path)
    if not point.problems:
        return ()
    return (*point.problems, f'Resuming from {point.path}, the newest intact one')


def find_resume_point(work_dir: Path) -> ResumePoint:
    """Find the newest intact checkpoint of a work directory.

    The newest is the one with the most iterations, whatever its name and date. If
    ``last_checkpoint`` points to another folder, checkpoints there count as well.
    """
    problems: list[str] = []
    candidates: list[tuple[int, float, Path]] = []
    for path in _checkpoint_files(work_dir, problems):
        try:
            iteration = _iteration(path)
        except CheckpointFileError as error:
            problems.append(str(error))
            continue
        except READ_ERRORS as error:
            problems.append(f'{path} is damaged: {_first_line(error)}')
            continue
        if iteration is not None:
            candidates.append((iteration, path.stat().st_mtime, path))
    for *_, path in sorted(candidates, reverse=True):
        damage = _find_damage(path)
        if damage is None:
            return ResumePoint(path=path, problems=tuple(problems))
        problems.append(f'{path} is damaged: {damage}')
    return ResumePoint(path=None, problems=tuple(problems))


def _checkpoint_files(work_dir: Path, problems: list[str]) -> Iterator[Path]:
    """Yield files that may be checkpoints, each once."""
    folders = [work_dir]
    pointer = work_dir / POINTER
    if pointer.is_file():
        with pointer.open('rb') as file:
            text = file.read(MAX_POINTER_BYTES).decode(errors='replace').strip()
        target = _existing_file(text)
        if target is None:
            problems.append(f'{pointer} names {text[:80]!r}, which does not exist')
        elif target.parent.resolve() != work_dir.resolve():
            folders.append(target.parent)
            problems.append(
                f'{pointer} names {target}, outside of the work directory: '
                f'checkpoints in that folder count as well. If they belong to another '
                f'run, remove {pointer}'
            )
    seen = set()
    for folder in folders:
        for path in sorted(folder.glob('*.pth')):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _existing_file(name: str) -> Path | None:
    try:
        return Path(name) if name.isprintable() and Path(name).is_file() else None
    except OSError:  # the name is too long
        return None


def _iteration(path: Path) -> int | None:
    """Number of iterations of a checkpoint; None if a run cannot resume from it."""
    if path.stat().st_size == 0:
        msg = 'the file is empty'
        raise ValueError(msg)
    checkpoint = load_file(path, 'cpu', mmap=True)  # the weights are not read
    # torch does not check the bytes of the pickle; zipfile does.
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(PICKLE_SUFFIX):
                archive.read(name)
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= RESUME_KEYS:
        return None
    for key in sorted(RESUME_KEYS):
        if not isinstance(checkpoint[key], Mapping):
            msg = f'its {key} is {type(checkpoint[key]).__name__}, not a dict'
            raise ValueError(msg)
    meta = checkpoint['meta']
    for key in ('iter', 'epoch', 'seed'):
        value = meta.get(key)
        if key == 'seed' and value is None:
            continue
        is_count = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_count or not 0 <= int(value) <= MAX_ITERATIONS:
            msg = f'its meta has {key}={str(value)[:50]}, which no run writes'
            raise ValueError(msg)
    return int(meta['iter'])


def _find_damage(path: Path) -> str | None:
    """Compare all bytes of a file with their checksums; None if they match."""
    try:
        with ZipFile(path) as archive:
            member = archive.testzip()
    except READ_ERRORS as error:
        return _first_line(error)
    return None if member is None else f'{member} has changed since it was written'


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__
