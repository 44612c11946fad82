"""Folders of masks without frames."""

from pathlib import Path

import numpy as np
import pytest

from data_folders import square_maps, write_maps, write_objects, write_png
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.mask_folders import list_mask_videos, open_mask_video


def test_label_images_are_read_by_frame(tmp_path: Path) -> None:
    frames = square_maps()
    write_maps(tmp_path / 'a', frames)
    (tmp_path / 'a' / 'notes.txt').touch()
    video = open_mask_video(tmp_path / 'a')
    assert video.stems == tuple(frames)
    assert video.object_files is None
    np.testing.assert_array_equal(video.read_labels('00003'), frames['00003'])
    masks = video.read_masks('00003')
    assert masks.object_ids == (1, 2)
    np.testing.assert_array_equal(masks.masks[1], frames['00003'] == 2)


def test_frames_are_in_numerical_order(tmp_path: Path) -> None:
    blank = np.zeros((4, 5), np.uint8)
    write_maps(tmp_path, {'10': blank, '9': blank, '100': blank})
    assert open_mask_video(tmp_path).stems == ('9', '10', '100')
    write_maps(tmp_path / 'objects' / '7', {'10': blank, '9': blank})
    write_maps(tmp_path / 'objects' / '12', {'100': blank})
    assert open_mask_video(tmp_path / 'objects').stems == ('9', '10', '100')


def test_folders_of_objects_are_read_as_masks_that_may_overlap(tmp_path: Path) -> None:
    whole = np.full((6, 7), 255, np.uint8)
    write_png(tmp_path / '000' / '00000.png', whole)
    write_png(tmp_path / '002' / '00000.png', whole)
    write_png(tmp_path / '002' / '00004.png', whole)
    video = open_mask_video(tmp_path)
    assert list(video.all_files()) == [
        '000/00000.png',
        '002/00000.png',
        '002/00004.png',
    ]
    first = video.read_masks('00000')
    assert first.object_ids == (0, 2)
    assert first.masks.all()
    assert video.read_masks('00004').object_ids == (2,)


def test_suffixes_in_upper_case_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / '3' / '0.png', np.ones((4, 5), np.uint8))
    (tmp_path / '3' / '0.png').rename(tmp_path / '3' / '0.PNG')
    video = open_mask_video(tmp_path)
    assert video.read_masks('0').object_ids == (3,)
    assert open_mask_video(tmp_path / '3').read_labels('0').all()


def test_void_is_an_object_of_binary_masks_only(tmp_path: Path) -> None:
    labels = np.zeros((6, 7), np.uint8)
    labels[2:4] = 255
    write_maps(tmp_path, {'0': labels})
    masks = open_mask_video(tmp_path).read_masks('0')
    assert masks.object_ids == ()
    assert masks.void is not None
    binary = open_mask_video(tmp_path, binary=True)
    np.testing.assert_array_equal(binary.read_labels('0'), np.minimum(labels, 1))


def test_labels_of_16_bits_have_no_void(tmp_path: Path) -> None:
    labels = np.full((6, 7), 255, np.uint16)
    labels[:3] = 1000
    write_png(tmp_path / '0.png', labels)
    masks = open_mask_video(tmp_path).read_masks('0')
    assert sorted(masks.object_ids) == [255, 1000]
    assert masks.void is None


def test_videos_are_the_folders(tmp_path: Path) -> None:
    write_maps(tmp_path / 'b', square_maps(1))
    write_objects(tmp_path / 'a', square_maps(1))
    (tmp_path / '.hidden').mkdir()
    (tmp_path / 'readme.txt').touch()
    assert list_mask_videos(tmp_path) == ['a', 'b']


def test_folder_without_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipDataError, match='nowhere: is not a folder'):
        list_mask_videos(tmp_path / 'nowhere')
    with pytest.raises(ClipDataError, match='holds no folder'):
        list_mask_videos(tmp_path)


def test_folder_with_maps_and_objects_is_refused(tmp_path: Path) -> None:
    write_objects(tmp_path / 'mixed', square_maps(1))
    write_maps(tmp_path / 'mixed', square_maps(1))
    with pytest.raises(ClipDataError, match=r"also '00000.png'"):
        open_mask_video(tmp_path / 'mixed')
    write_maps(tmp_path / 'named' / 'dog', square_maps(1))
    with pytest.raises(ClipDataError, match="also 'dog'"):
        open_mask_video(tmp_path / 'named')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ClipDataError, match=r'holds no \.png'):
        open_mask_video(tmp_path / 'empty')


def test_masks_of_different_sizes_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / '1' / '0.png', np.ones((4, 5), np.uint8))
    write_png(tmp_path / '2' / '0.png', np.ones((4, 6), np.uint8))
    with pytest.raises(ClipDataError, match=r'2/0\.png: is \(4, 6\), another'):
        open_mask_video(tmp_path).read_masks('0')
