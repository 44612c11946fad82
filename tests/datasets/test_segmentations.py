"""Run lengths and polygons of annotation files."""

import time
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.sources.segmentations import (
    checked_rle,
    count_rle_pixels,
    decode_objects,
    decode_segmentation,
    fill_polygons,
    seen_objects,
)
from projects.sam2.ops import decode_masks, encode_masks

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
    with pytest.raises(ClipDataError, match=r'a\.json: a polygon (has|is)'):
        decode_segmentation([polygon], SIZE, 'a.json')
    codes = {4: [SQUARE], 7: [SQUARE, polygon]}
    with pytest.raises(ClipDataError, match=r'a\.json, object 7: a polygon (has|is)'):
        seen_objects(codes, SIZE, 'a.json')


def test_polygons_of_fewer_than_three_corners_are_empty() -> None:
    flat = [[], [1, 1], [1, 1, 5, 5]]
    assert not fill_polygons(flat, SIZE, 'a').any()
    drawn = fill_polygons([flat[2], SQUARE, flat[1]], SIZE, 'a')
    np.testing.assert_array_equal(drawn, MASK)


def zigzag(num_corners: int, side: int) -> list[float]:
    """Edges from one side of a square frame to the other, as far as is allowed."""
    return [v for i in range(num_corners) for v in (2 * side if i % 2 else -side, i)]


def test_edges_that_would_take_gigabytes_are_refused() -> None:
    side = 4000
    size = (side, side)
    long = zigzag(3000, side)  # 36 million pixels of edges
    parts = [zigzag(700, side) for _ in range(3)]  # each of them may be drawn
    many = {number: [part] for number, part in enumerate(parts)}
    tracemalloc.start()
    for read in (
        lambda: fill_polygons([long], size, 'a.json'),
        lambda: fill_polygons(parts, size, 'a.json'),
        lambda: seen_objects(many, size, 'a.json'),
        lambda: decode_objects(many, (0, 1, 2), size, 'a.json', ReadLimits()),
    ):
        with pytest.raises(ClipDataError, match=r'a\.json.* edges are .* pixels long'):
            read()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_thousands_of_polygons_are_joined_quickly_and_exactly() -> None:
    side = 300
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, side - 6, (20_000, 1, 2)) + rng.uniform(0, 6, (3, 2))
    polygons = corners.reshape(-1, 6).tolist()
    began = time.monotonic()
    joined = fill_polygons(polygons, (side, side), 'a')
    assert time.monotonic() - began < 10
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons[:300], side, side))
    expected = decode_masks([merged])[0]
    first = fill_polygons(polygons[:300], (side, side), 'a')
    np.testing.assert_array_equal(first, expected)
    assert joined[first].all()


def test_visible_objects_are_decoded_unless_others_are_requested(
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


def test_checked_run_lengths_have_only_size_and_counts() -> None:
    code = {'size': [6, 8, 1], 'counts': [48], 'more': 1}
    assert set(checked_rle(code, SIZE, 'a')) == {'size', 'counts'}
