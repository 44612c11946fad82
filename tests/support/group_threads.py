"""A run that imports this prints the number of threads of its process group."""

import atexit
import sys
from contextlib import suppress
from pathlib import Path

from torch import distributed

_destroy = distributed.destroy_process_group


def _print_count(when: str) -> None:
    """Print how many threads are running."""
    names = []
    for task in Path('/proc/self/task').glob('*/comm'):
        with suppress(OSError):  # a thread has just ended
            names.append(task.read_text())
    count = sum('gloo' in name for name in names)
    # One write, so that processes do not write into each other's line.
    sys.stdout.write(f'{when} there are {count} threads of the group\n')
    sys.stdout.flush()


def _print_and_destroy() -> None:
    """Print it before the group is destroyed."""
    _print_count('before')
    _destroy()


vars(distributed)['destroy_process_group'] = _print_and_destroy
atexit.register(_print_count, 'after')
