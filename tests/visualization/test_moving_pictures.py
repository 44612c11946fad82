"""Videos as moving GIFs: what is shown, how large, and how long."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from projects.sam2.visualization.clip_visualizer import encode_gif
from projects.sam2.visualization.video_file import write_video


def grey(value: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_frames_come_in_their_order(tmp_path: Path) -> None:
    values = [20, 120, 220]
    write_video(tmp_path / 'v.mp4', [grey(value, 32, 48) for value in values])
    gif = Image.open(BytesIO(encode_gif(tmp_path / 'v.mp4')))
    assert gif.size == (48, 32)
    frames = ImageSequence.all_frames(gif, lambda frame: frame.convert('L'))
    shown = [float(np.asarray(frame).mean()) for frame in frames]
    assert np.allclose(shown, values, atol=6)


def test_long_and_large_videos_are_thinned_and_shrunk(tmp_path: Path) -> None:
    pictures = (grey(2 * index, 64, 960) for index in range(100))
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
