"""Mp4 files that players can read, and GIFs of them."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from projects.sam2.visualization import VideoFile, write_video
from projects.sam2.visualization.clip_visualizer import encode_gif


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
    monkeypatch.setattr(cv2.VideoWriter, 'fourcc', lambda *_: 0)
    monkeypatch.setattr(cv2.VideoWriter, 'isOpened', lambda _: False)
    with pytest.raises(RuntimeError, match='no mp4v encoder'):
        write_video(tmp_path / 'clip.mp4', [grey(1)])


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
