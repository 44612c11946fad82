"""Endings of files: what is listed can be opened, whatever their case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import DATASETS

import data_folders as folders
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.file_endings import (
    LISTED_SUFFIXES,
    find_file,
    is_name,
    without_suffix,
)
from projects.sam2.datasets.reading import IMAGE_SUFFIXES


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
def test_files_that_are_listed_are_opened_whatever_the_case_of_their_ending(
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


def test_list_may_carry_the_ending_of_any_image_that_is_read() -> None:
    assert set(IMAGE_SUFFIXES) < set(LISTED_SUFFIXES)
    for suffix in LISTED_SUFFIXES:
        assert without_suffix(f'a/b.c{suffix}') == 'a/b.c'
        assert without_suffix(f'b{suffix.upper()}') == 'b'
    assert without_suffix('b.c') == 'b.c'


@pytest.mark.parametrize('name', ['.jpg', 'a/.jpg', '..jpg', '...jpg', 'a/...jpg'])
def test_no_name_of_a_folder_is_left_of_an_ending(name: str) -> None:
    assert without_suffix(name) == name
    assert not is_name(name[: -len('.jpg')])


def test_first_ending_is_found_first_and_stands_in_for_none(tmp_path: Path) -> None:
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
def test_two_files_of_one_name_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ClipDataError, match=' and '.join(names)):
        find_file(tmp_path / 'a', ('.jpg', '.png'))
    (other, left) = (tmp_path / name for name in names)
    assert find_file(tmp_path / 'a', ('.jpg', '.png'), other_than=other) == left
