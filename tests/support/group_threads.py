"""Imported by a run, it says how many threads of a process group are there."""

import atexit
import sys
from contextlib import suppress
from pathlib import Path

from torch import distributed

_destroy = distributed.destroy_process_group


def _tell(when: str) -> None:
    """Count them while Python lets them run."""
    names = []
    for task in Path('/proc/self/task').glob('*/comm'):
        with suppress(OSError):  # a thread has just ended
            names.append(task.read_text())
    count = sum('gloo' in name for name in names)
    # One write, so that processes do not write into each other's line.
    sys.stdout.write(f'{when} there are {count} threads of the group\n')
    sys.stdout.flush()


def _tell_and_destroy() -> None:
    """Count them while the group is there."""
    _tell('before')
    _destroy()


vars(distributed)['destroy_process_group'] = _tell_and_destroy
atexit.register(_tell, 'after')
