"""Frames, label maps and headers of image files."""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets.io import images
from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.io.images import (
    END_OF_IMAGE,
    MAX_SCANS,
    MAX_SEGMENTS,
    START_OF_SCAN,
    bits_per_channel,
    check_header,
    checked_intensity_range,
    decode_plain_png,
    image_size,
    open_with_pillow,
    read_frame,
    read_label_map,
    read_labels,
    read_orientation,
    split_labels,
)


@pytest.fixture(params=['simplejpeg', 'opencv'])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without the faster decoder."""
    if request.param == 'opencv':
        monkeypatch.setattr(images, 'decode_jpeg', None)
    else:
        pytest.importorskip('simplejpeg')
    return str(request.param)


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """A smooth picture, red on the left and blue on the right."""
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = (250, 10, 10)
    picture[:, 15:] = (10, 10, 250)
    path = tmp_path / 'picture.jpg'
    Image.fromarray(picture).save(path, quality=95)
    return path


@pytest.mark.usefixtures('decoder')
def test_frames_are_rgb_and_equal_what_pillow_decodes(jpeg: Path) -> None:
    frame = read_frame(jpeg)
    expected = np.asarray(Image.open(jpeg), int)
    assert frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - expected).max() <= 3
    assert frame[0, 0, 0] > 200 > frame[0, 0, 2]


@pytest.mark.usefixtures('decoder')
def test_orientation_of_a_frame_is_ignored(jpeg: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    with Image.open(jpeg) as picture:
        picture.save(jpeg, exif=exif)
    assert read_frame(jpeg).shape[:2] == image_size(jpeg) == (20, 30)


@pytest.mark.usefixtures('decoder')
@pytest.mark.parametrize('share', [0.0, 0.5, 0.9])
def test_truncated_jpeg_raises_with_its_name(jpeg: Path, share: float) -> None:
    content = jpeg.read_bytes()
    jpeg.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ClipDataError, match=r'picture\.jpg.*exclude list'):
        read_frame(jpeg)


def test_other_formats_are_read_and_damaged_ones_named(tmp_path: Path) -> None:
    path = tmp_path / 'picture.png'
    cv2.imwrite(str(path), np.full((4, 5, 3), (1, 2, 3), np.uint8))
    np.testing.assert_array_equal(read_frame(path)[0, 0], (3, 2, 1))
    path.write_bytes(b'no image')
    with pytest.raises(ClipDataError, match=r'picture\.png'):
        read_frame(path)


@pytest.mark.parametrize('read', [read_frame, read_labels, image_size])
def test_missing_file_raises_with_its_name(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(ClipDataError, match=r'gone\.png'):
        read(tmp_path / 'gone.png')


def test_size_is_height_and_width_within_the_limits(jpeg: Path) -> None:
    assert image_size(jpeg) == (20, 30)
    with pytest.raises(ClipDataError, match=r'picture\.jpg: claims 20 x 30.*raise max'):
        image_size(jpeg, ReadLimits(max_pixels=599))


@pytest.mark.usefixtures('decoder')
def test_scans_of_thumbnails_and_of_appended_videos_do_not_count(jpeg: Path) -> None:
    content, frame = jpeg.read_bytes(), read_frame(jpeg)
    thumbnails = b'\xff\xe1\x03\xea' + 500 * START_OF_SCAN
    film = END_OF_IMAGE + 1000 * START_OF_SCAN
    jpeg.write_bytes(content[:2] + thumbnails + content[2:] + film)
    np.testing.assert_array_equal(read_frame(jpeg), frame)


@pytest.mark.usefixtures('decoder')
def test_jpeg_is_known_by_its_first_bytes(jpeg: Path) -> None:
    frame = read_frame(jpeg)
    renamed = jpeg.rename(jpeg.with_suffix('.png'))
    np.testing.assert_array_equal(read_frame(renamed), frame)
    content = renamed.read_bytes()
    (scan,) = re.findall(rb'\xff\xda.*(?=\xff\xd9)', content, re.DOTALL)
    notes = b'\xff\xfe\x00\x02' * MAX_SEGMENTS  # empty comments
    for more in (MAX_SCANS * scan, notes + 17 * scan):
        renamed.write_bytes(content[:-2] + more + content[-2:])
        with pytest.raises(
            ClipDataError, match=r'picture\.png: is a JPEG of more than 128'
        ):
            read_frame(renamed)
    renamed.write_bytes(content[: len(content) // 2])
    with pytest.raises(ClipDataError, match=r'picture\.png'):
        read_frame(renamed)
    cv2.imwrite(str(jpeg.with_suffix('.png')), np.zeros((4, 5, 3), np.uint8))
    named_jpeg = renamed.rename(jpeg)
    assert read_frame(named_jpeg).shape == (4, 5, 3)


GREY = np.linspace(0, 255, 600).round().reshape(20, 30).astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


@pytest.mark.parametrize('ending', ['png', 'tif', 'bmp', 'webp'])
@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK'])
def test_pictures_of_eight_bits_equal_what_pillow_decodes(
    tmp_path: Path, ending: str, mode: str
) -> None:
    path = tmp_path / f'picture.{ending}'
    picture = Image.fromarray(COLOURS).convert(mode)
    if mode.endswith('A'):  # what is transparent keeps its colour
        picture.putalpha(Image.fromarray(GREY))
    options: dict[str, Any] = {}
    if ending == 'webp':
        options = {'lossless': True, 'exact': True}
    try:
        picture.save(path, **options)
    except OSError:
        pytest.skip(f'Pillow writes no {ending} of mode {mode}')
    with open_with_pillow(path.read_bytes()) as image:
        assert bits_per_channel(image) == 8
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert('RGBA').convert('RGB'))
    np.testing.assert_array_equal(read_frame(path), expected)
    assert read_frame(path).max() > 150


def write_deep(path: Path, values: np.ndarray) -> Path:
    """Write pixels of more than 8 bits."""
    if values.ndim == 3:
        cv2.imwrite(str(path), values[..., ::-1])
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('a.png', 16 * GREY.astype(np.uint16)),
        ('a.png', 16 * COLOURS.astype(np.uint16)),
        ('a.tif', 16 * GREY.astype(np.uint16)),
        ('a.tif', 16 * GREY.astype('>u2')),
        ('a.tif', 16 * COLOURS.astype(np.uint16)),
        ('a.tif', 16 * GREY.astype(np.int32)),
        ('a.tif', 16 * GREY.astype(np.float32)),
    ],
)
def test_deep_pictures_are_scaled_by_a_stated_range_or_refused(
    tmp_path: Path, name: str, values: np.ndarray
) -> None:
    path = write_deep(tmp_path / name, values)
    with pytest.raises(ClipDataError, match=r'a\....: .*0 to 4080.*intensity_range='):
        read_frame(path)
    assert image_size(path) == (20, 30)
    with open_with_pillow(path.read_bytes()) as image:
        assert bits_per_channel(image) == 8 * values.itemsize
    expected = COLOURS if values.ndim == 3 else GREY[..., None].repeat(3, axis=2)
    scaled = read_frame(path, intensity_range=(0, 4080))
    assert scaled.dtype == np.uint8
    np.testing.assert_array_equal(scaled, expected)
    cut = read_frame(path, intensity_range=(16 * 100, 16 * 150))
    part = (expected > 100) & (expected < 150)
    wanted = ((expected.astype(float) - 100) * 5.1).clip(0, 255)
    assert np.abs(cut - wanted).max() <= 0.5
    assert set(np.unique(cut[~part])) == {0, 255}


def test_nan_pixels_are_black(tmp_path: Path) -> None:
    values = np.array([[np.nan, -np.inf, np.inf], [0, 0.5, 1]], np.float32)
    path = write_deep(tmp_path / 'a.tif', values)
    frame = read_frame(path, intensity_range=(0, 1))
    np.testing.assert_array_equal(frame[..., 0], [[0, 0, 255], [0, 128, 255]])
    with pytest.raises(ClipDataError, match='here 0 to 1'):
        read_frame(path)


@pytest.mark.parametrize('value', [(1,), (5, 5), (9, 2), (0, np.inf), (0, 1, 2)])
def test_invalid_intensity_range_is_refused(value: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r'intensity_range is .*give \(low, high\)'):
        checked_intensity_range(value)


@pytest.mark.parametrize('ending', ['tif', 'png', 'webp'])
def test_files_of_several_pages_say_how_many(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f'stack.{ending}'
    pages = [Image.fromarray(np.roll(GREY, 9 * page)) for page in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    count = 'several' if ending == 'webp' else '3'
    readers: list[Callable[[Path], object]] = [read_frame, image_size, read_label_map]
    for read in readers:
        with pytest.raises(
            ClipDataError, match=rf'stack\.{ending}: holds {count} pages or frames'
        ):
            read(path)


def test_thumbnail_in_a_tiff_is_not_a_page(tmp_path: Path) -> None:
    path = tmp_path / 'scan.tif'
    small = Image.fromarray(GREY[::2, ::2])
    setattr(small, 'encoderinfo', {'tiffinfo': {254: 1}})  # noqa: B010  Pillow's way
    Image.fromarray(GREY).save(path, save_all=True, append_images=[small])
    with Image.open(path) as stored:
        assert stored.n_frames == 2  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_frame(path)[..., 0], GREY)


@pytest.mark.parametrize('ending', ['tif', 'bmp'])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int32])
def test_labels_may_be_any_lossless_format(
    tmp_path: Path, ending: str, kind: type
) -> None:
    labels: NDArray[Any] = (GREY % 7).astype(kind)
    if kind is not np.uint8:
        labels[0, 0] = 40_000
        if ending == 'bmp':
            pytest.skip('BMP has 8 bits')
    path = tmp_path / f'mask.{ending}'
    Image.fromarray(labels).save(path)
    read = read_label_map(path)
    assert read.dtype == (np.uint8 if kind is np.uint8 else np.uint16)
    np.testing.assert_array_equal(read, labels)
    Image.fromarray(GREY).save(tmp_path / 'mask.jpg')
    with pytest.raises(ClipDataError, match='is a JPEG, which does not keep'):
        read_label_map(tmp_path / 'mask.jpg')
    Image.fromarray(GREY.astype(np.int32) - 1).save(path, format='TIFF')
    with pytest.raises(ClipDataError, match='TIFF of mode I, whose values are not lab'):
        read_label_map(path)


@pytest.mark.parametrize('mode', ['P', 'L', '1'])
def test_labels_of_each_mode_are_kept(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 1], [1, 0]] if mode == '1' else [[0, 7], [255, 3]], np.uint8)
    image = Image.fromarray(labels * 255).convert('1') if mode == '1' else None
    image = image or Image.fromarray(labels)
    if mode == 'P':
        image.putpalette([0] * 768)  # colours say nothing, values do
    image.save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(read_labels(tmp_path / 'mask.png'), labels)


def test_more_than_255_objects_raise_with_a_remedy(tmp_path: Path) -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Image.fromarray(labels).save(tmp_path / 'mask.png')
    with pytest.raises(ClipDataError, match=r'mask\.png.*at most 254.*mode P'):
        read_labels(tmp_path / 'mask.png')


def test_colour_mask_and_damaged_mask_raise(tmp_path: Path) -> None:
    path = tmp_path / 'mask.png'
    Image.new('RGB', (40, 40), (9, 9, 9)).save(path)
    with pytest.raises(ClipDataError, match='mode RGB'):
        read_labels(path)
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ClipDataError, match='cannot be read'):
        read_labels(path)


def test_objects_come_in_the_order_of_their_first_pixel_without_void() -> None:
    labels = np.array([[0, 255, 9], [4, 9, 1]], np.uint8)
    masks = split_labels(labels)
    assert masks.object_ids == (9, 4, 1)
    for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
        np.testing.assert_array_equal(mask, labels == object_id)
    assert masks.void is not None
    np.testing.assert_array_equal(masks.void, labels == 255)


def test_empty_labels_have_no_objects_and_no_void() -> None:
    masks = split_labels(np.zeros((3, 4), np.uint8))
    assert masks.object_ids == ()
    assert masks.masks.shape == (0, 3, 4)
    assert masks.void is None


def test_all_254_objects_of_a_palette_are_distinguished() -> None:
    masks = split_labels(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert masks.object_ids == tuple(range(1, 255))
    assert masks.masks.sum() == 254


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
def test_pixels_are_limited_by_the_dataset_not_by_pillow(make: Any) -> None:
    content = make()
    with pytest.raises((Image.DecompressionBombError, OSError)):
        Image.open(io.BytesIO(content))
    assert check_header(io.BytesIO(content), PATH, RAISED) == SIZE[::-1]
    with pytest.raises(
        ClipDataError, match=r'picture: claims 10000 x 20000.*raise max'
    ):
        check_header(io.BytesIO(content), PATH)


@pytest.mark.filterwarnings('error')
def test_image_beyond_the_limit_of_pillow_is_opened_without_a_warning() -> None:
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


def test_image_without_orientation_is_upright() -> None:
    for form in ('JPEG', 'PNG', 'BMP'):
        assert read_orientation(io.BytesIO(encoded(form)), PATH) == 1


@pytest.mark.filterwarnings('ignore:(Corrupt EXIF|Tag) data:UserWarning')
def test_damaged_orientation_is_an_error_or_ignored() -> None:
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


LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


def palette_png() -> bytes:
    image = Image.fromarray(LABELS)
    image.putpalette([0] * 768)
    return png(image)


needs_isal = pytest.mark.skipif(find_spec('isal') is None, reason='needs isal')


@needs_isal
def test_faster_png_decoder_leaves_other_kinds_and_large_images_to_pillow() -> None:
    smooth = Image.fromarray(np.add.outer(np.arange(64), np.arange(64)).astype('u1'))
    interlaced = bytearray(palette_png())
    interlaced[28] = 1
    interlaced[29:33] = zlib.crc32(interlaced[12:29]).to_bytes(4, 'big')
    others = [
        bytes(interlaced),
        png(Image.fromarray(LABELS.astype(np.uint16))),
        png(Image.new('RGB', (5, 5))),
        png(Image.new('1', (5, 5))),
        png(smooth),  # Pillow filters grey images
        b'no image',
        b'',
    ]
    assert [decode_plain_png(content, 10**6) for content in others] == [None] * 7
    assert decode_plain_png(palette_png(), max_pixels=23) is None


@needs_isal
def test_faster_png_decoder_leaves_damaged_files_to_pillow() -> None:
    intact = palette_png()
    assert all(decode_plain_png(intact[:n], 10**6) is None for n in range(60))
    begin = intact.index(b'IDAT')
    for offset in (17, 25, begin + 8, begin + 20):
        damaged = bytearray(intact)
        damaged[offset] ^= 0x15
        assert decode_plain_png(bytes(damaged), 10**6) is None
    smaller = bytearray(intact)  # has more data than its size says
    smaller[16:24] = (1).to_bytes(4, 'big') * 2
    smaller[29:33] = zlib.crc32(smaller[12:29]).to_bytes(4, 'big')
    assert decode_plain_png(bytes(smaller), 10**6) is None


@needs_isal
def test_label_map_is_the_same_with_and_without_the_faster_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'mask.png'
    path.write_bytes(palette_png())
    quick = read_label_map(path)
    np.testing.assert_array_equal(quick, LABELS)
    monkeypatch.setattr(images, 'isal_zlib', None)
    assert decode_plain_png(palette_png(), 10**6) is None
    np.testing.assert_array_equal(read_label_map(path), quick)
