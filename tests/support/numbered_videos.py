"""Writes videos whose frames show their own number, and reads the number again."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from struct import pack
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from uneven_videos import find_boxes

NUM_BITS, SIDE = 8, 16
HEIGHT, WIDTH = 3 * SIDE, NUM_BITS * SIDE
TRACK_MATRIX = 48  # bytes from the begin of a track header to its matrix


def number_frame(number: int) -> NDArray[np.uint8]:
    """A frame with the bits of its number as squares, between black and white bars."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(NUM_BITS):
        shade = 200 if number >> bit & 1 else 40
        frame[SIDE : 2 * SIDE, bit * SIDE : (bit + 1) * SIDE] = shade
    frame[:SIDE] = 255
    return frame


def read_number(frame: NDArray[np.uint8]) -> int:
    """The number that a frame shows."""
    squares = frame[SIDE + SIDE // 2, SIDE // 2 :: SIDE, 1]
    return sum(1 << bit for bit in range(NUM_BITS) if squares[bit] > 120)


def write_video(
    path: Path,
    *,
    num_frames: int = 40,
    codec: str = 'libx264',
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Encode numbered frames.

    Args:
        times: When each frame is shown, in thousandths of a second; None for an even
            rate.
    """
    with av.open(str(path), 'w') as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        if times is not None:
            stream.time_base = Fraction(1, 1000)
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(number_frame(number), format='rgb24')
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def rotate(path: Path) -> None:
    """Let the header of an mp4 file say that it is shown turned to the right."""
    data = bytearray(path.read_bytes())
    begin = find_boxes(data, (b'moov', b'trak', b'tkhd'))[-1]
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, HEIGHT * one, 0, 1 << 30)
    data[begin + TRACK_MATRIX : begin + TRACK_MATRIX + 36] = pack('>9i', *matrix)
    path.write_bytes(data)


def decode_in_order(path: Path) -> list[NDArray[np.uint8]]:
    """Decode all frames with PyAV, from the first to the last, unrotated."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
    return [frame.astype(np.uint8, copy=False) for frame in frames]


def write_images(folder: Path, num_frames: int, first: int = 0) -> None:
    """Write numbered frames as PNG files."""
    folder.mkdir(parents=True)
    for number in range(num_frames):
        name = f'{first + number:05d}.png'
        cv2.imwrite(str(folder / name), number_frame(number)[..., ::-1])
