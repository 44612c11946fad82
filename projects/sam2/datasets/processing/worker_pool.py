"""A pool of processes that survives workers that hang or die.

``concurrent.futures`` breaks the whole pool when one worker is killed and cannot limit
the time of a task. Here each worker has its own pipe: a worker that dies or is silent
for too long costs its own task, and a new worker takes the next one.
"""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, TypeVar

import cv2

Task = TypeVar('Task')
Result = TypeVar('Result')
Heartbeat = Callable[[], None]  # a task calls it regularly to restart its time limit
Advance = Callable[[int, int], None]  # called with (num_done, num_total)
StartMethod = Literal['fork', 'spawn', 'forkserver']

POLL_SECONDS = 0.5  # between checks of the time limit
ORPHAN_SECONDS = 5.0  # between checks of an idle worker whether its parent is alive


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Generic[Task, Result]):
    """Result of a task, or the error that prevented it."""

    task: Task
    result: Result | None = None
    error: str | None = None


def run_tasks(
    tasks: Iterable[Task],
    function: Callable[[Task, Heartbeat], Result],
    *,
    num_workers: int,
    time_limit: float,
    start_method: StartMethod | None = None,
) -> Generator[TaskResult[Task, Result], None, None]:
    """Run a function on all tasks in worker processes.

    Args:
        tasks: Inputs of the function; none may be None.
        function: Called as ``function(task, heartbeat)``.
        num_workers: Number of processes, at least 1.
        time_limit: Seconds between two heartbeats of a task. A worker that is silent
            for longer is killed.
        start_method: How processes start; None for the system's default. A function
            that uses a GPU needs ``'spawn'``.

    Yields:
        One result per task, in the order in which they finish.

    Raises:
        ValueError: If ``num_workers`` or ``time_limit`` is not positive.
    """
    if num_workers < 1 or not time_limit > 0:  # not > catches NaN as well
        msg = f'{num_workers} workers, {time_limit} s: give positive numbers'
        raise ValueError(msg)
    remaining = iter(tasks)
    new_worker = partial(_Worker[Task, Result], function, start_method)
    workers: list[_Worker[Task, Result]] = []
    try:
        for task in islice(remaining, num_workers):
            workers.append(new_worker())
            workers[-1].assign(task)
        while workers:
            wait([worker.pipe for worker in workers], timeout=POLL_SECONDS)
            for worker in list(workers):
                finished = worker.poll(time_limit)
                if finished is None:
                    continue
                next_task = next(remaining, None)
                if next_task is None or not worker.is_alive:
                    workers.remove(worker)
                    worker.stop()
                if next_task is not None:
                    if worker not in workers:
                        worker = new_worker()  # noqa: PLW2901
                        workers.append(worker)
                    worker.assign(next_task)
                yield finished
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Generic[Task, Result]):
    """Parent's side of a worker process."""

    def __init__(
        self,
        function: Callable[[Task, Heartbeat], Result],
        start_method: StartMethod | None,
    ) -> None:
        context: Any = get_context(start_method)  # mypy does not know its Process
        self.pipe, child_pipe = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(child_pipe, function, os.getpid()), daemon=True
        )
        self._process.start()
        child_pipe.close()  # otherwise the death of the process is not noticed
        self._task: Task | None = None
        self._last_heartbeat = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def assign(self, task: Task) -> None:
        self._task = task
        self._last_heartbeat = time.monotonic()
        self.pipe.send(task)

    def poll(self, time_limit: float) -> TaskResult[Task, Result] | None:
        """Return the result of the current task, or None while it runs."""
        if self._task is None:
            return None
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                self._last_heartbeat = time.monotonic()
                if message is not None:
                    return self._finish(*message)
        except (EOFError, OSError):
            self._process.join()
            return self._finish(None, _cause_of_death(self._process.exitcode))
        if time.monotonic() - self._last_heartbeat > time_limit:
            self.stop()
            return self._finish(None, f'timed out: no progress for {time_limit:g} s')
        return None

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _finish(
        self, result: Result | None, error: str | None
    ) -> TaskResult[Task, Result]:
        task, self._task = self._task, None
        if task is None:
            msg = 'a worker returned a result without a task'
            raise RuntimeError(msg)
        return TaskResult(task=task, result=result, error=error)


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ', perhaps for lack of memory' if name == 'SIGKILL' else ''
        return f'its process was killed by {name}{hint}'
    return f'its process exited with code {exit_code}'


def _serve(
    pipe: Connection, function: Callable[[Task, Heartbeat], Result], parent: int
) -> None:
    """Run in the worker: process tasks until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent stops workers
    cv2.setNumThreads(0)
    while True:
        while not pipe.poll(ORPHAN_SECONDS):
            if os.getppid() != parent:
                return
        try:
            task = pipe.recv()
        except EOFError:
            return
        result: Result | None = None
        error = None
        try:
            result = function(task, partial(pipe.send, None))
        except Exception as failure:  # noqa: BLE001  reported as the task's error
            error = f'{type(failure).__name__}: {failure}'
        pipe.send((result, error))
