"""Mp4 files that browsers and players can read, and GIFs of them."""

import resource
import signal
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from projects.sam2.visualization import VideoFile, write_video
from projects.sam2.visualization.clip_visualizer import encode_gif
from projects.sam2.visualization.video_file import _explain_once

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 205, 30), (128, 128, 128))


def grey(value: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    picture = np.full((*size, 3), value, dtype=np.uint8)
    picture[:, : size[1] // 2, 0] = 255  # red at the left
    return picture


def test_written_frames_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'clip.mp4'
    write_video(path, (grey(40 * i) for i in range(5)))
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    reader.release()
    assert len(frames) == 5
    for index, frame in enumerate(frames):
        assert frame.shape == (64, 96, 3)
        assert abs(int(np.median(frame[:, 60:])) - 40 * index) <= 12
    assert int(frames[0][32, 10, 0]) > int(frames[0][32, 10, 2]) + 100
    assert [file.name for file in path.parent.iterdir()] == ['clip.mp4']


def bars(size: tuple[int, int], length: int) -> Iterator[np.ndarray]:
    """Bars of colours; a square in the corner gets brighter by 10 a frame."""
    column_colors = np.arange(size[1]) * len(COLORS) // size[1]
    for index in range(length):
        picture = np.tile(np.array(COLORS, np.uint8)[column_colors], (size[0], 1, 1))
        picture[:16, :16] = 10 * index
        yield picture


@pytest.mark.parametrize(
    ('size', 'rate'), [((64, 160), 12.0), ((65, 161), 29.97), ((1080, 1920), 60.0)]
)
def test_video_is_what_browsers_play(
    size: tuple[int, int], rate: float, tmp_path: Path
) -> None:
    path, length = tmp_path / 'clip.mp4', 7
    write_video(path, bars(size, length), frames_per_second=rate)
    container: Any
    with av.open(path) as container:
        (stream,) = container.streams
        frames = list(container.decode(stream))
        assert (stream.codec.name, stream.pix_fmt) == ('h264', 'yuv420p')
        assert float(stream.average_rate) == pytest.approx(rate, rel=1e-4)
    even = [side + side % 2 for side in size]
    assert [frames[0].height, frames[0].width] == even
    times = [frame.time for frame in frames]
    assert times == pytest.approx([i / rate for i in range(length)], abs=1e-4)
    for index, frame in enumerate(frames):
        shown = frame.to_ndarray(format='rgb24').astype(int)
        assert abs(np.median(shown[4:12, 4:12]) - 10 * index) <= 4
        middles = shown[40, [size[1] * (2 * i + 1) // 10 for i in range(len(COLORS))]]
        assert np.abs(middles - COLORS).max() <= 4
    # A browser plays before it has the whole file if the index comes first.
    content = path.read_bytes()
    assert content.index(b'moov') < content.index(b'mdat')


@pytest.mark.parametrize('rate', [0.0, -1.0, float('nan'), float('inf'), 90_000.0])
def test_rate_that_cannot_be_played_is_refused(rate: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf'{rate} frames per second cannot'):
        write_video(tmp_path / 'v.mp4', [grey(1)], frames_per_second=rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'picture',
    [
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_picture_that_is_not_rgb_is_refused(
    picture: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='expected RGB pictures'):
        write_video(tmp_path / 'v.mp4', [picture])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('has_pyav', [True, False])
def test_interrupted_video_leaves_nothing(
    *, has_pyav: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield from bars((64, 96), 20)
        raise KeyboardInterrupt

    if not has_pyav:
        monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / 'clip.mp4', interrupted())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('has_pyav', [True, False])
@pytest.mark.parametrize('num_frames', [3, 100])  # fails at the end, and earlier
def test_full_disk_leaves_nothing(
    num_frames: int, *, has_pyav: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pyav:
        monkeypatch.setitem(sys.modules, 'av', None)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r'too large|disk full'):
            write_video(tmp_path / 'clip.mp4', (noise for _ in range(num_frames)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_failed_video_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / 'clip.mp4'
    path.write_bytes(b'old')
    with pytest.raises(ValueError, match='expected pictures'):
        write_video(path, [grey(1), grey(1, (32, 32))])
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_video_without_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='no picture to write'):
        write_video(tmp_path / 'clip.mp4', [])


def test_missing_encoder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    monkeypatch.setattr(cv2.VideoWriter, 'fourcc', lambda *_: 0)
    monkeypatch.setattr(cv2.VideoWriter, 'isOpened', lambda _: False)
    with pytest.raises(RuntimeError, match=r'no encoder.*pip install av'):
        write_video(tmp_path / 'clip.mp4', [grey(1)])


def test_without_pyav_players_can_play_the_video_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    _explain_once.cache_clear()
    for name in ('a.mp4', 'b.mp4'):
        write_video(tmp_path / name, bars((65, 97), 3))
    reader: Any = cv2.VideoCapture(str(tmp_path / 'b.mp4'))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    codec = int(reader.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little').decode()
    assert codec.upper() == 'FMP4'  # FFmpeg's name of MPEG-4 Part 2
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count('pip install av') == 1


def test_frames_may_come_one_at_a_time_at_their_own_rate(tmp_path: Path) -> None:
    path = tmp_path / 'clip.mp4'
    with VideoFile(path, frames_per_second=25.0) as video:
        for value in (10, 200):
            video.add(grey(value))
        assert not path.exists()
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(25.0)
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 2


def plain_grey(value: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_frames_come_in_their_order(tmp_path: Path) -> None:
    values = [20, 120, 220]
    write_video(tmp_path / 'v.mp4', [plain_grey(value, 32, 48) for value in values])
    gif = Image.open(BytesIO(encode_gif(tmp_path / 'v.mp4')))
    assert gif.size == (48, 32)
    frames = ImageSequence.all_frames(gif, lambda frame: frame.convert('L'))
    shown = [float(np.asarray(frame).mean()) for frame in frames]
    assert np.allclose(shown, values, atol=6)


def test_long_and_large_videos_are_thinned_and_shrunk(tmp_path: Path) -> None:
    pictures = (plain_grey(2 * index, 64, 960) for index in range(100))
    write_video(tmp_path / 'v.mp4', pictures)
    gif = Image.open(BytesIO(encode_gif(tmp_path / 'v.mp4')))
    assert gif.size == (480, 32)
    assert gif.n_frames == 34  # type: ignore[attr-defined]  # every third of 100
    assert gif.info['duration'] == 250  # three frames at 12 a second


def test_a_file_without_frames_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'v.mp4'
    path.write_bytes(b'no video')
    with pytest.raises(ValueError, match=r'v\.mp4 has no frame'):
        encode_gif(path)
