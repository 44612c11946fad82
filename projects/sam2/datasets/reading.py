"""Decodes frames and palette masks; every failure names the file."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.structures import FrameMasks

try:
    from simplejpeg import decode_jpeg  # type: ignore[attr-defined]
except ImportError:  # an optional, faster decoder
    decode_jpeg = None  # type: ignore[assignment]

VOID_LABEL = 255
JPEG_SUFFIXES = ('.jpg', '.jpeg')
END_OF_IMAGE = b'\xff\xd9'
REPLACE_FILE = 'replace the file or put the clip on the exclude list'


def read_frame(path: Path) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        path: A JPEG, or whatever else OpenCV reads.

    Returns:
        (height, width, 3), RGB, as stored: a camera's note to turn it is not obeyed,
        since masks carry none.

    Raises:
        ClipDataError: If the file is missing, truncated or no image.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ClipDataError.at(
            path, f'cannot be read ({error})', REPLACE_FILE
        ) from error
    if path.suffix.lower() in JPEG_SUFFIXES and decode_jpeg is not None:
        return decode_strictly(encoded, path)
    if path.suffix.lower() in JPEG_SUFFIXES and END_OF_IMAGE not in encoded[-1024:]:
        # OpenCV fills the missing part with grey and says nothing.
        raise ClipDataError.at(path, 'is a truncated JPEG', REPLACE_FILE)
    frame = cv2.imdecode(
        np.frombuffer(encoded, np.uint8),
        cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    )
    if frame is None:
        raise ClipDataError.at(path, 'is no image that OpenCV reads', REPLACE_FILE)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(frame[..., ::-1])
    return rgb


def decode_strictly(encoded: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode a JPEG with libjpeg-turbo.

    Args:
        encoded: Content of the file.
        path: Where it came from, for the error.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ClipDataError: If the content is damaged.
    """
    try:
        frame: NDArray[np.uint8] = decode_jpeg(encoded, 'RGB')
    except ValueError as error:
        raise ClipDataError.at(path, f'is damaged ({error})', REPLACE_FILE) from error
    return frame


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image from its header.

    Args:
        path: An image file.

    Returns:
        Height and width.

    Raises:
        ClipDataError: If the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError) as error:
        raise ClipDataError.at(
            path, f'cannot be read ({error})', REPLACE_FILE
        ) from error


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Decode a mask file whose pixel values are object ids.

    Args:
        path: A PNG of mode P or L.

    Returns:
        (height, width), 0 for the background, 255 for void.

    Raises:
        ClipDataError: If the file is missing or damaged, or cannot be of this kind.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            labels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ClipDataError.at(
            path, f'cannot be read ({error})', REPLACE_FILE
        ) from error
    if mode == '1':
        return labels.astype(np.uint8)
    if mode not in {'P', 'L'}:
        problem = (
            f'is a PNG of mode {mode}; a palette mask (mode P or L) holds at most 254 '
            f'objects (255 is void)'
        )
        remedy = 'write the ids as mode P, or split clips with more objects'
        raise ClipDataError.at(path, problem, remedy)
    return labels


def split_labels(labels: NDArray[np.uint8]) -> FrameMasks:
    """Take a map of labels apart.

    Args:
        labels: (height, width), 0 for the background, 255 for void.

    Returns:
        One mask for each object, in the order of their first pixel (as the released
        reader orders them).
    """
    flat = labels.reshape(-1)
    present = np.flatnonzero(np.bincount(flat, minlength=VOID_LABEL + 1)).tolist()
    ids = [label for label in present if label not in {0, VOID_LABEL}]
    ids.sort(key=lambda label: int(np.argmax(flat == label)))
    masks = labels[None] == np.array(ids, np.uint8)[:, None, None]
    void = labels == VOID_LABEL if VOID_LABEL in present else None
    return FrameMasks(object_ids=tuple(ids), masks=masks, void=void)
