"""Errors of clips that cannot be used, and limits on files."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import pytest

from projects.sam2.datasets.io.errors import (
    ClipDataError,
    ReadLimits,
    check_file,
    clip_errors,
    read_bytes,
)


def test_error_names_file_problem_and_remedy() -> None:
    error = ClipDataError.at('clip/00001.png', 'is empty', 'write it again')
    assert str(error) == 'clip/00001.png: is empty; write it again'
    assert isinstance(error, ValueError)


def test_error_can_be_pickled_and_rebuilt_from_its_text() -> None:
    error = ClipDataError.at('clip', 'is bad', 'mend it')
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  made here
    assert type(copied) is ClipDataError
    assert str(copied) == str(error)
    assert str(ClipDataError(str(error))) == str(error)  # as torch builds it again


@pytest.mark.parametrize(
    'error',
    [
        OverflowError('too large'),
        RecursionError('too deep'),
        MemoryError(),
        KeyError('id'),
        TypeError('no number'),
        UnicodeDecodeError('utf-8', b'', 0, 1, 'x'),
        struct.error('too short'),
        zlib.error('no header'),
        cv2.error('no image'),
        OSError(36, 'File name too long'),
        SyntaxError('broken PNG'),
    ],
)
def test_any_exception_of_a_reader_is_an_error_of_its_clip(error: Exception) -> None:
    pattern = f'ant: .*{type(error).__name__}'
    with pytest.raises(ClipDataError, match=pattern) as raised, clip_errors('ant'):
        raise error
    assert raised.value.__cause__ is error


def test_missing_package_is_not_an_error_of_the_clip() -> None:
    with pytest.raises(ModuleNotFoundError), clip_errors('ant'):
        raise ModuleNotFoundError("No module named 'pycocotools'")


def test_long_texts_are_shortened() -> None:
    error = ClipDataError.at('/data/' + 'x' * 2**20, 'has ' + 'y' * 2**20, 'mend it')
    assert len(str(error)) < 1000
    assert str(error).startswith('/data/xxx')
    assert str(error).endswith('mend it')


def test_limits_of_a_config_replace_the_defaults() -> None:
    assert ReadLimits.of({'max_pixels': 5}).max_pixels == 5
    assert ReadLimits.of(None) == ReadLimits()


@pytest.mark.parametrize('settings', [{'max_pixel': 5}, {'max_pixels': 0}])
def test_unknown_and_zero_limits_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r'max_pixels, max_file_size'):
        ReadLimits.of(settings)


@pytest.mark.parametrize(('height', 'width'), [(3, 4), (0, 4), (-1, -1)])
def test_empty_and_too_large_images_are_refused(height: int, width: int) -> None:
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


def test_pipe_and_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path, tmp_path / 'a\0b'):
        with pytest.raises(ClipDataError, match='replace the file'):
            read_bytes(path)


def test_remedy_for_a_missing_file_is_to_complete_the_data(
    tmp_path: Path,
) -> None:
    (tmp_path / 'file').write_bytes(b'abc')
    for path in (tmp_path / 'gone', tmp_path / 'file' / 'below'):
        with pytest.raises(ClipDataError, match=r'is missing; complete .* the list'):
            read_bytes(path)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'abc')
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    assert read_bytes(tmp_path / 'link') == b'abc'
    assert check_file(tmp_path / 'link').st_size == 3
