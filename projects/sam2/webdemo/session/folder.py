"""The folder of a session, from which it resumes after any crash.

===============  ==========================================================
session.json     Snapshot: name, video, objects, prompts, undo stack.
index-N.npz      Snapshot: where the mask of each object and frame is.
journal.jsonl    One line for each change since the session was created,
                 which is also what undo and redo read.
masks.bin        All masks (:mod:`.mask_log`).
thumbnail.jpg    The first frame, for lists of sessions.
lock             Locked by the process that has the session open; holds its
                 id until it closes the session.
===============  ==========================================================

Snapshots are renamed into place; the other files only grow. Opening a session reads the
snapshot, replays the journal after it, and drops torn ends.
"""

import fcntl
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Generator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from ...ops import atomic_write, write_atomically
from .append_only import AppendOnlyFile
from .mask_log import MaskIndex, MaskLog
from .video import VideoIdentity

SNAPSHOT, JOURNAL, MASKS, LOCK = 'session.json', 'journal.jsonl', 'masks.bin', 'lock'
THUMBNAIL = 'thumbnail.jpg'
FORMAT = 1
LOCK_TRIES, LOCK_WAIT = 5, 0.05  # listing sessions holds a lock for a moment
State = Literal['open', 'closed', 'missing video', 'damaged']


class SessionInUseError(ValueError):
    """Another process, or another part of this one, has the session open."""


class Journal(AppendOnlyFile):
    """A file of JSON objects, one a line, each after its checksum."""

    def append(self, data: dict[str, Any]) -> int:
        """Write a line.

        Returns:
            Its position.

        Raises:
            OSError: If the disk is full; the file is as it was.
        """
        text = json.dumps(data, ensure_ascii=False, separators=(',', ':')).encode()
        return self._write(b'%08x %s\n' % (zlib.crc32(text), text))

    def read(self, position: int) -> dict[str, Any]:
        """Read the line at a position.

        Raises:
            OSError: If it is damaged.
        """
        with closing(self.scan(position)) as lines:
            for _, _, data in lines:
                return data
        msg = f'{self.path}: the line at byte {position} is damaged; restore the file'
        raise OSError(msg)

    def scan(self, start: int) -> Generator[tuple[int, int, dict[str, Any]]]:
        """Read position, end and content of the lines up to the first damaged one."""
        with self.path.open('rb') as file:
            file.seek(start)
            for line in file:
                checksum, _, text = line.rstrip(b'\n').partition(b' ')
                if not line.endswith(b'\n') or checksum != b'%08x' % zlib.crc32(text):
                    return
                yield start, start + len(line), json.loads(text)
                start += len(line)


class SessionFolder:
    """The open files of a session; one process at a time.

    Args:
        path: The folder; created if it is missing.

    Attributes:
        journal: The changes.
        masks: The masks.
        was_killed: The process that had the session open before did not close it.

    Raises:
        SessionInUseError: If it is open already.
        ValueError: If ``masks.bin`` is another file.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock, self.was_killed = _lock(path)
        with ExitStack() as on_failure:
            # The mark of a killed process stays until the session could be opened.
            on_failure.callback(self._unlock, cleanly=not self.was_killed)
            self.masks = MaskLog(path / MASKS)
            on_failure.callback(self.masks.close)
            self.journal = Journal(path / JOURNAL)
            on_failure.pop_all()

    def read_snapshot(self) -> dict[str, Any]:
        """Read ``session.json``.

        Raises:
            ValueError: If it is missing, damaged, or of a later version.
        """
        return read_snapshot(self.path)

    def read_index(self, name: str, num_frames: int) -> MaskIndex:
        """Read a snapshot of the index.

        Raises:
            ValueError: If it is missing or damaged.
        """
        index, path = MaskIndex(num_frames), self.path / name
        try:
            with np.load(path) as arrays:
                for key in arrays.files:
                    kind, _, object_id = key.partition('_')
                    target = index.scores if kind == 'scores' else index.offsets
                    target[int(object_id)] = arrays[key]
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            msg = f'{path} is damaged ({error}); restore it from a copy'
            raise ValueError(msg) from error
        return index

    def write_snapshot(self, data: dict[str, Any], index: MaskIndex) -> None:
        """Write ``session.json`` and the index.

        Raises:
            OSError: If the disk is full; the earlier snapshot stays.
        """
        self.sync()
        # Only undo and redo change the index without new masks: then it replaces the
        # old one. Killed before session.json follows, the session replays them on an
        # index that has them already, which changes nothing.
        name = f'index-{self.masks.size}.npz'
        old = [path for path in self.path.glob('index-*.npz') if path.name != name]
        arrays: dict[str, Any] = {}
        for object_id, offsets in index.offsets.items():
            arrays[f'offsets_{object_id}'] = offsets
            arrays[f'scores_{object_id}'] = index.scores[object_id]
        with atomic_write(self.path / name) as partial:
            np.savez_compressed(partial, **arrays)
        sizes = {'journal_size': self.journal.size, 'masks_size': self.masks.size}
        content = {'format': FORMAT, **data, **sizes, 'index': name}
        write_atomically(self.path / SNAPSHOT, json.dumps(content, ensure_ascii=False))
        for path in old:
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Flush both files to the disk, masks first: lines name them."""
        self.masks.sync(at_once=True)
        self.journal.sync(at_once=True)

    def close(self, *, cleanly: bool) -> None:
        """Close the files and release the lock.

        Args:
            cleanly: Nothing is missing in the snapshot.
        """
        self.masks.close()
        self.journal.close()
        self._unlock(cleanly=cleanly)

    def _unlock(self, *, cleanly: bool) -> None:
        if cleanly:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What a list of sessions shows.

    Attributes:
        session_id: Name of the folder.
        name: Name of the session.
        source: Path of the video.
        kind: 'video' or 'images'.
        num_frames: Frames of the video.
        num_objects: Objects at the last snapshot.
        modified: Seconds since 1970.
        state: Whether a process has it open, its video is missing, or ``session.json``
            cannot be read.
        crashed: The process that had it open was killed.
        key: Of the video, see :class:`VideoIdentity`; '' if it is unknown.
    """

    session_id: str
    name: str
    source: str
    kind: str
    num_frames: int
    num_objects: int
    modified: float
    state: State
    crashed: bool
    key: str


def new_session_folder(root: Path) -> Path:
    """Choose a folder for a new session; its name sorts by time."""
    return root / f'{time.strftime("%Y%m%d-%H%M%S")}-{secrets.token_hex(3)}'


def list_sessions(root: Path) -> list[SessionInfo]:
    """List the sessions in a folder, the latest first."""
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if (path / SNAPSHOT).is_file()]
    return sorted(map(_info, folders), key=lambda info: -info.modified)


def read_snapshot(folder: Path) -> dict[str, Any]:
    """Read ``session.json``, see :meth:`SessionFolder.read_snapshot`."""
    path = folder / SNAPSHOT
    try:
        data: dict[str, Any] = json.loads(path.read_text('utf-8'))
        version = data['format']
    except FileNotFoundError as error:
        msg = f'{folder} is not a session of the demo; it has no {SNAPSHOT}'
        raise ValueError(msg) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        msg = f'{path} is damaged ({error}); restore it from a copy'
        raise ValueError(msg) from error
    if version != FORMAT:
        msg = f'{path} has format {version}, known is {FORMAT}; update the package'
        raise ValueError(msg)
    return data


def _info(folder: Path) -> SessionInfo:
    is_open, crashed = _probe(folder)
    files = [folder / name for name in (SNAPSHOT, JOURNAL, MASKS)]
    modified = max(path.stat().st_mtime for path in files if path.exists())
    state: State = 'open' if is_open else 'closed'
    try:
        data = read_snapshot(folder)
        name, video = data['name'], data['video']
        num_objects = len(data['document']['objects'])
        key = VideoIdentity(**video).key
    except (ValueError, KeyError, TypeError):
        name, video, num_objects, state = folder.name, {}, 0, 'damaged'
        key = ''
    source = video.get('path', '')
    if state == 'closed' and not Path(source).exists():
        state = 'missing video'
    return SessionInfo(
        session_id=folder.name,
        name=name,
        source=source,
        kind=video.get('kind', 'video'),
        num_frames=video.get('num_frames', 0),
        num_objects=num_objects,
        modified=modified,
        state=state,
        crashed=crashed and not is_open,
        key=key,
    )


def delete_session_folder(folder: Path) -> None:
    """Delete a session.

    Raises:
        SessionInUseError: If a process has it open.
        OSError: If it cannot be deleted.
    """
    lock, _ = _lock(folder)
    try:
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _lock(folder: Path) -> tuple[int, bool]:
    """Lock a folder; the system releases the lock of a process that was killed.

    Returns:
        The descriptor that holds the lock, and whether the last holder was killed.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for attempt in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # noqa: PERF203  the lock may be free at the next try
            time.sleep(LOCK_WAIT if attempt < LOCK_TRIES - 1 else 0.0)
        else:
            was_killed = os.fstat(descriptor).st_size > 0
            with suppress(OSError):  # a session opens on a full disk as well
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f'{os.getpid()}\n'.encode(), 0)
            return descriptor, was_killed
    holder = os.pread(descriptor, 32, 0).decode('ascii', 'replace').strip()
    os.close(descriptor)
    where = 'this process' if holder == str(os.getpid()) else f'process {holder}'
    msg = f'The session {folder.name} is open in {where}; close it there first'
    raise SessionInUseError(msg)


def _probe(folder: Path) -> tuple[bool, bool]:
    """Whether a process has a session open, and whether its holder was killed."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False, False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True, False
    else:
        return False, os.fstat(descriptor).st_size > 0
    finally:
        os.close(descriptor)
