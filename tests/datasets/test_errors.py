"""The error of unusable clips."""

import pickle
import struct
import zlib

import cv2
import pytest

from projects.sam2.datasets import ClipDataError
from projects.sam2.datasets.io.errors import clip_errors


def test_it_names_place_problem_and_remedy() -> None:
    error = ClipDataError.at('clip/00001.png', 'is empty', 'write it again')
    assert str(error) == 'clip/00001.png: is empty; write it again'
    assert isinstance(error, ValueError)


def test_a_worker_can_hand_it_to_the_main_process() -> None:
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
def test_whatever_a_reader_raises_is_an_error_of_its_clip(error: Exception) -> None:
    told = f'ant: .*{type(error).__name__}'
    with pytest.raises(ClipDataError, match=told) as raised, clip_errors('ant'):
        raise error
    assert raised.value.__cause__ is error


def test_missing_package_is_not_the_fault_of_a_clip() -> None:
    with pytest.raises(ModuleNotFoundError), clip_errors('ant'):
        raise ModuleNotFoundError("No module named 'pycocotools'")


def test_name_of_a_megabyte_is_cut() -> None:
    error = ClipDataError.at('/data/' + 'x' * 2**20, 'has ' + 'y' * 2**20, 'mend it')
    assert len(str(error)) < 1000
    assert str(error).startswith('/data/xxx')
    assert str(error).endswith('mend it')
