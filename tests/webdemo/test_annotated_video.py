"""Frames by their exact index, whatever the file; and videos that are known again."""

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from numbered_videos import (
    decode_in_order,
    number_frame,
    read_number,
    rotate,
    write_images,
    write_video,
)
from projects.sam2.webdemo.session.video import AnnotatedVideo, BrokenFrameError

NUM_FRAMES = 120
UNEVEN = list(accumulate(random.Random(0).choices([7, 20, 33, 110], k=NUM_FRAMES)))
FILES: dict[str, dict[str, Any]] = {
    'even.mp4': {},
    'b_frames.mp4': {'options': {'bf': '3', 'g': '48'}},
    'ntsc.mp4': {'rate': Fraction(30000, 1001), 'options': {'bf': '2'}},
    'slow.mp4': {'rate': Fraction(1, 2)},
    'uneven.mp4': {'times': UNEVEN, 'options': {'bf': '2'}},
    'uneven.webm': {'times': UNEVEN, 'codec': 'libvpx'},
    'uneven.mkv': {'times': UNEVEN, 'options': {'bf': '2'}},
    'old.avi': {'codec': 'mpeg4'},
}


@pytest.mark.parametrize('name', FILES)
def test_any_frame_is_the_one_that_decoding_in_order_counts(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    write_video(path, num_frames=NUM_FRAMES, **FILES[name])
    expected = decode_in_order(path)
    assert [read_number(frame) for frame in expected] == list(range(NUM_FRAMES))
    video = AnnotatedVideo(path)
    assert (video.kind, video.num_frames) == ('video', NUM_FRAMES)
    scrubbed = random.Random(1).sample(range(NUM_FRAMES), 25)
    for frame_index in (*range(60), *range(100, 80, -1), *scrubbed):
        np.testing.assert_array_equal(video.read(frame_index), expected[frame_index])
        tracked = video.read_to_track(frame_index)
        np.testing.assert_array_equal(tracked, expected[frame_index])


def test_a_rotated_video_is_upright_and_has_the_size_of_what_is_shown(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'phone.mp4'
    write_video(path, num_frames=NUM_FRAMES, options={'bf': '2'})
    rotate(path)
    video = AnnotatedVideo(path)
    assert video.size(0) == number_frame(0).shape[1::-1]
    for frame_index in (0, 70, 3, 119):
        frame = video.read(frame_index)
        assert frame.shape[:2] == video.size(0)
        assert read_number(np.rot90(frame)) == frame_index


def test_screen_and_model_may_read_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / 'clip.mp4'
    write_video(path, num_frames=NUM_FRAMES)
    video = AnnotatedVideo(path)
    numbers = [random.Random(seed).randrange(NUM_FRAMES) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        shown = pool.map(lambda n: read_number(video.read(n)), numbers)
        tracked = [read_number(video.read_to_track(n)) for n in range(NUM_FRAMES)]
    assert list(shown) == numbers
    assert tracked == list(range(NUM_FRAMES))


def test_a_folder_is_a_video_if_numbers_order_images_of_one_size(
    tmp_path: Path,
) -> None:
    write_images(tmp_path / 'clip', 12, first=7)
    video = AnnotatedVideo(tmp_path / 'clip')
    assert (video.kind, video.num_frames, video.frame_name(3)) == ('video', 12, '00010')
    assert read_number(video.read(11)) == 11
    assert AnnotatedVideo(tmp_path / 'clip', kind='images').kind == 'images'
    cv2.imwrite(str(tmp_path / 'clip' / '00020.png'), np.zeros((5, 9, 3), np.uint8))
    stills = AnnotatedVideo(tmp_path / 'clip')
    assert stills.kind == 'images'
    assert stills.size(12) == (5, 9)
    assert stills.read(12).shape == (5, 9, 3)
    video = AnnotatedVideo(tmp_path / 'clip', kind='video')
    with pytest.raises(BrokenFrameError, match='Frame 12 of clip has 5 x 9 pixels'):
        video.read(12)


def test_photographs_need_no_numbers_and_keep_different_names(tmp_path: Path) -> None:
    for name in ('cat.png', 'dog.png', 'cat.jpg', 'a1.png', 'a b.png'):
        cv2.imwrite(str(tmp_path / name), number_frame(1))
    stills = AnnotatedVideo(tmp_path)
    names = [stills.frame_name(index) for index in range(stills.num_frames)]
    assert stills.kind == 'images'
    assert sorted(names) == ['a b', 'a1', 'cat.jpg', 'cat.png', 'dog']
    one = AnnotatedVideo(tmp_path / 'dog.png')
    assert (one.kind, one.num_frames, one.name) == ('images', 1, 'dog')


def test_a_broken_frame_is_named_and_the_others_can_be_read(tmp_path: Path) -> None:
    write_images(tmp_path / 'clip', 5)
    (tmp_path / 'clip' / '00000.png').write_bytes(b'no image')
    (tmp_path / 'clip' / '00003.png').write_bytes(b'\x89PNG no image')
    video = AnnotatedVideo(tmp_path / 'clip', kind='video')
    for broken in (0, 3):
        with pytest.raises(BrokenFrameError, match=f'Frame {broken} of clip'):
            video.read(broken)
    assert [read_number(video.read(index)) for index in (1, 2, 4)] == [1, 2, 4]
    with pytest.raises(ValueError, match='Frame 5 is not in 0 to 4'):
        video.read(5)


def test_what_is_no_video_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / 'list.mp4').write_text('#EXTM3U\nfile:///etc/passwd\n')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='there is no such file or folder'):
        AnnotatedVideo(tmp_path / 'none.mp4')
    with pytest.raises(ValueError, match='is not a video'):
        AnnotatedVideo(tmp_path / 'list.mp4')
    with pytest.raises(ValueError, match='holds no'):
        AnnotatedVideo(tmp_path / 'empty')
    (tmp_path / 'broken.png').write_bytes(b'no image')
    broken = AnnotatedVideo(tmp_path / 'broken.png')
    with pytest.raises(ValueError, match='cannot be read'):
        broken.read(0)


def test_identity_follows_the_content_and_the_key_the_path_too(tmp_path: Path) -> None:
    path, moved = tmp_path / 'a.mp4', tmp_path / 'b.mp4'
    write_video(path, num_frames=9)
    shutil.copy(path, moved)
    first, second = AnnotatedVideo(path), AnnotatedVideo(moved)
    assert first.identity.content_hash == second.identity.content_hash
    assert first.key != second.key
    assert first.key == AnnotatedVideo(path).key
    write_video(moved, num_frames=9, options={'crf': '40'})
    changed = AnnotatedVideo(moved).identity
    assert changed.content_hash != first.identity.content_hash
    assert first.reopen().key == first.key
    moved.replace(path)
    with pytest.raises(ValueError, match='was replaced by another video'):
        first.reopen()
