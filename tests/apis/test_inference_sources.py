"""Whatever a user names is opened, or it is said what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from address_server import AddressServer, serve
from inference_cases import write_clip, write_images
from projects.sam2.apis.inference_sources import (
    FileSource,
    ImageInput,
    StreamInput,
    VideoInput,
    list_sources,
    open_source,
)
from toy_videos import SIZE, toy_frames


class FakeCamera:
    """Two frames, if it is number 3."""

    def __init__(self, device: int | str) -> None:
        self.device = device
        self.frames = [np.full((*SIZE, 3), (10, 20, 30), np.uint8)] * 2

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        """Is there such a camera?"""
        return self.device in {3, 'rtsp://example.org/door'}

    def get(self, what: int) -> float:
        """What a camera says that does not know."""
        del what
        return 0.0

    def read(self) -> tuple[bool, Any]:
        """The next frame."""
        return (True, self.frames.pop()) if self.frames else (False, None)

    def release(self) -> None:
        """Let go of the camera."""


def opened(item: object) -> FileSource:
    with open_source(item, default_name='unnamed') as source:
        return source


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddressServer]:
    """An image and a video that lie elsewhere."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    image = write_images(tmp_path, ['a.png']) / 'a.png'
    film = write_clip(tmp_path / 'film.mp4')
    answers = {
        'a.png?size=large': image.read_bytes(),
        'film.mp4': film.read_bytes(),
    }
    with serve(answers) as running:
        yield running


def test_folder_is_its_images_in_order_or_one_video(tmp_path: Path) -> None:
    folder = write_images(tmp_path / 'f', ['2.jpg', '1.PNG', '3.webp'])
    (folder / 'notes.txt').write_text('no image')
    images = list_sources([str(folder), 5], folder_is_video=False)
    assert [getattr(one, 'name', one) for one in images] == [
        '1.PNG',
        '2.jpg',
        '3.webp',
        5,
    ]
    assert list_sources(folder, folder_is_video=True) == [folder]


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', 'LA', 'CMYK'])
def test_images_of_any_8_bit_kind_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / 'photo.x.tiff'
    Image.new('RGB', (7, 5), (204, 204, 204)).convert(mode).save(path)
    source = opened(path)
    assert isinstance(source, ImageInput)
    assert source.name == 'photo.x'
    assert source.pixels.shape == (5, 7, 3)
    assert np.abs(source.pixels.astype(int) - 204).max() <= 2


def test_image_is_turned_as_its_camera_noted(tmp_path: Path) -> None:
    image = Image.new('RGB', (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / 'a.jpg', exif=exif)
    source = opened(str(tmp_path / 'a.jpg'))
    assert isinstance(source, ImageInput)
    assert source.pixels.shape == (8, 4, 3)


def test_video_comes_from_file_folder_or_array(tmp_path: Path) -> None:
    folder = write_images(tmp_path / 'clip', ['0.jpg', '1.jpg', '2.jpg', '3.jpg'])
    film = write_clip(tmp_path / 'film.mp4')
    for item, name in (
        (folder, 'clip'),
        (str(film), 'film'),
        (np.stack(toy_frames(4)), 'unnamed'),
    ):
        source = opened(item)
        assert isinstance(source, VideoInput)
        assert (source.name, source.frames.num_frames) == (name, 4)
        assert source.frames_per_second == pytest.approx(12)


def test_image_and_video_come_from_an_address(server: AddressServer) -> None:
    image = opened(f'{server.url}a.png?size=large')
    assert isinstance(image, ImageInput)
    assert image.name == 'a'
    assert np.array_equal(image.pixels, toy_frames(1)[0])
    with open_source(f'{server.url}film.mp4', default_name='') as video:
        assert isinstance(video, VideoInput)
        assert video.name == 'film'
        assert video.frames.read(3).shape == (*SIZE, 3)


@pytest.mark.parametrize('item', [3, '3', 'rtsp://example.org/door'])
def test_camera_and_live_address_are_streams(
    item: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    source = opened(item)
    assert isinstance(source, StreamInput)
    assert source.name in {'camera_3', 'door'}
    frames = list(source.frames)
    assert len(frames) == 2
    assert frames[0][0, 0].tolist() == [30, 20, 10]  # RGB


def test_bad_inputs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: AddressServer
) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.jpg').write_text('no image')
    Image.new('I;16', (4, 4)).save(tmp_path / 'deep.png')
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    for item, error, message in (
        (tmp_path / 'nowhere.jpg', FileNotFoundError, 'no such file'),
        (tmp_path / 'text.jpg', ValueError, 'is no image that can be read'),
        (tmp_path / 'deep.png', ValueError, "mode 'I;16'"),
        (7, ValueError, 'no camera 7'),
        ('rtsp://example.org/roof', ValueError, 'no stream rtsp'),
        (f'{server.url}gone.png', ValueError, 'cannot be fetched'),
        (np.zeros((4, 4)), ValueError, 'uint8'),
        (2.5, TypeError, 'float is no input'),
    ):
        with pytest.raises(error, match=message):
            opened(item)
    for inputs, message in ((tmp_path / 'empty', 'holds no image'), ([], 'is empty')):
        with pytest.raises(ValueError, match=message):
            list_sources(inputs, folder_is_video=False)
