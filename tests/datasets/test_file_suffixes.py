"""Endings of files: what is listed can be opened, whatever their case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image

import data_folders as folders
from projects.sam2.apis.frame_readers import open_frames
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.listing import (
    IMAGE_SUFFIXES,
    LISTED_SUFFIXES,
    MASK_SUFFIXES,
    find_file,
    is_name,
    without_suffix,
)
from projects.sam2.datasets.io.mask_folders import open_mask_video


@pytest.mark.parametrize('spell', [str.lower, str.upper, str.title])
@pytest.mark.parametrize(
    ('write', 'settings'),
    [
        (folders.write_sav, {'type': 'ClipSAVDataset', 'kinds': ('manual', 'auto')}),
        (folders.write_sa1b, {'type': 'ClipSA1BDataset'}),
        (folders.write_labelme, {'type': 'ClipLabelMeDataset'}),
        (folders.write_label_images, {'type': 'ClipLabelImageDataset'}),
        (folders.write_object_folders, {'type': 'ClipObjectFolderDataset'}),
    ],
)
def test_listed_files_are_opened_whatever_the_case_of_their_suffix(
    tmp_path: Path,
    write: Callable[[Path], None],
    settings: dict[str, Any],
    spell: Callable[[str], str],
) -> None:
    write(tmp_path)
    for path in [path for path in tmp_path.rglob('*') if path.is_file()]:
        path.rename(path.with_suffix(spell(path.suffix)))
    dataset = DATASETS.build({**settings, 'data_root': str(tmp_path)})
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    assert video.read_frame(0).shape == (*folders.SIZE, 3)
    assert video.read_masks(0).object_ids


def write_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image in the format that the ending names, in whatever case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(
        path, Image.registered_extensions()[path.suffix.lower()]
    )


@pytest.mark.parametrize('spell', [str.lower, str.upper])
@pytest.mark.parametrize('ending', IMAGE_SUFFIXES)
def test_every_source_and_predictor_reads_frames_of_every_format(
    tmp_path: Path, ending: str, spell: Callable[[str], str]
) -> None:
    grey = np.full((*folders.SIZE, 3), 90, np.uint8)
    labels = folders.object_masks(0)[0].astype(np.uint8)
    for time in range(2):
        write_pixels(tmp_path / 'JPEGImages/ant' / f'{time:05d}{spell(ending)}', grey)
        write_pixels(tmp_path / 'Annotations/ant' / f'{time:05d}.png', labels)
        write_pixels(tmp_path / 'Annotations/1/ant/000' / f'{time:05d}.png', labels)
    for name, write in (('sa1b', folders.write_sa1b), ('lm', folders.write_labelme)):
        write(tmp_path / name)
        (tmp_path / name / 'ant.jpg').unlink()
        write_pixels(tmp_path / name / f'ant{spell(ending)}', grey)
    settings: list[dict[str, Any]] = [
        {'type': 'ClipPaletteDataset'},
        {
            'type': 'ClipObjectFolderDataset',
            'frame_folder': 'JPEGImages',
            'mask_folder': 'Annotations/1',
        },
        {'type': 'ClipSA1BDataset', 'image_folder': 'sa1b'},
        {
            'type': 'ClipLabelMeDataset',
            'image_folder': 'lm',
            'annotation_folder': 'lm',
        },
    ]
    for setting in settings:
        dataset = DATASETS.build({**setting, 'data_root': str(tmp_path)})
        video = dataset.open_video('ant')
        assert abs(int(video.read_frame(0)[0, 0, 0]) - 90) < 3
        assert video.read_masks(0).object_ids
    reader = open_frames(tmp_path / 'JPEGImages/ant')
    assert reader.num_frames == 2
    assert abs(int(reader.read(1)[0, 0, 0]) - 90) < 3


@pytest.mark.parametrize('spell', [str.lower, str.upper])
@pytest.mark.parametrize('ending', MASK_SUFFIXES)
def test_every_reader_of_masks_reads_every_lossless_format(
    tmp_path: Path, ending: str, spell: Callable[[str], str]
) -> None:
    folders.write_frames(tmp_path / 'frames')
    folders.write_image(tmp_path / 'images' / 'ant.jpg')
    labels = folders.object_masks(0)[0].astype(np.uint8)
    name = f'00000{spell(ending)}'
    for folder in ('masks/ant', 'objects/ant/000'):
        write_pixels(tmp_path / folder / name, labels)
    write_pixels(tmp_path / 'labels' / f'ant{spell(ending)}', labels)
    settings: list[dict[str, Any]] = [
        {'type': 'ClipPaletteDataset', 'mask_folder': 'masks'},
        {'type': 'ClipObjectFolderDataset', 'mask_folder': 'objects'},
    ]
    settings = [{'frame_folder': 'frames', **each} for each in settings]
    settings.append({'type': 'ClipLabelImageDataset'})
    settings.append({'type': 'ClipLabelImageDataset', 'label_suffix': spell(ending)})
    for setting in settings:
        dataset = DATASETS.build({**setting, 'data_root': str(tmp_path)})
        masks = dataset.open_video('ant').read_masks(0)
        np.testing.assert_array_equal(masks.masks, labels[None] > 0)
    for folder in ('masks', 'objects'):
        video = open_mask_video(tmp_path / folder / 'ant')
        np.testing.assert_array_equal(video.read_masks('00000').masks, labels[None] > 0)


def test_frames_and_masks_may_share_a_folder(
    tmp_path: Path,
) -> None:
    folders.write_frames(tmp_path / 'all')
    labels = folders.object_masks(0)[0].astype(np.uint8)
    write_pixels(tmp_path / 'all/ant/00000.png', labels)
    write_pixels(tmp_path / 'all/bee.png', labels)
    folders.write_image(tmp_path / 'all/bee.tif')
    root = {'data_root': str(tmp_path)}
    shared = {'frame_folder': 'all', 'mask_folder': 'all'}
    video = DATASETS.build({'type': 'ClipPaletteDataset', **shared, **root})
    assert video.open_video('ant').annotated_frames() == (0,)
    shared = {'image_folder': 'all', 'label_folder': 'all'}
    images = DATASETS.build({'type': 'ClipLabelImageDataset', **shared, **root})
    assert images.open_video('bee').read_masks(0).object_ids


def test_names_in_lists_may_have_a_suffix() -> None:
    assert set(IMAGE_SUFFIXES) < set(LISTED_SUFFIXES)
    for suffix in LISTED_SUFFIXES:
        assert without_suffix(f'a/b.c{suffix}') == 'a/b.c'
        assert without_suffix(f'b{suffix.upper()}') == 'b'
    assert without_suffix('b.c') == 'b.c'


@pytest.mark.parametrize('name', ['.jpg', 'a/.jpg', '..jpg', '...jpg', 'a/...jpg'])
def test_suffix_alone_is_not_removed(name: str) -> None:
    assert without_suffix(name) == name
    assert not is_name(name[: -len('.jpg')])


def test_file_is_found_by_its_suffixes(tmp_path: Path) -> None:
    suffixes = ('.jpg', '.png')
    assert find_file(tmp_path / 'a', suffixes) == tmp_path / 'a.jpg'
    assert find_file(tmp_path / 'gone' / 'a', suffixes).name == 'a.jpg'
    for name in ('a.Png', 'ab.jpg', 'a.jpg.bak'):
        (tmp_path / name).touch()
    (tmp_path / 'a.Jpg').mkdir()
    assert find_file(tmp_path / 'a', suffixes).name == 'a.Png'


@pytest.mark.parametrize(
    'names', [('a.jpg', 'a.JPG'), ('a.jpg', 'a.png'), ('a.Jpg', 'a.pNg')]
)
def test_two_files_of_the_same_name_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ClipDataError, match=' and '.join(names)):
        find_file(tmp_path / 'a', ('.jpg', '.png'))
    (other, left) = (tmp_path / name for name in names)
    assert find_file(tmp_path / 'a', ('.jpg', '.png'), other_than=other) == left
