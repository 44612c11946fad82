"""How much memory this process holds, on Linux."""

import os
import threading
from pathlib import Path

SAMPLE_EVERY = 0.005  # seconds
STATM = Path('/proc/self/statm')


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(STATM.read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


class PeakMemory:
    """The most memory that is held while something runs, by looking again and again.

    >>> with PeakMemory() as peak:
    ...     work()
    >>> peak.most_mb
    """

    def __init__(self) -> None:
        self.most_mb = resident_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> 'PeakMemory':
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop."""
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_EVERY):
            self.most_mb = max(self.most_mb, resident_mb())
