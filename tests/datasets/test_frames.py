"""Frames from folders and from video files."""

import multiprocessing
import pickle
from pathlib import Path
from struct import pack

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets.io import frames
from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.io.frames import ImageFrames, VideoFileFrames, open_frames
from uneven_videos import find_boxes, set_durations

NUM_FRAMES = 70


def number_of(frame: NDArray[np.uint8]) -> int:
    """Number that a frame of the video below shows."""
    bits = frame.reshape(48, 8, 8, 3).mean(axis=(0, 2, 3)) > 127
    return int(np.packbits(bits)[0])


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that show their number in eight stripes, as bits."""
    path = tmp_path_factory.mktemp('videos') / 'ant.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 24, (64, 48))
    for number in range(NUM_FRAMES):
        stripes = np.unpackbits(np.array([number], np.uint8)) * 255
        picture = np.tile(np.repeat(stripes, 8)[None, :, None], (48, 1, 3))
        writer.write(picture.astype(np.uint8))
    writer.release()
    return path


@pytest.fixture
def num_seeks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames to which a video was wound."""
    seeks: list[int] = []
    opened = frames._open_capture

    class Counting:
        def __init__(self, path: Path, *, only_mp4: bool = True) -> None:
            self.capture = opened(path, only_mp4=only_mp4)
            self.grab, self.read = self.capture.grab, self.capture.read
            self.get, self.release = self.capture.get, self.capture.release

        def set(self, prop: int, value: int) -> None:
            seeks.append(value)
            self.capture.set(prop, value)

    monkeypatch.setattr(frames, '_open_capture', Counting)
    monkeypatch.setattr(frames._playheads, 'current', None)
    return seeks


def test_header_says_number_and_size(video: Path) -> None:
    reader = open_frames(video.parent, 'ant')
    assert isinstance(reader, VideoFileFrames)
    assert (reader.num_frames, reader.size(5)) == (NUM_FRAMES, (48, 64))
    assert reader.frame_name(7) == '00007'
    assert pickle.loads(pickle.dumps(reader)) == reader  # noqa: S301  made here


def test_any_frame_is_found_in_any_order(video: Path) -> None:
    reader = open_frames(video.parent, 'ant')
    for index in (0, 1, 5, 4, 69, 30, 31, 0):
        frame = reader.read(index)
        assert frame.shape == (48, 64, 3)
        assert number_of(frame) == index


def test_sampled_frames_take_one_seek(video: Path, num_seeks: list[int]) -> None:
    reader = VideoFileFrames(path=video, num_frames=NUM_FRAMES, height=48, width=64)
    assert [number_of(reader.read(i)) for i in (60, 62, 64, 68)] == [60, 62, 64, 68]
    assert num_seeks == [60]
    assert [number_of(reader.read(i)) for i in (2, 3, 9)] == [2, 3, 9]
    assert num_seeks == [60, 2]


def test_film_that_is_not_shown_evenly_gives_the_same_frames(
    tmp_path: Path, video: Path, num_seeks: list[int]
) -> None:
    path = tmp_path / 'ant.mp4'
    path.write_bytes(video.read_bytes())
    set_durations(path, [(30, 1536), (NUM_FRAMES - 30, 512)])
    sought = cv2.VideoCapture(str(path))
    sought.set(cv2.CAP_PROP_POS_FRAMES, 60)
    assert number_of(sought.read()[1].astype(np.uint8)) != 60  # by its time
    reader = open_frames(tmp_path, 'ant')
    for index in (60, 2, 69, 30, 31, 0):
        assert number_of(reader.read(index)) == index
    assert num_seeks == []


def read_in_child(path: Path, found: 'multiprocessing.Queue[int]') -> None:
    reader = open_frames(path.parent, 'ant')
    for index in (11, 12):
        found.put(number_of(reader.read(index)))


@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_forked_worker_opens_the_file_anew(video: Path) -> None:
    reader = open_frames(video.parent, 'ant')
    reader.read(10)
    context = multiprocessing.get_context('fork')
    found: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=read_in_child, args=(video, found))
    child.start()
    assert [found.get(timeout=30) for _ in range(2)] == [11, 12]
    child.join()
    assert number_of(reader.read(11)) == 11


def test_frame_past_the_end_is_named(video: Path) -> None:
    reader = VideoFileFrames(path=video, num_frames=99, height=48, width=64)
    with pytest.raises(ClipDataError, match=r'ant\.mp4: frame 90 of 99'):
        reader.read(90)


@pytest.mark.parametrize(
    'content',
    [b'', b'#EXTM3U\nfile:///etc/hostname', b'\0\0\0\x18ftypmp42' + b'\0' * 100],
    ids=['empty', 'playlist', 'damaged'],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'bad.mp4').write_bytes(content)
    with pytest.raises(ClipDataError, match=r'bad\.mp4: is no'):
        open_frames(tmp_path, 'bad')


def test_more_frames_than_bytes_are_refused(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Boasting:
        def get(self, prop: int) -> float:
            return 2.0**31 if prop == cv2.CAP_PROP_FRAME_COUNT else 64.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(frames, '_open_capture', lambda _, **__: Boasting())
    with pytest.raises(ClipDataError, match='claims 2147483648 frames'):
        open_frames(video.parent, 'ant')


def test_many_claimed_frames_are_refused_before_ffmpeg_counts_them(
    tmp_path: Path, video: Path
) -> None:
    data = bytearray(video.read_bytes())
    kinds = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'stsz')
    place = find_boxes(data, kinds)[-1]
    data[place + 12 : place + 20] = pack('>II', 1, 10**8)  # one byte each
    (tmp_path / 'ant.mp4').write_bytes(data)
    with pytest.raises(ClipDataError, match='claims 100000000 frames'):
        open_frames(tmp_path, 'ant')


def test_large_frames_are_refused_before_one_is_decoded(video: Path) -> None:
    with pytest.raises(ClipDataError, match=r'48 x 64 pixels.*max_pixels=99'):
        open_frames(video.parent, 'ant', ReadLimits(max_pixels=99))


def test_folder_of_images_comes_before_a_video(tmp_path: Path, video: Path) -> None:
    (tmp_path / 'ant.mp4').symlink_to(video)
    (tmp_path / 'ant').mkdir()
    cv2.imwrite(str(tmp_path / 'ant' / '00003.jpg'), np.zeros((5, 6, 3), np.uint8))
    reader = open_frames(tmp_path, 'ant')
    assert isinstance(reader, ImageFrames)
    assert (reader.num_frames, reader.frame_name(0)) == (1, '00003')
    assert reader.read(0).shape == (*reader.size(0), 3) == (5, 6, 3)


@pytest.mark.parametrize('name', ['../ant', '/etc', 'a/../../ant', ''])
def test_name_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / 'inner').mkdir()
    with pytest.raises(ClipDataError, match='not inside'):
        open_frames(tmp_path / 'inner', name)
