"""A folder of masks for each object."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.sam2.datasets import ClipDataError, ClipObjectFolderDataset
from projects.sam2.structures import VideoSource


@pytest.fixture
def data_root(tmp_path: Path, write_davis_clip: Callable[..., None]) -> Path:
    """A clip with overlapping objects 1 and 8; the second lacks a frame."""
    write_davis_clip(tmp_path, 'ant')
    (tmp_path / 'JPEGImages').rename(tmp_path / 'JPEGImages_24fps')
    for folder, value, times in (('000', 1, (0, 2, 4)), ('007', 255, (2, 4))):
        place = tmp_path / 'Annotations_6fps' / 'ant' / folder
        place.mkdir(parents=True)
        for time in times:
            labels = np.zeros((24, 32), np.uint8)
            labels[3 : 3 + time, 5:20] = value
            Image.fromarray(labels).save(place / f'{time:05d}.png')
    return tmp_path


def test_ids_are_numbers_plus_one_and_masks_may_overlap(data_root: Path) -> None:
    dataset = ClipObjectFolderDataset(data_root=str(data_root))
    source = dataset.open_video('ant')
    assert isinstance(source, VideoSource)
    assert source.object_ids() == (1, 8)
    assert source.annotated_frames() == (0, 2, 4)
    masks = source.read_masks(4)
    assert masks is not None
    assert masks.object_ids == (1, 8)
    assert masks.masks.sum(axis=(1, 2)).tolist() == [60, 60]
    assert source.read_masks(1) is None
    assert len(pickle.dumps(source)) < 2000


def test_object_without_file_or_pixel_is_not_visible(data_root: Path) -> None:
    source = ClipObjectFolderDataset(data_root=str(data_root)).open_video('ant')
    seen, requested = source.read_masks(0), source.read_objects(0, (8, 1))
    assert seen is not None
    assert requested is not None
    assert seen.object_ids == ()  # object 1 has an empty file
    assert requested.object_ids == (8, 1)
    assert not requested.masks.any()


def test_lists_and_folders_are_options(data_root: Path) -> None:
    (data_root / 'val.txt').write_text('ant\nbee\n')
    (data_root / 'not.txt').write_text('bee\n')
    (data_root / 'Annotations_6fps').rename(data_root / 'masks')
    dataset = ClipObjectFolderDataset(
        data_root=str(data_root),
        frame_folder='JPEGImages_24fps',
        mask_folder='masks',
        file_list='val.txt',
        exclude_list='not.txt',
        max_bad_share=0.0,
    )
    assert dataset.list_videos() == ['ant']
    assert dataset.open_video('ant').object_ids() == (1, 8)


@pytest.mark.parametrize(
    ('folder', 'reason'),
    [
        ('7', 'two objects of id 8'),
        ('cat', "a folder 'cat'.*number of its own"),
        ('²', 'number of its own'),
        ('9' * 30, 'number of its own'),
    ],
)
def test_folder_whose_name_is_not_a_unique_number_is_refused(
    data_root: Path, folder: str, reason: str
) -> None:
    (data_root / 'Annotations_6fps' / 'ant' / folder).mkdir()
    dataset = ClipObjectFolderDataset(data_root=str(data_root))
    with pytest.raises(ClipDataError, match=f'Annotations_6fps/ant: .*{reason}'):
        dataset.open_video('ant')


def test_missing_masks_wrong_size_and_too_many_are_refused(data_root: Path) -> None:
    dataset = ClipObjectFolderDataset(data_root=str(data_root))
    with pytest.raises(ClipDataError, match='bee'):
        dataset.open_video('bee')
    mask = data_root / 'Annotations_6fps' / 'ant' / '007' / '00004.png'
    Image.new('L', (5, 4)).save(mask)
    with pytest.raises(ClipDataError, match=r'007/00004\.png.*\(4, 5\).*size of its'):
        dataset.open_video('ant').read_masks(4)
    small = ClipObjectFolderDataset(
        data_root=str(data_root), limits={'max_mask_bytes': 1000}
    )
    with pytest.raises(ClipDataError, match='2 masks of 24 x 32'):
        small.open_video('ant').read_masks(4)
