"""A file backend that never leaves a half-written file behind."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from projects.sam2.ops import write_whole

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
        write_whole(Path(filepath), obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text.

        Args:
            obj: Content.
            filepath: Where to; missing folders are made.
            encoding: Of the file.
        """
        self.put(obj.encode(encoding), filepath)
