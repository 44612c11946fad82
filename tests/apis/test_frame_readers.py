"""Videos of users: folders, files and arrays, and errors that name the remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.apis.frame_readers import FileReader, PrefetchReader, open_frames
from projects.sam2.visualization.video_file import write_video

SIZE = (32, 48)


def _frame(index: int) -> NDArray[np.uint8]:
    """A flat gray that tells the frame's index."""
    return np.full((*SIZE, 3), 8 * index % 256, np.uint8)


def _index(frame: NDArray[np.uint8]) -> int:
    return round(float(frame.mean()) / 8)


def _folder(path: Path, names: tuple[str, ...]) -> Path:
    path.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(_frame(index)).save(path / name)
    return path


def test_folder_follows_the_rules_of_the_datasets(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'cam2.mp4', ('f_2.png', 'F_10.TIF', 'f_010.5.bmp'))
    for name in ('._f_2.png', '.DS_Store', 'Thumbs.db', 'notes.txt'):
        (folder / name).write_bytes(b'no image')
    (folder / 'f_3.png').mkdir()
    frames = open_frames(folder)
    assert (frames.num_frames, frames.size) == (3, SIZE)
    assert [_index(frames.read(i)) for i in (2, 0, 1)] == [2, 0, 1]
    (folder / 'f_02.webp').touch()
    with pytest.raises(ValueError, match=r'f_02\.webp and f_2\.png have the same'):
        open_frames(folder)


def test_array_and_list_of_images_are_videos() -> None:
    array = np.stack([_frame(i) for i in range(4)])
    for video in (array, list(array), [Image.fromarray(each) for each in array]):
        frames = open_frames(video)
        assert (frames.num_frames, frames.size) == (4, SIZE)
        assert np.array_equal(frames.read(3), array[3])


@pytest.mark.parametrize('prefetch', [False, True])
def test_video_file_is_read_in_any_order(tmp_path: Path, *, prefetch: bool) -> None:
    path = tmp_path / 'v.mp4'
    write_video(path, map(_frame, range(30)))
    frames = open_frames(path)
    assert isinstance(frames, FileReader)
    assert frames.frames_per_second is not None
    if prefetch:
        frames = PrefetchReader(frames)
    assert (frames.num_frames, frames.size) == (30, SIZE)
    order = [0, 25, 3, 3, 29, 28, 27, 4, 12, 11]
    assert [_index(frames.read(index)) for index in order] == order


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'v', ('0.jpg', '1.jpg'))
    Image.fromarray(_frame(1)[:20]).save(folder / '1.jpg')
    frames = open_frames(folder)
    with pytest.raises(ValueError, match=r'v: frame 1 is \(20, 48\), but the first'):
        frames.read(1)


def test_damaged_jpeg_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'v', ('0.jpg', '1.jpg'))
    complete = (folder / '1.jpg').read_bytes()
    (folder / '1.jpg').write_bytes(complete[: len(complete) // 2])
    with pytest.raises(ValueError, match=r'1\.jpg: is (damaged|a truncated JPEG)'):
        open_frames(folder).read(1)


def test_frame_of_an_array_is_checked_when_it_is_read() -> None:
    frames = open_frames([_frame(0), _frame(1).astype(np.uint16), _frame(2)])
    with pytest.raises(ValueError, match='Frame 1 holds uint16, not uint8'):
        frames.read(1)
    assert _index(frames.read(2)) == 2


def test_other_input_is_refused_with_a_remedy(tmp_path: Path) -> None:
    images = _folder(tmp_path / 'images', ('i.jpg', 'i.png', 'i.webp'))
    (images / 'i.jpg').rename(tmp_path / 'renamed.mp4')
    (tmp_path / 'text.mp4').write_text('no video')
    for video, message in (
        (_folder(tmp_path / 'empty', ()), 'empty: holds no .*; give a folder of'),
        (_folder(tmp_path / 'others', ('0.gif',)), r'holds no .*, only \.gif; give'),
        (_folder(tmp_path / 'n', ('0.jpg', 'cover.jpg')), r'cover\.jpg have no number'),
        (tmp_path / 'text.mp4', r'is not a video .*convert others to mp4 with h264'),
        ([], 'has no frame'),
        (images / 'i.png', r'i\.png: is an image, not a video; give a folder'),
        (images / 'i.webp', 'is an image, .* one image use SAM2ImagePredictor$'),
        (tmp_path / 'renamed.mp4', r'renamed\.mp4: is an image, not a video; give'),
    ):
        with pytest.raises(ValueError, match=message):
            open_frames(video)
    with pytest.raises(FileNotFoundError, match='missing: there is no such file'):
        open_frames(tmp_path / 'missing')
    no_videos: tuple[Any, ...] = (None, iter([]))
    for no_video in no_videos:
        with pytest.raises(TypeError, match='give frames that come one at a time to'):
            open_frames(no_video)
