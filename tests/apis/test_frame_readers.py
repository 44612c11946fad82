"""Frames come from folders, files and arrays; what is wrong with them is said."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.apis.frame_readers import VideoFileReader, open_frames
from projects.sam2.visualization.video_file import write_video
from toy_videos import open_files
from uneven_videos import set_durations

SIZE = (32, 48)


def _frame(index: int) -> NDArray[np.uint8]:
    """A flat colour that tells the frame's number."""
    return np.full((*SIZE, 3), 8 * index % 256, np.uint8)


def _number(frame: NDArray[np.uint8]) -> int:
    return round(float(frame.mean()) / 8)


def _folder(path: Path, names: tuple[str, ...]) -> Path:
    path.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(_frame(index)).save(path / name)
    return path


def _mp4(path: Path, length: int = 30) -> Path:
    write_video(path, (_frame(index) for index in range(length)))
    return path


def test_folder_is_ordered_by_number_and_not_by_name(tmp_path: Path) -> None:
    frames = open_frames(_folder(tmp_path / 'v', ('2.jpg', '9.JPEG', '10.jpg')))
    assert frames.num_frames == 3
    assert frames.size == SIZE
    assert [_number(frames.read(i)) for i in (2, 0, 1)] == [2, 0, 1]


def test_many_open_videos_hold_few_files_and_are_read_rightly(tmp_path: Path) -> None:
    path = _mp4(tmp_path / 'v.mp4')
    uneven = _mp4(tmp_path / 'u.mp4')
    set_durations(uneven, [(10, 1000), (20, 1500)])  # no seek is exact
    before, threads = open_files(), threading.active_count()
    readers = [open_frames(uneven if n % 4 == 0 else path) for n in range(20)]
    assert len(open_files() - before) <= 16
    for order in (range(0, 30, 14), range(29, 0, -14)):
        for index in order:
            assert {_number(reader.read(index)) for reader in readers} == {index}
    assert len(open_files() - before) <= 16
    del readers
    assert open_files() == before
    assert threading.active_count() == threads


def test_frames_of_a_folder_follow_the_rules_of_the_data_sets(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'cam2.mp4', ('f_2.png', 'F_10.TIF', 'f_010.5.bmp'))
    for name in ('._f_2.png', '.DS_Store', 'Thumbs.db', 'notes.txt'):
        (folder / name).write_bytes(b'no image')
    (folder / 'f_3.png').mkdir()
    frames = open_frames(folder)
    assert [_number(frames.read(i)) for i in range(frames.num_frames)] == [0, 1, 2]
    (folder / 'f_02.webp').touch()
    with pytest.raises(ValueError, match=r'f_02\.webp and f_2\.png have the same'):
        open_frames(folder)


def test_array_and_list_of_images_are_videos() -> None:
    array = np.stack([_frame(i) for i in range(4)])
    for video in (array, list(array), [Image.fromarray(one) for one in array]):
        frames = open_frames(video)
        assert (frames.num_frames, frames.size) == (4, SIZE)
        assert np.array_equal(frames.read(3), array[3])


@pytest.mark.parametrize(
    'order', [range(30), range(29, -1, -1), [0, 25, 3, 3, 29, 4, 12, 11]]
)
def test_video_file_is_read_in_any_order(
    order: range | list[int], tmp_path: Path
) -> None:
    frames = open_frames(_mp4(tmp_path / 'v.mp4'))
    assert frames.num_frames == 30
    assert [_number(frames.read(index)) for index in order] == list(order)


def test_film_that_is_not_shown_evenly_is_read_in_any_order(tmp_path: Path) -> None:
    path = _mp4(tmp_path / 'v.mp4', length=90)
    set_durations(path, [(60, 1536), (30, 512)])
    frames = open_frames(path)
    order = (85, 20, 3, 89)
    assert [_number(frames.read(i)) for i in order] == [i % 32 for i in order]


def test_far_frame_is_sought_and_not_decoded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = VideoFileReader(_mp4(tmp_path / 'v.mp4', length=90))
    decoded: list[int] = []
    original = VideoFileReader._decode_next

    def noted(self: VideoFileReader) -> NDArray[np.uint8]:
        decoded.append(self._next)
        return original(self)

    monkeypatch.setattr(VideoFileReader, '_decode_next', noted)
    frames.read(80)
    assert decoded == [80]
    frames.read(79)
    frames.read(70)
    assert decoded == [80, *range(64, 80)]


def test_video_that_ends_early_says_where(tmp_path: Path) -> None:
    frames = VideoFileReader(_mp4(tmp_path / 'v.mp4', length=5))
    frames.num_frames = 8
    message = r'v\.mp4 ends after 5 frames, though its header says 8; encode it anew'
    with pytest.raises(ValueError, match=message):
        frames.read(6)
    assert _number(frames.read(2)) == 2


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'v', ('0.jpg', '1.jpg'))
    Image.fromarray(_frame(1)[:20]).save(folder / '1.jpg')
    frames = open_frames(folder)
    with pytest.raises(ValueError, match=r'1\.jpg is \(20, 48\), but the first frame'):
        frames.read(1)


def test_damaged_jpeg_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / 'v', ('0.jpg', '1.jpg'))
    whole = (folder / '1.jpg').read_bytes()
    (folder / '1.jpg').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r'1\.jpg: is (damaged|a truncated JPEG)'):
        open_frames(folder).read(1)


def test_frame_of_an_array_is_checked_when_it_is_read() -> None:
    frames = open_frames([_frame(0), _frame(1).astype(np.uint16), _frame(2)])
    with pytest.raises(ValueError, match='Frame 1 holds uint16, not uint8'):
        frames.read(1)
    assert _number(frames.read(2)) == 2


def _image_file(path: Path) -> Path:
    Image.fromarray(_frame(1)).save(path)
    return path


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    empty = _folder(tmp_path / 'empty', ())
    others = _folder(tmp_path / 'others', ('0.gif',))
    nameless = _folder(tmp_path / 'nameless', ('0.jpg', 'cover.jpg'))
    text = tmp_path / 'v.mp4'
    text.write_text('no video')
    images = [_image_file(tmp_path / f'i{end}') for end in ('.jpg', '.png', '.webp')]
    images.append(images[0].rename(tmp_path / 'renamed.mp4'))
    for video, message in (
        (empty, 'holds no frames: expected images, found nothing'),
        (others, r'found only \.gif; write'),
        (nameless, r'cover\.jpg have no number'),
        (text, 'is no video that OpenCV reads; convert'),
        ([], 'has no frame'),
        (images[1], r'i\.png: is an image, no video; give a folder of images'),
        (images[2], 'is an image, no video; .* one image use SAM2ImagePredictor$'),
        (images[3], r'renamed\.mp4: is an image, no video; give'),
    ):
        with pytest.raises(ValueError, match=message):
            open_frames(video)
    with pytest.raises(FileNotFoundError, match='missing: there is no such file'):
        open_frames(tmp_path / 'missing')
    no_videos: tuple[Any, ...] = (None, iter([]))
    for no_video in no_videos:
        with pytest.raises(TypeError, match='give frames that come one at a time to'):
            open_frames(no_video)
