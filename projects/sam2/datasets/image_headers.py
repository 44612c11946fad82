"""Reads the size of an image from its header, however large it claims to be.

Pillow opens no image of more pixels than a limit of its own, which is one for the whole
process. A dataset has its own limits, so its images are opened by Pillow's readers of
one format each, which check nothing.
"""

import io
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.limits import DEFAULT_LIMITS, REPLACE_FILE, ReadLimits

JPEG_BEGIN = b'\xff\xd8'
TIFF_BEGINS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Pillow would also try other formats, some of which start programs.
READERS: dict[bytes, Callable[[BinaryIO], Image.Image]] = {
    JPEG_BEGIN: JpegImageFile,
    b'\x89PNG\r\n\x1a\n': PngImageFile,
    b'BM': BmpImageFile,
    **dict.fromkeys(TIFF_BEGINS, TiffImageFile),
}
ORIENTATION_TAG = 0x0112  # of Exif
WEBP_BYTES = 30  # up to the end of its longest header
WEBP_ANIMATION = 2  # bit of byte 20 of a WebP with more in it
SUBFILE_TAG = 254  # of a TIFF's page; bits 1 and 4: a thumbnail, a transparency mask
BITS_TAG = 258
MAX_COUNTED = 1000  # pages of a TIFF; they form a chain that may be endless
# What Pillow raises on damaged files, beside OSError.
DAMAGES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    OverflowError,
    struct.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


def begins_as_image(begin: bytes) -> bool:
    """Whether the first bytes of a file are those of a JPEG, PNG, BMP, TIFF or WebP."""
    is_webp = (begin[:4], begin[8:12]) == (b'RIFF', b'WEBP')
    return is_webp or begin.startswith(tuple(READERS))


def check_header(
    file: BinaryIO, path: Path | str, limits: ReadLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """Read the size of an image, compare it with a limit, and refuse several pages.

    Args:
        file: Content of a JPEG, PNG, BMP, TIFF or WebP, at its beginning.
        path: Where it came from, for the error.
        limits: Its ``max_pixels`` counts.

    Returns:
        Height and width.

    Raises:
        ClipDataError: If the content is no image, claims too many pixels, or has more
            than one page or frame: only the first would be read.
    """
    begin = file.read(WEBP_BYTES)
    file.seek(0)
    try:
        size, num_pages = _webp_size(begin), 1 + _is_animated_webp(begin)
        if size is None:
            with _reader_of(begin)(file) as image:
                size, num_pages = (image.height, image.width), _count_pages(image)
    except DAMAGES as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    limits.check_pixels(path, *size)
    if num_pages > 1:
        count = f'more than {MAX_COUNTED}' if num_pages > MAX_COUNTED else num_pages
        problem = f'holds {"several" if count == 2 else count} pages or frames'
        remedy = 'write each as a file of its own, in a folder as a video or as images'
        raise ClipDataError.at(path, problem, remedy)
    return size


def read_orientation(file: BinaryIO, path: Path) -> int:
    """Read how a camera was held.

    Args:
        file: Content of an image file, at its beginning.
        path: Where it came from, for the error.

    Returns:
        Exif's orientation, 1 to 8; 1 (upright) also where a JPEG has none, or one that
        Exif does not know, and for images of other kinds.

    Raises:
        ClipDataError: If the content is a damaged JPEG.
    """
    is_jpeg = file.read(len(JPEG_BEGIN)) == JPEG_BEGIN
    file.seek(0)
    if not is_jpeg:
        return 1
    try:
        with JpegImageFile(file) as image:
            noted = image.getexif().get(ORIENTATION_TAG)
    except DAMAGES as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    return noted if isinstance(noted, int) and 1 <= noted <= 8 else 1


def open_image(encoded: bytes) -> AbstractContextManager[Image.Image]:
    """Open an image of any size with Pillow's reader of its format, and no other.

    Args:
        encoded: Content of a JPEG, PNG, BMP, TIFF or WebP; its size should have been
            checked by :func:`check_header`.

    Returns:
        The image, of which only the header is read (of a WebP more). What is raised
        where there is none is one of :data:`DAMAGES`.
    """
    begin = encoded[:WEBP_BYTES]
    reader = WebPImageFile if _webp_size(begin) else _reader_of(begin)
    return reader(io.BytesIO(encoded))


def bits_per_channel(image: Image.Image) -> int:
    """Bits of a pixel's channel, of which Pillow keeps eight where there are several.

    Args:
        image: As :func:`open_image` opened it, not yet decoded.

    Returns:
        Up to 64; 8 also for images of fewer.
    """
    if isinstance(image, TiffImageFile):
        return max(8, *(int(bits) for bits in image.tag_v2.get(BITS_TAG, (8,))))
    if isinstance(image, PngImageFile):
        raw_modes = [str(tile[3]) for tile in image.tile]
        return 16 if any(mode.endswith(('16B', '16')) for mode in raw_modes) else 8
    return 8


def _reader_of(begin: bytes) -> Callable[[BinaryIO], Image.Image]:
    """Pillow's reader of a file that is no WebP."""
    reader = next(
        (READERS[magic] for magic in READERS if begin.startswith(magic)), None
    )
    if reader is None:
        raise UnidentifiedImageError(
            'it begins as no JPEG, PNG, BMP, TIFF or WebP does'
        )
    return reader


def _count_pages(image: Image.Image) -> int:
    """Pages of a TIFF without thumbnails and masks, or frames of a PNG."""
    if not isinstance(image, TiffImageFile):
        return int(getattr(image, 'n_frames', 1))
    count = 1
    for page in range(1, MAX_COUNTED + 1):
        try:
            image.seek(page)
        except EOFError:
            break
        count += not image.tag_v2.get(SUBFILE_TAG, 0) & (1 | 4)
    return count


def _is_animated_webp(begin: bytes) -> bool:
    is_extended = begin[8:16] == b'WEBPVP8X' and len(begin) > 20
    return is_extended and bool(begin[20] & WEBP_ANIMATION)


def _webp_size(begin: bytes) -> tuple[int, int] | None:
    """Size of a WebP, by its format's description; None for another file.

    Pillow would claim the memory of the whole picture for it.
    """
    if begin[:4] != b'RIFF' or begin[8:12] != b'WEBP':
        return None
    begin = begin.ljust(WEBP_BYTES, b'\0')
    match begin[12:16]:
        case b'VP8 ':  # lossy
            width, height = struct.unpack_from('<HH', begin, 26)
            return height & 0x3FFF, width & 0x3FFF
        case b'VP8L':  # without loss: 14 bits each, less one
            (bits,) = struct.unpack_from('<I', begin, 21)
            return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        case b'VP8X':  # with more in it: 24 bits each, less one
            width = int.from_bytes(begin[24:27], 'little')
            height = int.from_bytes(begin[27:30], 'little')
            return height + 1, width + 1
    return None
