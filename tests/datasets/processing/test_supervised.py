"""Tasks in processes that hang, die or raise."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

import pytest

from projects.sam2.datasets.processing.worker_pool import run_supervised

Outcomes = dict[str, tuple[str | None, str | None]]


def behave(task: str, beat: Callable[[], None]) -> str:
    """Do as the task says."""
    if task == 'hang':
        time.sleep(60)
    elif task == 'die':
        os.kill(os.getpid(), signal.SIGTERM)
    elif task == 'leave':
        os._exit(3)
    elif task == 'raise':
        message = 'this file'
        raise KeyError(message)
    elif task == 'slow':
        for _ in range(8):
            time.sleep(0.35)
            beat()
    return task.upper()


def outcomes(*tasks: str, num_workers: int = 2, time_limit: float = 2) -> Outcomes:
    found = run_supervised(
        tasks, behave, num_workers=num_workers, time_limit=time_limit
    )
    return {each.task: (each.result, each.problem) for each in found}


def test_every_task_has_its_outcome_whatever_became_of_the_others() -> None:
    found = outcomes('a', 'die', 'b', 'raise', 'leave', 'c', 'hang', 'd')
    assert found == {
        'a': ('A', None),
        'b': ('B', None),
        'c': ('C', None),
        'd': ('D', None),
        'raise': (None, "KeyError: 'this file'"),
        'die': (None, 'its process was ended by SIGTERM'),
        'leave': (None, 'its process ended with code 3'),
        'hang': (None, 'no sign of life for 2 s; its process was ended'),
    }


def test_long_work_that_gives_signs_of_life_is_not_ended() -> None:
    assert outcomes('slow', num_workers=1) == {'slow': ('SLOW', None)}


def test_death_by_the_kernel_hints_at_memory() -> None:
    def kill(task: str, beat: Callable[[], None]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    (only,) = run_supervised(['x'], kill, num_workers=1, time_limit=5)
    assert 'SIGKILL, perhaps for lack of memory' in str(only.problem)


def test_no_process_is_left_behind() -> None:
    found = run_supervised('abcdef', behave, num_workers=3, time_limit=5)
    next(found)
    found.close()
    outcomes('a', 'b')
    assert not multiprocessing.active_children()


def test_nothing_to_do_is_done_at_once() -> None:
    assert outcomes() == {}


@pytest.mark.parametrize(('num_workers', 'time_limit'), [(0, 1.0), (1, 0.0)])
def test_no_worker_or_no_time_is_refused(num_workers: int, time_limit: float) -> None:
    with pytest.raises(ValueError, match='give positive numbers'):
        outcomes('a', num_workers=num_workers, time_limit=time_limit)
