"""Writes pictures to an mp4 file."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2

from ..ops import atomic_write
from .drawing import Picture

FRAMES_PER_SECOND = 12.0


class VideoFile:
    """An mp4 to which pictures are added one by one, in a ``with`` block.

    The file is written atomically: if the block fails, an older file stays.

    Args:
        path: Ends in ``.mp4``; its folder is created where it is missing.
        frames_per_second: Rate at which it is played.
    """

    def __init__(
        self, path: Path, *, frames_per_second: float = FRAMES_PER_SECOND
    ) -> None:
        self.path = path
        self.frames_per_second = frames_per_second
        self._files = ExitStack()
        self._temporary = path
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> 'VideoFile':
        self._temporary = self._files.enter_context(atomic_write(self.path))
        return self

    def add(self, picture: Picture) -> None:
        """Append a picture.

        Args:
            picture: RGB, (height, width, 3), both sides even.

        Raises:
            ValueError: If it is of another size than the first.
            RuntimeError: If OpenCV has no mp4v encoder.
        """
        if self._writer is None:
            self._shape = picture.shape
            self._writer = self._open(picture.shape[1], picture.shape[0])
        if picture.shape != self._shape:
            # OpenCV would skip it silently.
            msg = f'{self.path}: expected pictures {self._shape}, got {picture.shape}'
            raise ValueError(msg)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the finished file, or remove it; it must have a picture."""
        if self._writer is not None:
            self._writer.release()
        elif error is None:
            error = ValueError(f'{self.path}: there is no picture to write')
            self._files.__exit__(ValueError, error, None)
            raise error
        self._files.__exit__(kind, error, trace)

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(
            str(self._temporary.absolute()),
            codec,
            self.frames_per_second,
            (width, height),
        )
        if not writer.isOpened():
            msg = (
                f'{self.path}: this build of OpenCV has no mp4v encoder; install the '
                'opencv-python wheel'
            )
            raise RuntimeError(msg)
        return writer


def write_video(path: Path, pictures: Iterable[Picture]) -> None:
    """Write an mp4 of pictures, see :class:`VideoFile`.

    Raises:
        ValueError: If there is no picture, or one of another size than the first.
        RuntimeError: If OpenCV has no mp4v encoder.
    """
    with VideoFile(path) as video:
        for picture in pictures:
            video.add(picture)
