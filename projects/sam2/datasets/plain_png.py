"""Decodes the kind of PNG that masks are mostly written as, faster than Pillow."""

import zlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib
except ImportError:  # zlib itself is no faster than Pillow
    isal_zlib = None  # type: ignore[assignment]

SIGNATURE = b'\x89PNG\r\n\x1a\n'
HEADER = Struct('>II5B')
LENGTH = Struct('>I')
GREY, PALETTE = 0, 3
HEADER_END = 33
CHUNK_FRAME = 12  # bytes of a chunk around its data: length, name, checksum


class _Header(NamedTuple):
    """What stands at the beginning of the file."""

    width: int
    height: int
    num_bits: int
    colors: int
    compression: int
    filters: int
    interlace: int


def decode_plain_png(encoded: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode a PNG of 8 bits, grey or with a palette, not filtered or interlaced.

    Args:
        encoded: Content of the file.
        max_pixels: Larger images are left to others.

    Returns:
        (height, width), values as stored; None for a file of another kind, or one that
        is damaged.
    """
    header = None if isal_zlib is None else _plain_header(encoded)
    if header is None or not 0 < header.width * header.height <= max_pixels:
        return None
    num_bytes = header.height * (header.width + 1)
    stream = isal_zlib.decompressobj()
    try:
        rows = stream.decompress(b''.join(_image_data(encoded)), num_bytes + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stubs give it no base
        return None
    if len(rows) != num_bytes or not stream.eof:
        return None
    # Each row begins with the number of its filter.
    table = np.frombuffer(rows, np.uint8).reshape(header.height, header.width + 1)
    return None if table[:, 0].any() else table[:, 1:]


def _plain_header(encoded: bytes) -> _Header | None:
    """Header of a file of this kind; None for another."""
    begins = encoded[:8] == SIGNATURE and encoded[12:16] == b'IHDR'
    if not begins or len(encoded) < HEADER_END:
        return None
    if zlib.crc32(encoded[12:29]) != _number(encoded, 29):
        return None
    header = _Header(*HEADER.unpack(encoded[16:29]))
    plain = (header.num_bits, header.compression, header.filters, header.interlace)
    known = header.colors in {GREY, PALETTE}
    return header if known and plain == (8, 0, 0, 0) else None


def _number(encoded: bytes, place: int) -> int:
    value: int = LENGTH.unpack_from(encoded, place)[0]
    return value


def _image_data(encoded: bytes) -> Iterator[bytes]:
    """Compressed parts of the image."""
    place = len(SIGNATURE)
    while place + CHUNK_FRAME <= len(encoded):
        length = _number(encoded, place)
        if encoded[place + 4 : place + 8] == b'IDAT':
            yield encoded[place + 8 : place + 8 + length]
        place += CHUNK_FRAME + length
