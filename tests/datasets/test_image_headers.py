"""Sizes from headers, of images that nobody could decode."""

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.io.images import (
    check_header,
    open_with_pillow,
    read_orientation,
)

SIZE = (20_000, 10_000)  # width and height; Pillow refuses half as many pixels
RAISED = ReadLimits(max_pixels=2 * 10**8)
PATH = Path('picture')


def encoded(form: str, size: tuple[int, int] = (30, 20), **settings: Any) -> bytes:
    """A picture as Pillow writes it."""
    target = io.BytesIO()
    mode = settings.pop('mode', 'RGB')
    Image.new(mode, size, 9).save(target, format=form, **settings)
    return target.getvalue()


def huge_png() -> bytes:
    """A PNG that claims 200 million pixels."""
    content = bytearray(encoded('PNG'))
    struct.pack_into('>II', content, 16, *SIZE)
    struct.pack_into('>I', content, 29, zlib.crc32(content[12:29]))
    return bytes(content)


def huge_jpeg() -> bytes:
    """A JPEG that claims as many."""
    content = bytearray(encoded('JPEG'))
    struct.pack_into('>HH', content, content.index(b'\xff\xc0') + 5, *SIZE[::-1])
    return bytes(content)


def huge_webp() -> bytes:
    """A WebP that claims as many."""
    content = bytearray(encoded('WEBP', mode='RGBA', exif=b'Exif\0\0'))
    assert content[12:16] == b'VP8X'
    for place, side in ((24, SIZE[0]), (27, SIZE[1])):
        content[place : place + 3] = (side - 1).to_bytes(3, 'little')
    return bytes(content)


@pytest.mark.parametrize('make', [huge_png, huge_jpeg, huge_webp])
def test_only_the_limits_of_the_dataset_count(make: Any) -> None:
    content = make()
    with pytest.raises((Image.DecompressionBombError, OSError)):
        Image.open(io.BytesIO(content))
    assert check_header(io.BytesIO(content), PATH, RAISED) == SIZE[::-1]
    with pytest.raises(
        ClipDataError, match=r'picture: claims 10000 x 20000.*raise max'
    ):
        check_header(io.BytesIO(content), PATH)


@pytest.mark.filterwarnings('error')
def test_label_image_beyond_the_limit_of_pillow_is_opened_in_silence() -> None:
    with open_with_pillow(huge_png()) as image:
        assert image.size == SIZE


@pytest.mark.parametrize(
    ('form', 'settings'),
    [
        ('JPEG', {}),
        ('PNG', {}),
        ('BMP', {}),
        ('TIFF', {}),
        ('TIFF', {'big_tiff': True}),
        ('WEBP', {}),
        ('WEBP', {'lossless': True}),
        ('WEBP', {'mode': 'RGBA', 'exif': b'Exif\0\0'}),
    ],
)
def test_size_equals_that_of_pillow_in_every_format(
    form: str, settings: dict[str, Any]
) -> None:
    content = encoded(form, **settings)
    with Image.open(io.BytesIO(content)) as image:
        expected = image.height, image.width
    assert check_header(io.BytesIO(content), PATH) == expected == (20, 30)


@pytest.mark.parametrize('content', [b'', b'GIF89a' + bytes(40), b'RIFF1234WEBPVP9 '])
def test_other_files_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(ClipDataError, match='picture: cannot be read'):
        check_header(io.BytesIO(content), PATH)


def test_orientation_of_an_image_without_a_note_is_upright() -> None:
    for form in ('JPEG', 'PNG', 'BMP'):
        assert read_orientation(io.BytesIO(encoded(form)), PATH) == 1


@pytest.mark.filterwarnings('ignore:(Corrupt EXIF|Tag) data:UserWarning')
def test_damaged_note_is_an_error_or_an_orientation() -> None:
    noted = Image.Exif()
    noted[0x0112] = 6
    content = bytearray(encoded('JPEG', exif=noted))
    assert read_orientation(io.BytesIO(content), PATH) == 6
    found = []
    for place in range(2, content.index(b'\xff\xdb') + 2):  # up to the tables
        damaged = content[:place] + b'\xff' + content[place + 1 :]
        with contextlib.suppress(ClipDataError):
            found.append(read_orientation(io.BytesIO(damaged), PATH))
    assert set(found) == {1, 6}
