"""Run lengths and polygons of annotation files."""

import numpy as np
import pytest

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.limits import ReadLimits
from projects.sam2.datasets.segmentations import (
    checked_rle,
    count_rle_pixels,
    decode_objects,
    decode_segmentation,
    fill_polygons,
)
from projects.sam2.ops import encode_masks

SIZE = (6, 8)
MASK = np.zeros(SIZE, bool)
MASK[1:4, 2:7] = True
SQUARE = [2, 1, 7, 1, 7, 4, 2, 4]


@pytest.fixture
def compressed() -> dict[str, object]:
    return dict(encode_masks(MASK[None])[0])


def test_run_lengths_are_decoded_compressed_and_plain(
    compressed: dict[str, object],
) -> None:
    plain = {'size': [6, 8], 'counts': [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]}
    for code in (compressed, plain):
        np.testing.assert_array_equal(decode_segmentation(code, SIZE, 'a'), MASK)
        assert count_rle_pixels(code, SIZE, 'a') == 15
    assert not decode_segmentation(None, SIZE, 'a').any()


def test_polygons_are_filled_and_joined() -> None:
    np.testing.assert_array_equal(fill_polygons([SQUARE], SIZE, 'a'), MASK)
    two = fill_polygons([SQUARE, [0, 0, 1, 0, 1, 1, 0, 1]], SIZE, 'a')
    assert two.sum() == 16
    assert two[0, 0]
    assert not fill_polygons([], SIZE, 'a').any()


@pytest.mark.parametrize(
    'code',
    [
        7,
        {},
        {'size': [6, 8]},
        {'size': [6], 'counts': [48]},
        {'size': [], 'counts': [48]},
        {'size': ['6', 8], 'counts': [48]},
        {'size': [2**40, 2**40], 'counts': [2**80]},
        {'size': [6, 9], 'counts': [54]},
        {'size': [6, 8], 'counts': [47]},
        {'size': [6, 8], 'counts': [49, -1]},
        {'size': [6, 8], 'counts': [2**63 - 1, 2**63 - 1, 50]},
        {'size': [6, 8], 'counts': [2**70]},
        {'size': [6, 8], 'counts': [True, 47]},
        {'size': [6, 8], 'counts': [[48]]},
        {'size': [6, 8], 'counts': [48.0]},
        {'size': [6, 8], 'counts': 'oooooooooooooooooooooooo'},
        {'size': [6, 8], 'counts': 'ü'},
        {'size': [6, 8], 'counts': ''},
        {'size': [6, 8], 'counts': None},
    ],
)
def test_damaged_and_hostile_run_lengths_are_refused(code: object) -> None:
    for read in (decode_segmentation, count_rle_pixels):
        with pytest.raises(ClipDataError, match=r'a\.json'):
            read(code, SIZE, 'a.json')


@pytest.mark.parametrize(
    'polygon',
    [
        [1, 1, 2, 2],
        [1, 1, 2, 2, 3],
        [1, 1, 2, 2, 3, 1e12],
        [1, 1, 2, 2, 3, -1e12],
        [1, 1, 2, 2, 3, float('nan')],
        [[1, 1], [2, 2], [3, 3]],
        ['1', 1, 2, 2, 3, 'x'],
        [1, 1, 2, 2, 3, 10**400],
        7,
    ],
)
def test_damaged_and_hostile_polygons_are_refused(polygon: object) -> None:
    with pytest.raises(ClipDataError, match=r'a\.json: a polygon is'):
        decode_segmentation([polygon], SIZE, 'a.json')


def test_only_seen_objects_are_taken_unless_others_are_asked_for(
    compressed: dict[str, object],
) -> None:
    empty = {'size': [6, 8], 'counts': [48]}
    outside = [[-5, -5, -4, -5, -4, -4]]
    codes = {3: compressed, 5: empty, 6: None, 7: [SQUARE], 8: outside}
    limits = ReadLimits(max_mask_bytes=2 * MASK.size)
    assert decode_objects(codes, None, SIZE, 'a', limits).object_ids == (3, 7)
    chosen = decode_objects(codes, (5, 3), SIZE, 'a', limits)
    assert chosen.object_ids == (5, 3)
    assert [mask.sum() for mask in chosen.masks] == [0, 15]
    with pytest.raises(ClipDataError, match='3 masks of 6 x 8'):
        decode_objects(codes, (3, 5, 7), SIZE, 'a', limits)


def test_checked_code_keeps_nothing_but_size_and_counts() -> None:
    code = {'size': [6, 8, 1], 'counts': [48], 'more': 1}
    assert set(checked_rle(code, SIZE, 'a')) == {'size', 'counts'}
