"""Limits that are checked before anything is read or decoded."""

import os
from pathlib import Path

import pytest

from projects.sam2.datasets.io.errors import (
    ClipDataError,
    ReadLimits,
    check_file,
    read_bytes,
)


def test_limits_of_a_config_replace_the_usual_ones() -> None:
    assert ReadLimits.of({'max_pixels': 5}).max_pixels == 5
    assert ReadLimits.of(None) == ReadLimits()


@pytest.mark.parametrize('settings', [{'max_pixel': 5}, {'max_pixels': 0}])
def test_unknown_and_empty_limits_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r'max_pixels, max_file_size'):
        ReadLimits.of(settings)


@pytest.mark.parametrize(('height', 'width'), [(3, 4), (0, 4), (-1, -1)])
def test_image_must_have_pixels_but_not_too_many(height: int, width: int) -> None:
    limits = ReadLimits(max_pixels=11)
    limits.check_pixels('a.png', 1, 11)
    with pytest.raises(ClipDataError, match=rf'a\.png: claims {height} x {width}'):
        limits.check_pixels('a.png', height, width)


def test_masks_must_fit_into_memory() -> None:
    limits = ReadLimits(max_mask_bytes=24)
    limits.check_masks('a.json', 2, (3, 4))
    with pytest.raises(ClipDataError, match=r'3 masks of 3 x 4 need 36 bytes.*raise'):
        limits.check_masks('a.json', 3, (3, 4))


def test_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'sparse.json'
    with path.open('wb') as file:
        file.truncate(2**40)  # takes no space
    with pytest.raises(ClipDataError, match=r'sparse\.json.*max_file_size=2147483648'):
        read_bytes(path)


def test_pipe_and_folder_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path, tmp_path / 'a\0b'):
        with pytest.raises(ClipDataError, match='replace the file'):
            read_bytes(path)


def test_missing_file_is_not_to_be_replaced_but_found_or_unlisted(
    tmp_path: Path,
) -> None:
    (tmp_path / 'file').write_bytes(b'abc')
    for path in (tmp_path / 'gone', tmp_path / 'file' / 'below'):
        with pytest.raises(ClipDataError, match=r'is missing; complete .* the list'):
            read_bytes(path)


def test_link_of_the_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'abc')
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    assert read_bytes(tmp_path / 'link') == b'abc'
    assert check_file(tmp_path / 'link').st_size == 3
