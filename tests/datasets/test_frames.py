"""Frames of folders and of video files."""

import multiprocessing
import pickle
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from struct import pack
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.datasets.io import frames
from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.io.frames import ImageFrames, VideoFileFrames, open_frames
from toy_videos import open_files
from uneven_videos import find_boxes, set_durations

NUM_FRAMES = 90
SIZE = (48, 64)
UNEVEN = [(60, 1536), (NUM_FRAMES - 60, 512)]  # numbers of frames, and their durations


def index_of(frame: NDArray[np.uint8]) -> int:
    """Index that a frame of the video below shows."""
    bits = frame.reshape(48, 8, 8, 3).mean(axis=(0, 2, 3)) > 127
    return int(np.packbits(bits)[0])


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that show their index in eight stripes, as bits."""
    path = tmp_path_factory.mktemp('videos') / 'ant.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 24, (64, 48))
    for index in range(NUM_FRAMES):
        stripes = np.unpackbits(np.array([index], np.uint8)) * 255
        picture = np.tile(np.repeat(stripes, 8)[None, :, None], (48, 1, 3))
        writer.write(picture.astype(np.uint8))
    writer.release()
    return path


@pytest.fixture
def uneven(video: Path, tmp_path: Path) -> Path:
    """The same frames, not evenly spaced in time."""
    path = tmp_path / 'uneven.mp4'
    shutil.copyfile(video, path)
    set_durations(path, UNEVEN)
    return path


@pytest.fixture
def seeks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices that captures seek, and -1 for each frame that they decode."""
    calls: list[int] = []
    open_capture = frames._open_capture

    class Spy:
        def __init__(self, path: Path, only_mp4: bool) -> None:
            self.capture = open_capture(path, only_mp4)
            self.grab, self.get = self.capture.grab, self.capture.get

        def retrieve(self) -> Any:
            calls.append(-1)
            return self.capture.retrieve()

        def set(self, prop: int, value: int) -> None:
            calls.append(value)
            self.capture.set(prop, value)

    monkeypatch.setattr(frames, '_open_capture', Spy)
    return calls


def read(reader: frames.StoredFrames, order: Sequence[int]) -> list[int]:
    return [index_of(reader.read(index)) for index in order]


def test_header_gives_number_and_size_and_copies_reopen_the_file(video: Path) -> None:
    reader = open_frames(video.parent, 'ant')
    assert isinstance(reader, VideoFileFrames)
    assert (reader.num_frames, reader.size(5)) == (NUM_FRAMES, SIZE)
    assert reader.frame_name(7) == '00007'
    assert reader.frames_per_second == 24
    assert read(pickle.loads(pickle.dumps(reader)), [3, 5]) == [3, 5]  # noqa: S301
    assert len(pickle.dumps(reader)) < 500


@pytest.mark.parametrize(
    'order',
    [
        range(NUM_FRAMES),
        range(NUM_FRAMES - 1, -1, -1),
        [0, 1, 5, 4, 89, 30, 31, 0, 0, 85, 20, 3],
    ],
    ids=['forwards', 'backwards', 'mixed'],
)
@pytest.mark.parametrize('spacing', ['video', 'uneven'])
def test_video_file_is_read_in_any_order(
    order: Sequence[int], spacing: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(spacing)
    reader = VideoFileFrames(path)
    assert reader.read(order[0]).shape == (*SIZE, 3)
    assert read(reader, order) == list(order)


def test_frames_are_copies(video: Path) -> None:
    reader = VideoFileFrames(video)
    reader.read(7)[:] = 0
    assert index_of(reader.read(7)) == 7


def test_sampled_frames_take_one_seek_and_reading_back_one_for_a_group(
    video: Path, seeks: list[int]
) -> None:
    reader = VideoFileFrames(video)
    assert read(reader, (60, 62, 64, 68)) == [60, 62, 64, 68]
    assert seeks == [60, *[-1] * 4]
    seeks.clear()
    assert read(reader, (50, 49, 40)) == [50, 49, 40]
    assert seeks == [35, *[-1] * 16]


def test_unevenly_spaced_video_is_decoded_without_seeking(
    uneven: Path, seeks: list[int]
) -> None:
    sought = cv2.VideoCapture(str(uneven))
    sought.set(cv2.CAP_PROP_POS_FRAMES, 80)
    assert index_of(sought.read()[1].astype(np.uint8)) != 80  # by its time
    assert read(VideoFileFrames(uneven), (60, 2)) == [60, 2]
    assert set(seeks) == {-1}


def test_many_readers_keep_few_files_open(video: Path, uneven: Path) -> None:
    before, threads = open_files(), threading.active_count()
    readers = [VideoFileFrames(uneven if n % 4 == 0 else video) for n in range(20)]
    for order in (range(0, 30, 14), range(29, 0, -14)):
        for index in order:
            assert {index_of(reader.read(index)) for reader in readers} == {index}
            assert len(open_files() - before) <= 16
    del readers
    assert open_files() == before
    assert threading.active_count() == threads


def read_in_child(reader: VideoFileFrames, found: 'multiprocessing.Queue[int]') -> None:
    for index in (11, 12):
        found.put(index_of(reader.read(index)))


@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_forked_worker_opens_the_file_again(video: Path) -> None:
    reader = VideoFileFrames(video)
    reader.read(10)
    context = multiprocessing.get_context('fork')
    found: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=read_in_child, args=(reader, found))
    child.start()
    assert [found.get(timeout=30) for _ in range(2)] == [11, 12]
    child.join()
    assert index_of(reader.read(11)) == 11


def test_frame_past_the_end_is_named_and_the_others_are_read(video: Path) -> None:
    reader = VideoFileFrames(video)
    reader.num_frames = 99
    with pytest.raises(ClipDataError, match=r'ant\.mp4: frame 95 of 99 .*encode it'):
        reader.read(95)
    assert index_of(reader.read(2)) == 2


@pytest.mark.parametrize(
    'content',
    [b'', b'#EXTM3U\nfile:///etc/hostname', b'\0\0\0\x18ftypmp42' + b'\0' * 100],
    ids=['empty', 'playlist', 'damaged'],
)
@pytest.mark.parametrize('only_mp4', [True, False])
def test_other_files_are_refused(
    tmp_path: Path, content: bytes, *, only_mp4: bool
) -> None:
    (tmp_path / 'bad.mp4').write_bytes(content)
    with pytest.raises(ClipDataError, match=r'bad\.mp4: is not a'):
        VideoFileFrames(tmp_path / 'bad.mp4', only_mp4=only_mp4)


def test_other_containers_are_read_on_request(tmp_path: Path) -> None:
    path = tmp_path / 'ant.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 24, (64, 48))
    writer.write(np.full((48, 64, 3), 9, np.uint8))
    writer.release()
    assert VideoFileFrames(path, only_mp4=False).read(0).shape == (48, 64, 3)
    with pytest.raises(ClipDataError, match=r'ant\.avi: is not an mp4 file'):
        VideoFileFrames(path)


def test_more_frames_than_bytes_are_refused(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Boasting:
        def get(self, prop: int) -> float:
            return 2.0**31 if prop == cv2.CAP_PROP_FRAME_COUNT else 64.0

    monkeypatch.setattr(frames, '_open_capture', lambda *_: Boasting())
    with pytest.raises(ClipDataError, match='claims 2147483648 frames'):
        VideoFileFrames(video)


def test_many_claimed_frames_are_refused_before_ffmpeg_counts_them(
    tmp_path: Path, video: Path
) -> None:
    data = bytearray(video.read_bytes())
    kinds = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'stsz')
    begin = find_boxes(data, kinds)[-1]
    data[begin + 12 : begin + 20] = pack('>II', 1, 10**8)  # one byte each
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
def test_name_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / 'inner').mkdir()
    with pytest.raises(ClipDataError, match='not inside'):
        open_frames(tmp_path / 'inner', name)
