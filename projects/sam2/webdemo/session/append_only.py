"""A file that only grows, of which a crash or a full disk leaves whole records."""

import os
import time
from pathlib import Path

SYNC_SECONDS = 1.0  # what a power failure may cost; a killed process loses nothing


class AppendOnlyFile:
    """The file of which :class:`MaskLog` and :class:`Journal` are made.

    One thread appends; any thread reads.

    Args:
        path: The file, created if it is missing.

    Attributes:
        size: Bytes of the valid records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size = os.fstat(self._descriptor).st_size
        self._last_sync = time.monotonic()

    def truncate(self, size: int) -> None:
        """Remove what was written after ``size`` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def sync(self, *, at_once: bool = False) -> None:
        """Flush the file to the disk, at most once a second unless ``at_once``."""
        now = time.monotonic()
        if at_once or now - self._last_sync >= SYNC_SECONDS:
            self._last_sync = now
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; reading raises an ``OSError`` from now on."""
        # Other threads may be reading: they must not meet the next file that gets the
        # number of this descriptor.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _write(self, data: bytes) -> int:
        """Append bytes, all or none; return their position.

        Raises:
            OSError: If the disk is full, or somebody deleted the file; it is as it was.
        """
        if os.fstat(self._descriptor).st_nlink == 0:
            # The system would write on, into a file that is gone when it is closed.
            msg = (
                f'{self.path} was deleted while the session was open, so that nothing '
                f'can be saved; export what is there, and open the video again'
            )
            raise OSError(msg)
        view, position = memoryview(data), self.size
        try:
            while view:
                written = os.pwrite(self._descriptor, view, position)
                view, position = view[written:], position + written
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        start, self.size = self.size, position
        return start
