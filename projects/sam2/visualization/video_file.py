"""Writes pictures to an mp4 file that browsers and players can play.

Videos are H.264, encoded by PyAV (``av``). Without PyAV they are MPEG-4 Part 2, encoded
by OpenCV, which media players play but browsers do not.
"""

import logging
import math
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
from mmengine.logging import print_log

from ..ops import atomic_write, import_optional
from .drawing import Picture

FRAMES_PER_SECOND = 12.0
MAX_RATE = 1000.0
# Half of the colour resolution in each direction: the format that all browsers decode.
PIXEL_FORMAT = 'yuv420p'
# Contours and letters stay sharp; about 60% of the size of OpenCV's MPEG-4.
ENCODER_OPTIONS = {'crf': '20', 'preset': 'veryfast'}
KEY_FRAME_SECONDS = 2.0  # so that jumping to a frame of a long video is fast
# FFmpeg's numbers. OpenCV converts every video by BT.601's matrix, and browsers by the
# one that is named; without a name they guess by the size.
BT601_MATRIX, BT709_PRIMARIES, SRGB_TRANSFER, LIMITED_RANGE = 6, 1, 13, 1


class VideoFile:
    """An mp4 to which pictures are added one by one, in a ``with`` block.

    The file is written atomically: if the block fails, an older file stays.

    Args:
        path: Ends in ``.mp4``; its folder is created where it is missing.
        frames_per_second: Rate at which it is played, up to 1000.

    Raises:
        ValueError: If the rate is not a positive number, or too high.
    """

    def __init__(
        self, path: Path, *, frames_per_second: float = FRAMES_PER_SECOND
    ) -> None:
        if not 0 < frames_per_second <= MAX_RATE:  # NaN fails as well
            msg = (
                f'{path}: {frames_per_second} frames per second cannot be played; '
                f'give a rate above 0 and up to {MAX_RATE:.0f}'
            )
            raise ValueError(msg)
        self.path = path
        self.frames_per_second = frames_per_second
        self._files = ExitStack()
        self._temporary = path
        self._encoder: _Encoder | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> 'VideoFile':
        self._temporary = self._files.enter_context(atomic_write(self.path))
        return self

    def add(self, picture: Picture) -> None:
        """Append a picture.

        Args:
            picture: RGB, (height, width, 3), uint8. H.264 stores even sizes only: an
                odd side gets one more row or column, a copy of the last.

        Raises:
            ValueError: If it is not RGB of 8 bits, or of another size than the first.
            RuntimeError: If neither PyAV nor OpenCV has an encoder.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            msg = (
                f'{self.path}: expected RGB pictures (height, width, 3) of uint8, got '
                f'{picture.shape} of {picture.dtype}'
            )
            raise ValueError(msg)
        if self._encoder is None:
            self._shape = picture.shape
            self._encoder = self._open(*(side + side % 2 for side in picture.shape[:2]))
        if picture.shape != self._shape:
            msg = f'{self.path}: expected pictures {self._shape}, got {picture.shape}'
            raise ValueError(msg)
        odd_rows, odd_columns = (side % 2 for side in picture.shape[:2])
        if odd_rows or odd_columns:
            margins = ((0, odd_rows), (0, odd_columns), (0, 0))
            picture = np.pad(picture, margins, mode='edge')
        self._encoder.add(picture)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the finished file, or remove it; it must have a picture."""
        if error is not None:
            if self._encoder is not None:
                self._encoder.abandon()
            self._files.__exit__(kind, error, trace)
            return
        with self._files:
            if self._encoder is None:
                msg = f'{self.path}: there is no picture to write'
                raise ValueError(msg)
            self._encoder.finish()

    def _open(self, height: int, width: int) -> '_Encoder':
        path, rate = self._temporary.absolute(), self.frames_per_second
        try:
            av = _pyav()
        except ImportError as error:
            _explain_once(str(error))
            return _OpenCVEncoder(path, rate, height, width)
        return _PyAVEncoder(av, path, rate, height, width)


class _Encoder(Protocol):
    """Encodes the pictures of one file."""

    def add(self, picture: Picture) -> None:
        """Append a picture, both sides even."""

    def finish(self) -> None:
        """Write what is left, and close the file."""

    def abandon(self) -> None:
        """Close the file, whose content no longer matters; raises nothing."""


class _PyAVEncoder:
    """H.264 by PyAV's own FFmpeg."""

    def __init__(
        self, av: Any, path: Path, rate: float, height: int, width: int
    ) -> None:
        self._av = av
        # The index goes first, so that a browser can play before it has the whole file.
        options = {'movflags': '+faststart'}
        self._container = av.open(str(path), 'w', format='mp4', options=options)
        # 1001 keeps the rates of television, such as 30000/1001, exact.
        stream = self._container.add_stream(
            'libx264', rate=Fraction(rate).limit_denominator(1001)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMAT
        stream.options = ENCODER_OPTIONS
        context = stream.codec_context
        context.gop_size = max(1, math.ceil(KEY_FRAME_SECONDS * rate))
        context.colorspace, context.color_range = BT601_MATRIX, LIMITED_RANGE
        context.color_primaries, context.color_trc = BT709_PRIMARIES, SRGB_TRANSFER
        # Drawing takes longer than encoding, and a machine may run many processes.
        context.thread_count = 1
        self._stream = stream

    def add(self, picture: Picture) -> None:
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(picture), format='rgb24'
        )
        frame = frame.reformat(
            format=PIXEL_FORMAT, dst_colorspace='ITU601', dst_color_range='MPEG'
        )
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def abandon(self) -> None:
        try:
            self._container.close()
        except (OSError, ValueError, RuntimeError):
            return  # such as a full disk, which is the error that is being raised


class _OpenCVEncoder:
    """MPEG-4 Part 2 by the FFmpeg of OpenCV's wheels, which encodes no H.264."""

    def __init__(self, path: Path, rate: float, height: int, width: int) -> None:
        self._path, self._num_frames = path, 0
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        self._writer = cv2.VideoWriter(str(path), codec, rate, (width, height))
        if not self._writer.isOpened():
            msg = (
                f'{path}: there is no encoder: PyAV is not installed, and this build '
                f'of OpenCV has no mp4v; pip install av'
            )
            raise RuntimeError(msg)

    def add(self, picture: Picture) -> None:
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._num_frames += 1

    def finish(self) -> None:
        self._writer.release()
        # OpenCV reports no error of writing, such as that of a full disk.
        num_frames = cv2.VideoCapture(str(self._path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if num_frames != self._num_frames:
            msg = f'{self._path}: could not be written; is the disk full?'
            raise OSError(msg)

    def abandon(self) -> None:
        self._writer.release()


def _pyav() -> Any:
    """Import PyAV, which is slow, when the first video is written.

    Raises:
        ImportError: If it is missing, broken or built without x264.
    """
    purpose = 'Video that plays in a browser (H.264)'
    av = import_optional('av', purpose=purpose)
    if 'libx264' not in av.codecs_available:
        msg = f'{purpose} needs a build of av with libx264: pip install av --upgrade'
        raise ImportError(msg)
    return av


@cache
def _explain_once(problem: str) -> None:
    msg = f'{problem}; until then videos are MPEG-4 Part 2, for media players'
    print_log(msg, 'current', logging.WARNING)


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> None:
    """Write an mp4 of pictures, see :class:`VideoFile`.

    Raises:
        ValueError: If there is no picture, or one of another size than the first.
        RuntimeError: If neither PyAV nor OpenCV has an encoder.
    """
    with VideoFile(path, frames_per_second=frames_per_second) as video:
        for picture in pictures:
            video.add(picture)
