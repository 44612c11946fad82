"""Tasks in worker processes that hang, die or raise."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

import pytest

from projects.sam2.datasets.processing.worker_pool import run_tasks


def behave(task: str, heartbeat: Callable[[], None]) -> str:
    """Do what the task's name says."""
    if task == 'hang':
        time.sleep(60)
    elif task.startswith('SIG'):
        os.kill(os.getpid(), signal.Signals[task])
    elif task == 'exit':
        os._exit(3)
    elif task == 'raise':
        message = 'this file'
        raise KeyError(message)
    elif task == 'slow':
        for _ in range(8):
            time.sleep(0.35)
            heartbeat()
    return task.upper()


def run(
    *tasks: str, num_workers: int = 2, time_limit: float = 2
) -> dict[str, tuple[str | None, str | None]]:
    results = run_tasks(tasks, behave, num_workers=num_workers, time_limit=time_limit)
    return {each.task: (each.result, each.error) for each in results}


def test_every_task_has_a_result_whatever_happens_to_the_others() -> None:
    assert run(
        'a', 'SIGTERM', 'SIGINT', 'b', 'raise', 'exit', 'c', 'hang', 'SIGKILL', 'd'
    ) == {
        'a': ('A', None),
        'b': ('B', None),
        'c': ('C', None),
        'd': ('D', None),
        'raise': (None, "KeyError: 'this file'"),
        'SIGTERM': (None, 'its process was killed by SIGTERM'),
        'SIGKILL': (
            None,
            'its process was killed by SIGKILL, perhaps for lack of memory',
        ),
        'SIGINT': ('SIGINT', None),  # Ctrl-C is for the parent
        'exit': (None, 'its process exited with code 3'),
        'hang': (None, 'timed out: no progress for 2 s'),
    }


def test_heartbeats_restart_the_time_limit() -> None:
    assert run('slow', num_workers=1) == {'slow': ('SLOW', None)}


def test_no_process_survives_the_pool() -> None:
    results = run_tasks('abcdef', behave, num_workers=3, time_limit=5)
    next(results)
    results.close()
    run('a', 'b')
    assert not multiprocessing.active_children()


def test_empty_pool_finishes_at_once() -> None:
    assert run() == {}


@pytest.mark.parametrize(('num_workers', 'time_limit'), [(0, 1.0), (1, 0.0)])
def test_zero_workers_and_zero_time_limit_are_refused(
    num_workers: int, time_limit: float
) -> None:
    with pytest.raises(ValueError, match='give positive numbers'):
        run('a', num_workers=num_workers, time_limit=time_limit)
