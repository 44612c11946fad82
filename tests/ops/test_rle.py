"""Masks as COCO run-length encoding."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from projects.sam2.ops import decode_masks, encode_masks, plain_runs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mask() -> NDArray[np.bool_]:
    """A mask of three rows; down its columns it reads 0 1 0 and 1 1 0."""
    return np.array([[[False, True], [True, True], [False, False]]])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 17), st.integers(1, 9))
def test_masks_survive_a_round_trip_through_json(
    seed: int, num_objects: int, height: int, width: int
) -> None:
    shape = (num_objects, height, width)
    masks = np.random.default_rng(seed).random(shape) > 0.4
    encoded = json.loads(json.dumps(encode_masks(masks)))
    decoded = decode_masks(encoded)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, masks)


# pycocotools converts arrays the way of numpy 1.
@pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
@pytest.mark.parametrize('radius', [0, 3, 90, 400])
def test_long_and_short_runs_are_read_as_pycocotools_reads_them(radius: int) -> None:
    y, x = np.mgrid[:300, :500]
    disc = (y - 120) ** 2 + (x - 240) ** 2 < radius**2
    holes = np.random.default_rng(radius).random(disc.shape) > 0.98
    encoded = encode_masks(np.stack([disc, disc & ~holes, disc ^ holes]))
    expected = coco_mask.decode(encoded)  # type: ignore[no-untyped-call]  # a C module
    assert np.array_equal(decode_masks(encoded), expected.transpose(2, 0, 1))


def test_runs_are_counted_down_the_columns(mask: NDArray[np.bool_]) -> None:
    plain = {'size': [3, 2], 'counts': [1, 1, 1, 2, 1]}
    assert np.array_equal(decode_masks([plain]), mask)


def test_runs_are_given_as_plain_numbers(mask: NDArray[np.bool_]) -> None:
    runs = plain_runs(encode_masks(mask)[0])
    assert runs == {'size': [3, 2], 'counts': [1, 1, 1, 2, 1]}
    inverse = plain_runs(encode_masks(~mask)[0])
    assert inverse['counts'] == [0, 1, 1, 1, 2, 1]


def test_counts_may_be_bytes(mask: NDArray[np.bool_]) -> None:
    code = encode_masks(mask)[0]
    in_bytes = {'size': code['size'], 'counts': code['counts'].encode()}
    assert np.array_equal(decode_masks([in_bytes]), mask)


@pytest.mark.parametrize('counts', ['', '11', [1, 1, 1, 2], [9, -3], 'o'])
def test_damaged_runs_are_refused(counts: str | list[int]) -> None:
    with pytest.raises(ValueError, match='do not fill a mask of 3 x 2'):
        decode_masks([{'size': [3, 2], 'counts': counts}])


def test_masks_of_two_sizes_are_refused() -> None:
    codes = encode_masks(np.ones((1, 2, 3), bool)) + encode_masks(
        np.ones((1, 3, 2), bool)
    )
    with pytest.raises(ValueError, match=r'\(2, 3\), \(3, 2\)'):
        decode_masks(codes)


def test_nothing_to_decode_is_refused() -> None:
    with pytest.raises(ValueError, match='one size'):
        decode_masks([])


def test_package_imports_without_pycocotools() -> None:
    code = "import sys; sys.modules['pycocotools'] = None; import projects.sam2"
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT, timeout=120)
