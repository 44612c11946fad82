"""Runs tasks in processes that may hang or die without taking the others along."""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
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
Beat = Callable[[], None]  # to be called now and then: says that work goes on
Work = Callable[[Task, Beat], Result]

StartMethod = Literal['fork', 'spawn', 'forkserver']

LOOK_EVERY = 0.5  # seconds between looks at the clock
ORPHAN_AFTER = 5.0  # seconds without a task until a worker looks for its parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Task, Result]):
    """What became of a task.

    Attributes:
        task: The task.
        result: What the work returned; None where it did not end.
        problem: Why it did not end, or None.
    """

    task: Task
    result: Result | None = None
    problem: str | None = None


class _Worker(Generic[Task, Result]):
    """A process, the task that it has, and its last sign of life."""

    def __init__(
        self, work: Work[Task, Result], start_method: StartMethod | None
    ) -> None:
        # Each kind of context has its own class of processes, which mypy does not see.
        context: Any = get_context(start_method)
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, work, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()  # or the end of the process would not be seen
        self._task: Task | None = None
        self._last_sign = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Whether it can take another task."""
        return self._process.is_alive()

    def give(self, task: Task) -> None:
        """Hand it a task."""
        self._task = task
        self._last_sign = time.monotonic()
        self.pipe.send(task)

    def look(self, time_limit: float) -> Outcome[Task, Result] | None:
        """Read its messages; the outcome of its task once there is one."""
        if self._task is None:
            return None
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                self._last_sign = time.monotonic()
                if message is not None:
                    result, problem = message
                    return self._close_task(result, problem)
        except (EOFError, OSError):
            self._process.join()
            return self._close_task(None, _cause_of_death(self._process.exitcode))
        if time.monotonic() - self._last_sign > time_limit:
            self.stop()
            problem = f'no sign of life for {time_limit:g} s; its process was ended'
            return self._close_task(None, problem)
        return None

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _close_task(
        self, result: Result | None, problem: str | None
    ) -> Outcome[Task, Result]:
        task, self._task = self._task, None
        if task is None:
            msg = 'A worker answered without a task'
            raise RuntimeError(msg)
        return Outcome(task=task, result=result, problem=problem)


def run_supervised(
    tasks: Iterable[Task],
    work: Work[Task, Result],
    *,
    num_workers: int,
    time_limit: float,
    start_method: StartMethod | None = None,
) -> Generator[Outcome[Task, Result], None, None]:
    """Do tasks in processes, and go on when one of them hangs or dies.

    Args:
        tasks: Each is done once; none may be None.
        num_workers: Processes; all work is done in them, so at least 1.
        start_method: How processes begin; None for the system's default. Work that
            uses a GPU needs ``'spawn'``.

    Raises:
        ValueError: If there is no worker or no time.
    """
    if num_workers < 1 or not time_limit > 0:  # NaN, too
        msg = f'{num_workers} workers, {time_limit} s: give positive numbers'
        raise ValueError(msg)
    waiting = iter(tasks)
    hire = partial(_Worker[Task, Result], work, start_method)
    busy: list[_Worker[Task, Result]] = []
    try:
        for task in islice(waiting, num_workers):
            busy.append(hire())
            busy[-1].give(task)
        while busy:
            wait([worker.pipe for worker in busy], timeout=LOOK_EVERY)
            yield from _collect(busy, waiting, hire, time_limit)
    finally:
        for worker in busy:
            worker.stop()


def _collect(
    busy: list[_Worker[Task, Result]],
    waiting: Iterator[Task],
    hire: Callable[[], _Worker[Task, Result]],
    time_limit: float,
) -> Iterator[Outcome[Task, Result]]:
    """Outcomes that there are; each worker whose task ended gets another."""
    for worker in list(busy):
        outcome = worker.look(time_limit)
        if outcome is None:
            continue
        busy.remove(worker)
        busy += _go_on(worker, waiting, hire)
        yield outcome


def _go_on(
    worker: _Worker[Task, Result],
    waiting: Iterator[Task],
    hire: Callable[[], _Worker[Task, Result]],
) -> list[_Worker[Task, Result]]:
    """The worker with its next task, another in its place where it is dead."""
    for task in waiting:
        able = worker if worker.is_alive else hire()
        able.give(task)
        return [able]
    if worker.is_alive:
        worker.stop()
    return []


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        memory = ', perhaps for lack of memory' if name == 'SIGKILL' else ''
        return f'its process was ended by {name}{memory}'
    return f'its process ended with code {exit_code}'


def _serve(pipe: Connection, work: Work[Task, Result], parent: int) -> None:
    """Do tasks until there are no more, or nobody is left to give any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    cv2.setNumThreads(0)
    while True:
        while not pipe.poll(ORPHAN_AFTER):
            if os.getppid() != parent:
                return
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(work, task, partial(pipe.send, None)))


def _attempt(
    work: Work[Task, Result], task: Task, beat: Beat
) -> tuple[Result | None, str | None]:
    try:
        return work(task, beat), None
    except Exception as error:  # noqa: BLE001  one bad file must not end the rest
        return None, f'{type(error).__name__}: {error}'
