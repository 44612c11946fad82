"""Decodes the kind of PNG that masks are mostly written as, faster than Pillow."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ...structures import FrameMasks
from .errors import (
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    check_file,
    read_bytes,
)

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
        limits: Its ``max_pixels`` counts.

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


def open_with_pillow(encoded: bytes) -> AbstractContextManager[Image.Image]:
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
        image: As :func:`open_with_pillow` opened it, not yet decoded.

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


try:
    from simplejpeg import (  # type: ignore[attr-defined]
        decode_jpeg,
        decode_jpeg_header,
    )
except ImportError:  # an optional, faster decoder
    decode_jpeg = None  # type: ignore[assignment]

VOID_LABEL = 255
JPEG_SUFFIXES = ('.jpg', '.jpeg')
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, '.png', '.bmp', '.tif', '.tiff', '.webp')
IntensityRange = tuple[float, float]
END_OF_IMAGE = b'\xff\xd9'
START_OF_SCAN = b'\xff\xda'
# Begins a segment. Neither a byte of 255 in a scan (ff00) nor a restart (ffd0 to ffd7).
JPEG_MARKER = re.compile(rb'\xff[\x02-\xcf\xd8-\xfe]')
LABEL_MODES = ('1', 'P', 'L', 'I;16', 'I;16B', 'I;16L', 'I')
LOSSY_FORMATS = ('JPEG', 'WEBP')
MAX_SCANNED = 16  # labels up to which looking for each is quicker than sorting
MAX_SCANS = 128  # of a JPEG; each takes the time of a whole decoding
MAX_SEGMENTS = 4096  # of a JPEG: tables, scans, and notes of 64 kB each
MAX_SCANNED_PIXELS = 2**31  # of all scans together: some seconds


def read_frame(
    path: Path,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        intensity_range: See :func:`scale_intensities`.

    Returns:
        (height, width, 3), RGB, as stored: a camera's note to turn it is not obeyed,
        since masks carry none.

    Raises:
        ClipDataError: If the file is missing, truncated, too large or no image, or has
            more than 8 bits and no ``intensity_range``.
    """
    encoded = read_bytes(path, limits)
    check_scans(encoded, path, limits)
    is_jpeg = encoded.startswith(JPEG_BEGIN)  # whatever its name says
    if is_jpeg and decode_jpeg is not None:
        return decode_strictly(encoded, path, limits)
    check_header(io.BytesIO(encoded), path, limits)
    if (
        encoded.startswith(JPEG_BEGIN)
        and END_OF_IMAGE not in encoded[-1024:]
        and END_OF_IMAGE not in _markers(encoded)
    ):
        # OpenCV fills the missing part with grey and says nothing.
        raise ClipDataError.at(path, 'is a truncated JPEG', REPLACE_FILE)
    try:
        frame = _decode_image(encoded)
    except (cv2.error, *DAMAGES) as error:
        problem = f'is damaged ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if frame is None:
        raise ClipDataError.at(path, 'is no image that OpenCV reads', REPLACE_FILE)
    if frame.dtype != np.uint8:
        frame = scale_intensities(frame, path, intensity_range)
    if frame.ndim == 2:
        frame = frame[..., None].repeat(3, axis=2)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(frame[..., ::-1])
    return rgb


def check_scans(
    encoded: bytes, path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> None:
    """Refuse a JPEG that would take the time of very many decodings.

    Args:
        limits: Its ``max_pixels`` counts.

    Raises:
        ClipDataError: If it is a JPEG of more than 128 scans, or of fewer scans of so
            many pixels that together they have more than 2^31.
    """
    if not encoded.startswith(JPEG_BEGIN):
        return
    # Quick, and never too few: thumbnails and what phones append count as well.
    if encoded.count(START_OF_SCAN) * limits.max_pixels <= MAX_SCANNED_PIXELS:
        return
    markers = list(_markers(encoded))
    num_scans = markers.count(START_OF_SCAN)
    if num_scans > MAX_SCANS or len(markers) == MAX_SEGMENTS:
        problem = f'is a JPEG of more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments'
        raise ClipDataError.at(path, problem, REPLACE_FILE)
    height, width = check_header(io.BytesIO(encoded), path, limits)
    if num_scans * height * width > MAX_SCANNED_PIXELS:
        problem = f'is a JPEG of {num_scans} scans of {height} x {width} pixels'
        raise ClipDataError.at(path, problem, REPLACE_FILE)


def _markers(encoded: bytes) -> Iterator[bytes]:
    """Markers of a JPEG's segments, as a decoder meets them, up to its end."""
    position = len(JPEG_BEGIN)
    for _ in range(MAX_SEGMENTS):
        marker = JPEG_MARKER.search(encoded, position)
        if marker is None:
            return
        yield marker[0]
        if marker[0] == END_OF_IMAGE:
            return
        length = encoded[marker.end() : marker.end() + 2]
        position = marker.end() + int.from_bytes(length, 'big')


def _decode_image(encoded: bytes) -> NDArray[Any] | None:
    """Decode an image in its own depth: grey, or blue, green and red."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    if encoded.startswith(TIFF_BEGINS):
        with open_with_pillow(encoded) as image:
            if image.mode == 'RGBA' and bits_per_channel(image) == 8:
                # OpenCV would darken the colours of what is transparent.
                colours: NDArray[np.uint8] = np.asarray(image)[..., 2::-1]
                return colours
            if image.mode.startswith(('I', 'F')):
                flags = cv2.IMREAD_UNCHANGED  # OpenCV makes no colours of deep grey
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)


def scale_intensities(
    values: NDArray[Any], where: Path | str, intensity_range: IntensityRange | None
) -> NDArray[np.uint8]:
    """Bring the pixels of a picture of 16 bits, 32 bits or floats to 8 bits.

    Args:
        intensity_range: Values that become 0 and 255; what lies beyond is cut off, and
            what is no number is black. It is the same for all pictures of a dataset,
            since the extremes of each would change its brightness.

    Returns:
        The same in 8 bits.

    Raises:
        ClipDataError: If there is no ``intensity_range``.
    """
    if intensity_range is None:
        finite = values[np.isfinite(values)]
        extremes = f'{finite.min():g} to {finite.max():g}' if finite.size else 'none'
        problem = f'has pixels of {values.dtype} (here {extremes}), not of 8 bits'
        remedy = (
            'set intensity_range=(low, high) in the dataset, the values that become '
            'black and white (the whole range of 16 bits is (0, 65535)), or write it '
            'in 8 bits'
        )
        raise ClipDataError.at(where, problem, remedy)
    low, high = intensity_range
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0)
    rounded: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return rounded


def checked_intensity_range(value: Sequence[float] | None) -> IntensityRange | None:
    """Read the range of a config.

    Args:
        value: Two numbers, or None.

    Raises:
        ValueError: If it is no pair of finite numbers, the lower one first.
    """
    if value is None:
        return None
    if len(value) != 2 or not np.isfinite(value).all() or value[0] >= value[1]:
        msg = f'intensity_range is {value}; give (low, high), as (0, 4095)'
        raise ValueError(msg)
    return float(value[0]), float(value[1])


def decode_strictly(
    encoded: bytes, path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Decode a JPEG with libjpeg-turbo.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ClipDataError: If the content is damaged or too large.
    """
    try:
        height, width, *_ = decode_jpeg_header(encoded)
        limits.check_pixels(path, int(height), int(width))
        frame: NDArray[np.uint8] = decode_jpeg(encoded, 'RGB')
    except ClipDataError:
        raise
    except ValueError as error:
        raise ClipDataError.at(path, f'is damaged ({error})', REPLACE_FILE) from error
    return frame


def image_size(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Read the size of an image from its header.

    Args:
        limits: Its ``max_pixels`` counts.

    Raises:
        ClipDataError: If the file is missing, no image, or claims too many pixels.
    """
    check_file(path)
    try:
        with path.open('rb') as file:
            return check_header(file, path, limits)
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error


def read_label_map(
    path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode an image whose pixel values are labels, of 8 or 16 bits.

    Args:
        path: A PNG, TIFF or BMP of mode 1, P, L or I;16.

    Returns:
        (height, width), uint8 or uint16.

    Raises:
        ClipDataError: If the file is missing, damaged, too large or of another kind.
    """
    return decode_label_map(read_bytes(path, limits), path, limits)


def decode_label_map(
    encoded: bytes, path: Path | str, limits: ReadLimits = DEFAULT_LIMITS
) -> NDArray[Any]:
    """Decode an image whose pixel values are labels, from memory.

    Returns:
        (height, width), uint8 or uint16.

    Raises:
        ClipDataError: See :func:`read_label_map`.
    """
    plain = decode_plain_png(encoded, limits.max_pixels)
    if plain is not None:
        return plain
    check_header(io.BytesIO(encoded), path, limits)
    try:
        with open_with_pillow(encoded) as image:
            kind, mode = str(image.format), image.mode
            readable = mode in LABEL_MODES and kind not in LOSSY_FORMATS
            labels = np.asarray(image) if readable else None
    except DAMAGES as error:
        raise ClipDataError.at(
            path, f'cannot be read ({error})', REPLACE_FILE
        ) from error
    if kind in LOSSY_FORMATS:
        problem = f'is a {kind}, which does not keep the values of pixels'
        raise ClipDataError.at(path, problem, 'write the labels as PNG')
    if labels is not None and mode == '1':
        return labels.astype(np.uint8)
    if labels is not None and labels.dtype.itemsize > 2:
        # TIFF of 32 bits, or of 16 with a sign.
        fits = labels.min() >= 0 and labels.max() <= np.iinfo(np.uint16).max
        labels = labels.astype(np.uint16) if fits else None
    if labels is None:
        problem = f'is a {kind} of mode {mode}, whose values are no labels'
        remedy = 'write the labels as mode P or L (8 bits) or I;16 (16 bits)'
        raise ClipDataError.at(path, problem, remedy)
    return labels.astype(labels.dtype.newbyteorder('='), copy=False)


def read_labels(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a mask file whose pixel values are object ids.

    Returns:
        (height, width), 0 for the background, 255 for void.

    Raises:
        ClipDataError: If the file is missing or damaged, or cannot be of this kind.
    """
    labels = read_label_map(path, limits)
    if labels.dtype != np.uint8:
        problem = (
            'has 16 bits; a palette mask (mode P or L) holds at most 254 '
            'objects (255 is void)'
        )
        remedy = 'write the ids as mode P, or split clips with more objects'
        raise ClipDataError.at(path, problem, remedy)
    return labels.astype(np.uint8, copy=False)


def split_labels(
    labels: NDArray[Any],
    void_labels: Collection[int] = (VOID_LABEL,),
    object_ids: tuple[int, ...] | None = None,
) -> FrameMasks:
    """Take a map of labels apart.

    Args:
        labels: (height, width), uint8 or uint16, 0 for the background.
        void_labels: Labels of pixels to be ignored.
        object_ids: Objects to take, whether they are seen or not; None for those that
            are seen.

    Returns:
        One mask for each object, by default in the order of their first pixel (as the
        released reader orders them).
    """
    ids = object_ids
    if ids is None:
        ids = present_labels(labels, skipped={0, *void_labels})
    masks = np.empty((len(ids), *labels.shape), bool)
    for mask, label in zip(masks, ids, strict=True):
        np.equal(labels, label, out=mask)
    voids = [labels == label for label in void_labels]
    void = np.logical_or.reduce(voids) if voids else None
    if void is not None and not void.any():
        void = None
    return FrameMasks(object_ids=ids, masks=masks, void=void)


def present_labels(labels: NDArray[Any], skipped: Collection[int]) -> tuple[int, ...]:
    """Labels of a map.

    Args:
        labels: (height, width), uint8 or uint16.

    Returns:
        The others, in the order of their first pixel.
    """
    flat = labels.reshape(-1)
    present = np.setdiff1d(np.flatnonzero(np.bincount(flat)), list(skipped))
    if len(present) <= MAX_SCANNED:
        return tuple(sorted(present.tolist(), key=lambda v: int(np.argmax(flat == v))))
    ids, first = np.unique(flat, return_index=True)
    ordered = ids[np.argsort(first)].tolist()
    return tuple(label for label in ordered if label not in skipped)


def write_jpeg(path: Path, frame: NDArray[np.uint8], quality: int) -> None:
    """Write an RGB frame (H, W, 3) as a JPEG file; quality is 1 to 100.

    Raises:
        OSError: If the frame cannot be encoded or written.
    """
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    is_encoded, encoded = cv2.imencode('.jpg', frame[..., ::-1], parameters)
    if not is_encoded:
        msg = f'{path}: the frame cannot be encoded as JPEG'
        raise OSError(msg)
    path.write_bytes(encoded.tobytes())
