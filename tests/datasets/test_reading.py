"""Decoders of frames and palette masks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from projects.sam2.datasets import reading
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.limits import ReadLimits
from projects.sam2.datasets.reading import (
    MAX_SCANS,
    START_OF_SCAN,
    image_size,
    read_frame,
    read_labels,
    split_labels,
)


@pytest.fixture(params=['simplejpeg', 'opencv'])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without the faster decoder."""
    if request.param == 'opencv':
        monkeypatch.setattr(reading, 'decode_jpeg', None)
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
def test_note_to_turn_a_frame_is_not_obeyed(jpeg: Path) -> None:
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
def test_jpeg_is_known_by_its_first_bytes(jpeg: Path) -> None:
    frame = read_frame(jpeg)
    renamed = jpeg.rename(jpeg.with_suffix('.png'))
    np.testing.assert_array_equal(read_frame(renamed), frame)
    content = renamed.read_bytes()
    renamed.write_bytes(content[:-2] + START_OF_SCAN * MAX_SCANS + content[-2:])
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


def test_all_254_objects_of_a_palette_are_told_apart() -> None:
    masks = split_labels(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert masks.object_ids == tuple(range(1, 255))
    assert masks.masks.sum() == 254
