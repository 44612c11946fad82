"""Writes pictures as an mp4 file."""

from collections.abc import Iterable
from pathlib import Path

import cv2

from projects.sam2.ops import written_aside
from projects.sam2.visualization.text import Picture

FRAMES_PER_SECOND = 12.0


def write_video(path: Path, pictures: Iterable[Picture]) -> None:
    """Write an mp4, aside first and renamed when it is whole.

    Args:
        path: Ends in ``.mp4``; its folder is made where it is missing.
        pictures: RGB, (height, width, 3), of one size, both sides even.

    Raises:
        ValueError: If there is no picture, or one of another size than the first.
        RuntimeError: If OpenCV has no mp4v encoder.
    """
    with written_aside(path) as aside:
        _encode(aside, pictures)


def _encode(path: Path, pictures: Iterable[Picture]) -> None:
    """Encode pictures; the file is closed, whatever happens."""
    writer: cv2.VideoWriter | None = None
    shape: tuple[int, ...] = ()
    try:
        for picture in pictures:
            if writer is None:
                shape = picture.shape
                writer = _open(path, shape[1], shape[0])
            if picture.shape != shape:
                # OpenCV would leave it out without a word.
                msg = f'{path}: expected pictures {shape}, but got {picture.shape}'
                raise ValueError(msg)
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if writer is None:
            msg = f'{path}: there is no picture to write'
            raise ValueError(msg)
    finally:
        if writer is not None:
            writer.release()


def _open(path: Path, width: int, height: int) -> cv2.VideoWriter:
    """Open the encoder."""
    codec = cv2.VideoWriter.fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), codec, FRAMES_PER_SECOND, (width, height))
    if not writer.isOpened():
        msg = (
            f'{path}: this build of OpenCV has no mp4v encoder; install the '
            'opencv-python wheel'
        )
        raise RuntimeError(msg)
    return writer
