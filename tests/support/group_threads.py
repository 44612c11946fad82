"""Imported by a run, it says how many threads of a process group its end leaves."""

import atexit
import sys
from pathlib import Path


def _tell() -> None:
    """Count them while Python still lets them run."""
    names = [task.read_text() for task in Path('/proc/self/task').glob('*/comm')]
    count = sum('gloo' in name for name in names)
    # One write, so that processes do not write into each other's line.
    sys.stdout.write(f'threads of the group: {count}\n')
    sys.stdout.flush()


atexit.register(_tell)
