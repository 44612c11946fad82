"""Jobs that write a file to download: exports and rendered films."""

import os
import shutil
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .security import RequestError, describe_error

NUM_THREADS = 2
MAX_WAITING = 32  # jobs that run or wait
KEEP_SECONDS = 3600  # a finished file is deleted after it
# Files that are compressed already.
STORED_SUFFIXES = frozenset({'.png', '.jpg', '.jpeg', '.mp4', '.gif', '.zip'})

Progress = Callable[[float], None]
State = Literal['running', 'done', 'failed', 'cancelled']


class JobCancelled(Exception):  # noqa: N818  it is no error
    """Raised in a job's thread where it reports its progress after it was cancelled."""


@dataclass(slots=True, kw_only=True)
class Job:
    """A job and its file.

    Attributes:
        job_id: Name in addresses.
        name: Name of the file for the user.
        folder: Folder of the job's own, deleted with it.
        state: What it does.
        progress: From 0 to 1.
        error: Why it failed, a sentence for the user.
        file: What it wrote, once it is done.
    """

    job_id: str
    name: str
    folder: Path
    state: State = 'running'
    progress: float = 0.0
    error: str | None = None
    file: Path | None = None
    ended: float | None = None
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def report(self, progress: float) -> None:
        """Note how far the job is.

        Raises:
            JobCancelled: If the user cancelled it.
        """
        if self.is_cancelled.is_set():
            raise JobCancelled
        self.progress = min(max(float(progress), self.progress), 1.0)

    def describe(self) -> dict[str, Any]:
        """What the page shows."""
        return {
            'state': self.state,
            'progress': self.progress,
            'error': self.error,
            'name': self.name,
        }


class JobStore:
    """Runs jobs in threads; all methods may be called from any thread.

    Args:
        folder: Where the jobs write, each server in a folder of its own, named by its
            process. What servers that were killed have left there is deleted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / str(os.getpid())
        for left in folder.glob('*'):
            if left == self.folder or not Path('/proc', left.name).exists():
                shutil.rmtree(left, ignore_errors=True)
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix='job')

    def start(self, name: str, write: Callable[[Path, Progress], object]) -> Job:
        """Start a job.

        Args:
            name: Name of the file for the user.
            write: Writes a file, or a folder that is then zipped, to a path.

        Raises:
            RequestError: If too many jobs wait.
        """
        with self._lock:
            waiting = [job for job in self._jobs.values() if job.state == 'running']
            if len(waiting) >= MAX_WAITING:
                msg = f'{MAX_WAITING} exports are running; wait until one has ended'
                raise RequestError(429, msg)
            job_id = uuid.uuid4().hex
            job = Job(job_id=job_id, name=name, folder=self.folder / job_id)
            self._jobs[job_id] = job
        self._threads.submit(self._run, job, write)
        return job

    def get(self, job_id: str) -> Job:
        """Find a job.

        Raises:
            RequestError: If there is none of this name.
        """
        job = self._jobs.get(job_id)
        if job is None:
            msg = 'There is no such job, or its hour has passed; start it again'
            raise RequestError(404, msg)
        return job

    def cancel(self, job_id: str) -> None:
        """Cancel a job, or delete the file of a finished one."""
        job = self.get(job_id)
        job.is_cancelled.set()
        if job.state != 'running':
            self._remove(job)

    def remove_old(self, now: float | None = None) -> None:
        """Delete files that were finished an hour ago."""
        now = time.monotonic() if now is None else now
        for job in tuple(self._jobs.values()):
            if job.ended is not None and now - job.ended > KEEP_SECONDS:
                self._remove(job)

    def close(self) -> None:
        """Cancel all jobs and delete their files."""
        for job in tuple(self._jobs.values()):
            job.is_cancelled.set()
        self._threads.shutdown(cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self, job: Job) -> None:
        with self._lock:
            self._jobs.pop(job.job_id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _run(self, job: Job, write: Callable[[Path, Progress], object]) -> None:
        target = job.folder / job.name
        try:
            job.report(0.0)
            job.folder.mkdir(parents=True)
            if target.suffix == '.zip':
                write(target.with_suffix(''), lambda part: job.report(0.9 * part))
                zip_folder(target.with_suffix(''), target, job)
                shutil.rmtree(target.with_suffix(''))
            else:
                write(target, job.report)
            job.file, job.progress, job.state = target, 1.0, 'done'
        except JobCancelled:
            job.state = 'cancelled'
        except Exception as error:  # noqa: BLE001  the user is told
            job.error = describe_error(error).message
            job.state = 'failed'
        finally:
            job.ended = time.monotonic()
            if job.state != 'done':
                shutil.rmtree(job.folder, ignore_errors=True)


def zip_folder(folder: Path, target: Path, job: Job) -> None:
    """Pack a folder into a file, in the order of names."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    with zipfile.ZipFile(target, 'w') as archive:
        for number, path in enumerate(paths, 1):
            is_stored = path.suffix.lower() in STORED_SUFFIXES
            kind = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
            archive.write(path, path.relative_to(folder).as_posix(), kind)
            job.report(0.9 + 0.1 * number / len(paths))
