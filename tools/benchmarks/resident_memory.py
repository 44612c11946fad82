"""Measures the resident memory of this process, on Linux."""

import os
import threading
from pathlib import Path

SAMPLE_SECONDS = 0.005  # between two samples
STATM = Path('/proc/self/statm')


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(STATM.read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


class PeakMemory:
    """Peak of the resident memory in a ``with`` block, sampled by a thread.

    >>> with PeakMemory() as peak:
    ...     work()
    >>> peak.max_mb
    """

    def __init__(self) -> None:
        self.max_mb = resident_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> 'PeakMemory':
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.max_mb = max(self.max_mb, resident_mb())
