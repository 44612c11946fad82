"""A file backend that never leaves a half-written file behind."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

ATOMIC_BACKEND = 'sam2_atomic'

__all__ = ['ATOMIC_BACKEND', 'SAM2AtomicBackend']


@register_backend(ATOMIC_BACKEND)
class SAM2AtomicBackend(LocalBackend):
    """Local files that are written aside, flushed to the disk and then renamed.

    Whoever reads the file, at whatever moment and after whatever crash, finds the
    old content or the new one, whole.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj: Content.
            filepath: Where to; missing folders are made.
        """
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A fixed name: what a killed writer left is overwritten by the next one.
        aside = target.with_name(f'.{target.name}.partial')
        try:
            with aside.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text.

        Args:
            obj: Content.
            filepath: Where to; missing folders are made.
            encoding: Of the file.
        """
        self.put(obj.encode(encoding), filepath)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a loss of power; not every system can."""
    if os.name != 'posix':
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
