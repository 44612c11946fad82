"""The faster decoder of mask files."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.sam2.datasets.io import images as plain_png
from projects.sam2.datasets.io.images import decode_plain_png, read_label_map

LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


def palette_png() -> bytes:
    image = Image.fromarray(LABELS)
    image.putpalette([0] * 768)
    return png(image)


@pytest.fixture(autouse=True)
def _needs_isal() -> None:
    pytest.importorskip('isal', reason='isal is not installed')


def test_palette_image_is_decoded_as_stored() -> None:
    found = decode_plain_png(palette_png(), max_pixels=24)
    np.testing.assert_array_equal(found, LABELS)


def test_other_kinds_and_large_images_are_left_to_others() -> None:
    smooth = Image.fromarray(np.add.outer(np.arange(64), np.arange(64)).astype('u1'))
    others = [
        png(Image.fromarray(LABELS.astype(np.uint16))),
        png(Image.new('RGB', (5, 5))),
        png(Image.new('1', (5, 5))),
        png(smooth),  # Pillow filters grey images
        b'no image',
        b'',
    ]
    assert [decode_plain_png(content, 10**6) for content in others] == [None] * 6
    assert decode_plain_png(palette_png(), max_pixels=23) is None


def test_damaged_files_are_left_to_others() -> None:
    whole = palette_png()
    assert all(decode_plain_png(whole[:n], 10**6) is None for n in range(60))
    begin = whole.index(b'IDAT')
    for place in (17, 25, begin + 8, begin + 20):
        spoiled = bytearray(whole)
        spoiled[place] ^= 0x15
        assert decode_plain_png(bytes(spoiled), 10**6) is None


def test_more_data_than_the_size_says_is_not_decoded() -> None:
    whole = bytearray(palette_png())
    whole[16:24] = (1).to_bytes(4, 'big') * 2
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, 'big')
    assert decode_plain_png(bytes(whole), 10**6) is None


def test_reader_gives_the_same_with_and_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'mask.png'
    path.write_bytes(palette_png())
    quick = read_label_map(path)
    monkeypatch.setattr(plain_png, 'isal_zlib', None)
    assert decode_plain_png(palette_png(), 10**6) is None
    np.testing.assert_array_equal(read_label_map(path), quick)
