"""Reads and writes image files: frames in RGB, and label maps of masks."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ...structures import VOID_LABEL, FrameMasks
from .errors import (
    DEFAULT_LIMITS,
    REPLACE_FILE,
    ClipDataError,
    ReadLimits,
    check_file,
    read_bytes,
)

# Optional, faster decoders
try:
    from simplejpeg import (  # type: ignore[attr-defined]
        decode_jpeg,
        decode_jpeg_header,
    )
except ImportError:
    decode_jpeg = None  # type: ignore[assignment]
try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

IntensityRange = tuple[float, float]

# Formats, known by the first bytes of a file
JPEG_BEGIN = b'\xff\xd8'
PNG_BEGIN = b'\x89PNG\r\n\x1a\n'
TIFF_BEGINS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Pillow would also try other formats, some of which start programs.
READERS: dict[bytes, Callable[[BinaryIO], Image.Image]] = {
    JPEG_BEGIN: JpegImageFile,
    PNG_BEGIN: PngImageFile,
    b'BM': BmpImageFile,
    **dict.fromkeys(TIFF_BEGINS, TiffImageFile),
}
WEBP_BYTES = 30  # up to the end of its longest header
WEBP_ANIMATION = 2  # bit of byte 20 of an extended WebP
LOSSY_FORMATS = ('JPEG', 'WEBP')
LABEL_MODES = ('1', 'P', 'L', 'I;16', 'I;16B', 'I;16L', 'I')
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


# Frames ------------------------------------------------------------------------------


def read_frame(
    path: Path,
    limits: ReadLimits = DEFAULT_LIMITS,
    intensity_range: IntensityRange | None = None,
) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        intensity_range: See :func:`scale_intensities`.

    Returns:
        (height, width, 3), RGB, as stored: the Exif orientation is ignored, since masks
        have none.

    Raises:
        ClipDataError: If the file is missing, truncated, too large or not an image, or
            has more than 8 bits and no ``intensity_range``.
    """
    encoded = read_bytes(path, limits)
    check_scans(encoded, path, limits)
    # A JPEG by its content, whatever its name says.
    if encoded.startswith(JPEG_BEGIN) and decode_jpeg is not None:
        return _decode_jpeg(encoded, path, limits)
    frame = _decode_checked(encoded, path, limits)
    if frame.dtype != np.uint8:
        frame = scale_intensities(frame, path, intensity_range)
    if frame.ndim == 2:
        frame = frame[..., None].repeat(3, axis=2)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(frame[..., ::-1])
    return rgb


def deep_range(
    path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> IntensityRange | None:
    """Measure the intensities of an image of more than 8 bits.

    Returns:
        Values below and above which a thousandth of the pixels lie; None for an image
        of 8 bits, or without two different values.

    Raises:
        ClipDataError: See :func:`read_frame`.
    """
    encoded = read_bytes(path, limits)
    if encoded.startswith(JPEG_BEGIN):
        return None
    check_scans(encoded, path, limits)
    values = _decode_checked(encoded, path, limits)
    finite = values[np.isfinite(values)]
    if values.dtype == np.uint8 or not finite.size:
        return None
    low, high = np.percentile(finite, (0.1, 99.9)).tolist()
    return (low, high) if low < high else None


def _decode_checked(encoded: bytes, path: Path, limits: ReadLimits) -> NDArray[Any]:
    """Decode an image at its own bit depth, grey or BGR; any damage is an error."""
    check_header(io.BytesIO(encoded), path, limits)
    if (
        encoded.startswith(JPEG_BEGIN)
        and END_OF_IMAGE not in encoded[-1024:]
        and END_OF_IMAGE not in _jpeg_markers(encoded)
    ):
        # OpenCV fills the missing part with grey without a warning.
        raise ClipDataError.at(path, 'is a truncated JPEG', REPLACE_FILE)
    try:
        frame = _decode_with_opencv(encoded)
    except (cv2.error, *DAMAGES) as error:
        problem = f'is damaged ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if frame is None:
        raise ClipDataError.at(path, 'is not an image that OpenCV reads', REPLACE_FILE)
    return frame


def _decode_jpeg(encoded: bytes, path: Path, limits: ReadLimits) -> NDArray[np.uint8]:
    """Decode a JPEG with libjpeg-turbo; any damage is an error."""
    try:
        height, width, *_ = decode_jpeg_header(encoded)
        limits.check_pixels(path, int(height), int(width))
        frame: NDArray[np.uint8] = decode_jpeg(encoded, 'RGB')
    except ClipDataError:
        raise
    except ValueError as error:
        raise ClipDataError.at(path, f'is damaged ({error})', REPLACE_FILE) from error
    return frame


def _decode_with_opencv(encoded: bytes) -> NDArray[Any] | None:
    """Decode an image at its own bit depth: grey or BGR."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    if encoded.startswith(TIFF_BEGINS):
        with open_with_pillow(encoded) as image:
            if image.mode == 'RGBA' and bits_per_channel(image) == 8:
                # OpenCV would darken the colours of transparent pixels.
                bgr: NDArray[np.uint8] = np.asarray(image)[..., 2::-1]
                return bgr
            if image.mode.startswith(('I', 'F')):
                flags = cv2.IMREAD_UNCHANGED  # OpenCV makes no colours of deep grey
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)


def scale_intensities(
    values: NDArray[Any], where: Path | str, intensity_range: IntensityRange | None
) -> NDArray[np.uint8]:
    """Scale the pixels of an image of 16 bits, 32 bits or floats to 8 bits.

    Args:
        intensity_range: Values that become 0 and 255; others are clipped, NaN is black.
            It is the same for all images of a dataset, since the extremes of each would
            change its brightness.

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
    """Check the range of a config: two finite numbers, the lower first, or None.

    Raises:
        ValueError: If it is neither.
    """
    if value is None:
        return None
    if len(value) != 2 or not np.isfinite(value).all() or value[0] >= value[1]:
        msg = f'intensity_range is {value}; give (low, high), as (0, 4095)'
        raise ValueError(msg)
    return float(value[0]), float(value[1])


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


# Label maps --------------------------------------------------------------------------

MAX_SCANNED = 16  # labels up to which looking for each is quicker than sorting


def read_labels(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a mask file whose pixel values are object ids.

    Returns:
        (height, width), 0 for the background, 255 for void.

    Raises:
        ClipDataError: See :func:`read_label_map`; or if it has 16 bits.
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


def read_label_map(
    path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a PNG, TIFF or BMP whose pixel values are labels of 8 or 16 bits.

    Returns:
        (height, width), uint8 or uint16.

    Raises:
        ClipDataError: If the file is missing, damaged, too large, lossy or coloured.
    """
    return decode_label_map(read_bytes(path, limits), path, limits)


def decode_label_map(
    encoded: bytes, path: Path | str, limits: ReadLimits = DEFAULT_LIMITS
) -> NDArray[Any]:
    """Decode the content of a file, see :func:`read_label_map`."""
    labels: NDArray[Any] | None = decode_plain_png(encoded, limits.max_pixels)
    if labels is not None:
        return labels
    check_header(io.BytesIO(encoded), path, limits)
    try:
        with open_with_pillow(encoded) as image:
            kind, mode = str(image.format), image.mode
            is_readable = mode in LABEL_MODES and kind not in LOSSY_FORMATS
            labels = np.asarray(image) if is_readable else None
    except DAMAGES as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if kind in LOSSY_FORMATS:
        problem = f'is a {kind}, which does not keep the values of pixels'
        raise ClipDataError.at(path, problem, 'write the labels as PNG')
    if labels is not None and mode == '1':
        return labels.astype(np.uint8)
    if labels is not None and labels.dtype.itemsize > 2:  # a TIFF
        fits = labels.min() >= 0 and labels.max() <= np.iinfo(np.uint16).max
        labels = labels.astype(np.uint16) if fits else None
    if labels is None:
        problem = f'is a {kind} of mode {mode}, whose values are not labels'
        remedy = 'write the labels as mode P or L (8 bits) or I;16 (16 bits)'
        raise ClipDataError.at(path, problem, remedy)
    return labels.astype(labels.dtype.newbyteorder('='), copy=False)


def decode_plain_png(encoded: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode the kind of PNG that most masks are, faster than Pillow.

    Returns:
        (height, width), values as stored; None for a file that is not 8 bits, grey or
        with a palette, neither filtered nor interlaced, or that is damaged.
    """
    if isal_zlib is None or encoded[:8] != PNG_BEGIN or encoded[12:16] != b'IHDR':
        return None
    if len(encoded) < 33 or zlib.crc32(encoded[12:29]) != _big_endian(encoded, 29):
        return None
    width, height = _big_endian(encoded, 16), _big_endian(encoded, 20)
    num_bits, colors, *others = encoded[24:29]  # compression, filters, interlace
    if num_bits != 8 or colors not in {0, 3} or any(others):  # 0 is grey, 3 a palette
        return None
    if not 0 < width * height <= max_pixels:
        return None
    num_bytes = height * (width + 1)
    stream = isal_zlib.decompressobj()
    try:
        rows = stream.decompress(b''.join(_png_data(encoded)), num_bytes + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stubs give it no base
        return None
    if len(rows) != num_bytes or not stream.eof:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    # Each row begins with the number of its filter; 0 is none.
    return None if table[:, 0].any() else table[:, 1:]


def _png_data(encoded: bytes) -> Iterator[bytes]:
    """Compressed parts of the image."""
    offset = len(PNG_BEGIN)
    while offset + 12 <= len(encoded):  # a chunk has 4 bytes each of length and name
        length = _big_endian(encoded, offset)
        if encoded[offset + 4 : offset + 8] == b'IDAT':
            yield encoded[offset + 8 : offset + 8 + length]
        offset += 12 + length  # and 4 of checksum


def _big_endian(encoded: bytes, offset: int) -> int:
    return int.from_bytes(encoded[offset : offset + 4], 'big')


def split_labels(
    labels: NDArray[Any],
    void_labels: Collection[int] = (VOID_LABEL,),
    object_ids: tuple[int, ...] | None = None,
) -> FrameMasks:
    """Split a label map into one mask per object.

    Args:
        labels: (height, width), uint8 or uint16, 0 for the background.
        void_labels: Labels of pixels to ignore.
        object_ids: Objects, visible or not; None for those that are visible, in the
            order of their first pixel (as the released reader orders them).
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
    """Labels of a map but those skipped, in the order of their first pixel."""
    flat = labels.reshape(-1)
    present = np.setdiff1d(np.flatnonzero(np.bincount(flat)), list(skipped))
    if len(present) <= MAX_SCANNED:
        return tuple(sorted(present.tolist(), key=lambda v: int(np.argmax(flat == v))))
    ids, first = np.unique(flat, return_index=True)
    ordered = ids[np.argsort(first)].tolist()
    return tuple(label for label in ordered if label not in skipped)


# Headers -----------------------------------------------------------------------------

ORIENTATION_TAG = 0x0112  # of Exif
SUBFILE_TAG = 254  # of a TIFF's page; bits 1 and 4: a thumbnail, a transparency mask
BITS_TAG = 258
MAX_COUNTED = 1000  # pages of a TIFF; they form a chain that may be endless


def image_size(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Read the height and width of an image file, see :func:`check_header`."""
    check_file(path)
    try:
        with path.open('rb') as file:
            return check_header(file, path, limits)
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error


def check_header(
    file: BinaryIO, path: Path | str, limits: ReadLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """Read the height and width of an image, and refuse what should not be decoded.

    Args:
        limits: Its ``max_pixels`` counts.

    Raises:
        ClipDataError: If the content is not an image, claims too many pixels, or has
            more than one page or frame: only the first would be read.
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


def begins_as_image(begin: bytes) -> bool:
    """Whether the first bytes of a file are those of a JPEG, PNG, BMP, TIFF or WebP."""
    is_webp = (begin[:4], begin[8:12]) == (b'RIFF', b'WEBP')
    return is_webp or begin.startswith(tuple(READERS))


def open_with_pillow(encoded: bytes) -> AbstractContextManager[Image.Image]:
    """Open an image of any size with Pillow's reader of its format, and no other.

    Args:
        encoded: A JPEG, PNG, BMP, TIFF or WebP that passed :func:`check_header`.

    Returns:
        The image, not yet decoded. A damaged one raises one of :data:`DAMAGES`.
    """
    begin = encoded[:WEBP_BYTES]
    reader = WebPImageFile if _webp_size(begin) else _reader_of(begin)
    return reader(io.BytesIO(encoded))


def bits_per_channel(image: Image.Image) -> int:
    """Bits per channel in the file, at least 8; of colours, Pillow keeps only 8.

    Args:
        image: From :func:`open_with_pillow`, not yet decoded.
    """
    if isinstance(image, TiffImageFile):
        return max(8, *(int(bits) for bits in image.tag_v2.get(BITS_TAG, (8,))))
    if isinstance(image, PngImageFile):
        raw_modes = [str(tile[3]) for tile in image.tile]
        return 16 if any(mode.endswith(('16B', '16')) for mode in raw_modes) else 8
    return 8


def read_orientation(file: BinaryIO, path: Path) -> int:
    """Read the Exif orientation of an image.

    Returns:
        1 to 8; 1 (upright) if it has none.

    Raises:
        ClipDataError: If the content is a damaged JPEG.
    """
    is_jpeg = file.read(len(JPEG_BEGIN)) == JPEG_BEGIN
    file.seek(0)
    if not is_jpeg:
        return 1
    try:
        with JpegImageFile(file) as image:
            orientation = image.getexif().get(ORIENTATION_TAG)
    except DAMAGES as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if isinstance(orientation, int) and 1 <= orientation <= 8:
        return orientation
    return 1


def _reader_of(begin: bytes) -> Callable[[BinaryIO], Image.Image]:
    """Pillow's reader of a format other than WebP."""
    for magic, reader in READERS.items():
        if begin.startswith(magic):
            return reader
    raise UnidentifiedImageError('it does not begin as a JPEG, PNG, BMP, TIFF or WebP')


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
    """Size of a WebP; None for another file. Pillow would allocate the whole image."""
    if begin[:4] != b'RIFF' or begin[8:12] != b'WEBP':
        return None
    begin = begin.ljust(WEBP_BYTES, b'\0')
    match begin[12:16]:
        case b'VP8 ':  # lossy
            width, height = struct.unpack_from('<HH', begin, 26)
            return height & 0x3FFF, width & 0x3FFF
        case b'VP8L':  # lossless: 14 bits each, minus 1
            (bits,) = struct.unpack_from('<I', begin, 21)
            return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        case b'VP8X':  # extended: 24 bits each, minus 1
            width = int.from_bytes(begin[24:27], 'little')
            height = int.from_bytes(begin[27:30], 'little')
            return height + 1, width + 1
    return None


# JPEGs that take very long to decode -------------------------------------------------

END_OF_IMAGE = b'\xff\xd9'
START_OF_SCAN = b'\xff\xda'
# Begins a segment: neither a byte of 255 in a scan (ff00) nor a restart (ffd0 to ffd7).
JPEG_MARKER = re.compile(rb'\xff[\x02-\xcf\xd8-\xfe]')
MAX_SCANS = 128  # each takes the time of a whole decoding
MAX_SEGMENTS = 4096  # tables, scans, and comments of 64 kB each
MAX_SCANNED_PIXELS = 2**31  # of all scans together: some seconds


def check_scans(
    encoded: bytes, path: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> None:
    """Refuse a JPEG of so many scans that it would take the time of many decodings.

    Args:
        limits: Its ``max_pixels`` counts.

    Raises:
        ClipDataError: If it is a JPEG of more than 128 scans, or of scans that have
            more than 2^31 pixels together.
    """
    if not encoded.startswith(JPEG_BEGIN):
        return
    # A quick upper bound: scans of thumbnails and of appended data count as well.
    if encoded.count(START_OF_SCAN) * limits.max_pixels <= MAX_SCANNED_PIXELS:
        return
    markers = list(_jpeg_markers(encoded))
    num_scans = markers.count(START_OF_SCAN)
    if num_scans > MAX_SCANS or len(markers) == MAX_SEGMENTS:
        problem = f'is a JPEG of more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments'
        raise ClipDataError.at(path, problem, REPLACE_FILE)
    height, width = check_header(io.BytesIO(encoded), path, limits)
    if num_scans * height * width > MAX_SCANNED_PIXELS:
        problem = f'is a JPEG of {num_scans} scans of {height} x {width} pixels'
        raise ClipDataError.at(path, problem, REPLACE_FILE)


def _jpeg_markers(encoded: bytes) -> Iterator[bytes]:
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
