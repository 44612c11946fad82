"""Annotation files in JSON and what may be wrong with them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray

import data_folders as folders
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.json_files import (
    check_type,
    check_unique,
    describe,
    get_field,
    parse_json,
    read_json,
)


def test_numbers_that_only_python_writes_are_read() -> None:
    written = json.dumps({'a': math.nan, 'b': [10**400, -math.inf]}).encode()
    content = parse_json(written, 'a text')
    assert math.isnan(content['a'])
    assert content['b'] == [10**400, -math.inf]


@pytest.mark.parametrize(
    'text', [b'', b'{"a": 1', b'[' * 10**6, b'\xff\xfe', b'[NaN', b'1' * 10**4]
)
def test_invalid_json_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / 'a.json').write_bytes(text)
    with pytest.raises(ClipDataError, match=r'a\.json: is not JSON.*fix'):
        read_json(tmp_path / 'a.json')
    with pytest.raises(ClipDataError, match='a text'):
        parse_json(text, 'a text')


@pytest.mark.parametrize(
    ('value', 'kind'),
    [
        ('7', int),
        (7, str),
        (True, int),
        (True, float),
        (7.5, int),
        (None, list),
        ({}, list),
        (-1, int),
        (2**63, int),
    ],
)
def test_value_of_another_type_is_refused(value: object, kind: type[Any]) -> None:
    with pytest.raises(ClipDataError, match=r'a\.json: width is'):
        get_field({'width': value}, 'width', kind, 'a.json')


def test_value_of_the_right_type_is_returned() -> None:
    assert get_field({'width': 7}, 'width', int, 'a.json') == 7
    assert check_type(7, float, 'score', 'a.json') == 7.0
    with pytest.raises(ClipDataError, match="has 7 in place of an object with 'width'"):
        get_field(7, 'width', int, 'a.json')


def test_long_values_are_shortened_in_an_error() -> None:
    assert describe([1, 2]) == 'a list of 2'
    assert len(describe('x' * 1000)) < 80


def test_duplicate_ids_are_refused() -> None:
    check_unique([3, 1, 2], 'objects', 'a.json')
    with pytest.raises(ClipDataError, match='two objects of id 3'):
        check_unique([3, 1, 3, 1], 'objects', 'a.json')


@pytest.mark.parametrize(
    ('write', 'settings'),
    [
        (folders.write_sav, {'type': 'ClipSAVDataset'}),
        (folders.write_sa1b, {'type': 'ClipSA1BDataset'}),
        (folders.write_labelme, {'type': 'ClipLabelMeDataset'}),
        (folders.write_youtube_vis, {'type': 'ClipYouTubeVISDataset'}),
        (
            folders.write_coco,
            {
                'type': 'ClipCocoDataset',
                'image_folder': 'train2017',
                'annotation_file': 'annotations/instances_train2017.json',
            },
        ),
    ],
)
def test_every_source_ignores_the_mark_of_utf8_and_refuses_utf16(
    tmp_path: Path, write: Callable[[Path], None], settings: dict[str, Any]
) -> None:
    def masks() -> NDArray[np.bool_]:
        dataset = DATASETS.build({**settings, 'data_root': str(tmp_path)})
        read: NDArray[np.bool_] = dataset.open_video('ant').read_masks(0).masks
        return read

    write(tmp_path)
    expected = masks()
    texts = {path: path.read_text() for path in tmp_path.rglob('*.json')}
    for path, text in texts.items():
        path.write_text(text, encoding='utf-8-sig')
    np.testing.assert_array_equal(masks(), expected)
    for path, text in texts.items():
        path.write_text(text, encoding='utf-16')
    with pytest.raises(ClipDataError, match=r'UTF-16; save it as UTF-8'):
        masks()
