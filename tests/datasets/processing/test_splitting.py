"""Splits hold out a share, the same one for a seed, and no part of a video twice."""

from collections.abc import Callable

import numpy as np
import pytest

from projects.sam2.datasets.processing.splitting import (
    Thumbnail,
    split_clips,
    split_frames,
    split_images,
    thumbnail,
)


def pictures(names: list[str], *, drift: bool) -> Callable[[str], Thumbnail]:
    """Thumbnails of noise; with drift, neighbours of a series are alike."""
    rng = np.random.default_rng(0)
    read = {}
    for name in names:
        noise = rng.integers(0, 255, (40, 40, 3), np.uint8)
        number = int(''.join(filter(str.isdigit, name)) or 0)
        rows, columns = np.mgrid[:40, :40]
        wave = np.sin((columns + 2 * number) / 9) + np.cos((rows - number) / 7)
        smooth = np.repeat((127 + 60 * wave).astype(np.uint8)[..., None], 3, axis=2)
        read[name] = thumbnail(smooth if drift else noise)
    return read.__getitem__


def test_photographs_are_held_out_at_random_and_reproducibly() -> None:
    names = [f'photo{i:02d}' for i in range(20)]
    read = pictures(names, drift=False)
    first, again, other = (split_images(names, 0.2, s, read, {}) for s in (0, 0, 1))
    assert first == again
    assert first.val != other.val
    assert len(first.val) == 4
    assert sorted((*first.train, *first.val)) == names
    assert first.val != tuple(names[-4:])


def test_end_of_a_single_video_is_held_out() -> None:
    names = [f'frame{i}' for i in range(20)]  # 10 sorts before 2 as text
    split = split_images(names, 0.2, 0, pictures(names, drift=True), {})
    assert sorted(split.val) == ['frame16', 'frame17', 'frame18', 'frame19']
    assert 'one video' in split.how


def test_frames_of_a_video_stay_together() -> None:
    names = [f'{video}_{i:03d}' for video in 'abcde' for i in range(8)]
    split = split_images(names, 0.2, 0, pictures(names, drift=True), {})
    assert {name[0] for name in split.val}.isdisjoint(name[0] for name in split.train)
    assert len(split.val) == 8


def test_images_of_two_sizes_are_not_one_video() -> None:
    names = [f'frame{i}' for i in range(10)]
    sizes = {name: (i % 2, 1) for i, name in enumerate(names)}
    split = split_images(names, 0.2, 0, pictures(names, drift=True), sizes)
    assert 'one video' not in split.how


def test_parts_of_a_clip_stay_together() -> None:
    names = ['a_part0', 'a_part1', 'b', 'c']
    for seed in range(8):
        split = split_clips(names, 0.25, seed)
        assert split.val
        assert split.train
        assert ('a_part0' in split.val) == ('a_part1' in split.val)


@pytest.mark.parametrize('num_clips', [2, 3, 10])
def test_both_parts_have_a_clip(num_clips: int) -> None:
    split = split_clips([f'c{i}' for i in range(num_clips)], 0.01, 0)
    assert (len(split.train), len(split.val)) == (num_clips - 1, 1)


def test_single_clip_is_cut_in_time() -> None:
    assert split_frames(range(100), 0.2) == 80
    assert split_frames([0, 10, 20], 0.2) == 10  # a prompt and a frame that is scored
    with pytest.raises(ValueError, match=r'2 annotated frames.*at least 3'):
        split_frames([0, 10], 0.2)


@pytest.mark.parametrize('share', [0.0, 1.0, -1.0, float('nan')])
def test_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match='between 0 and 1'):
        split_clips(['a', 'b'], share, 0)


def test_single_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match='give at least 2'):
        split_clips(['a'], 0.2, 0)
