"""Small holes and specks, found and repaired."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from projects.sam2.ops import (
    fill_holes,
    remove_specks,
    small_components,
    without_small_regions,
)
from projects.sam2.ops.masks import small_components_on_device


def _ring(hole: int, *, size: int = 12) -> NDArray[np.bool_]:
    """A square with a hole of ``hole`` pixels in a row."""
    mask = np.zeros((size, size), dtype=bool)
    mask[2:10, 2:10] = True
    mask[5, 3 : 3 + hole] = False
    return mask


def test_components_up_to_the_area_are_small() -> None:
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, 1, 1:4] = True
    masks[0, 0, 5, 1:5] = True
    masks[1, 0, 0, 0] = True
    found = small_components(masks, 3)
    assert found[0, 0].nonzero().tolist() == [[1, 1], [1, 2], [1, 3]]
    assert found[1].sum() == 1


def test_diagonal_neighbours_are_connected() -> None:
    mask = torch.eye(6, dtype=torch.bool)
    assert not small_components(mask, 5).any()
    assert torch.equal(small_components(mask, 6), mask)


@pytest.mark.parametrize('max_area', [0, 0.5, 1, 3.9, 8, 64])
@pytest.mark.parametrize('size', [(1, 1), (5, 9), (40, 33)])
def test_small_components_on_a_device_are_those_of_opencv(
    *, max_area: float, size: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(0)
    for density in (0.05, 0.2, 0.35, 0.6, 1.0):
        masks = torch.rand(3, 1, *size, generator=draw) < density
        found = small_components_on_device(masks, max_area)
        assert torch.equal(found, small_components(masks, max_area))


def test_no_mask_has_no_component() -> None:
    nothing = torch.zeros(0, 1, 4, 4, dtype=torch.bool)
    for find in (small_components, small_components_on_device):
        assert find(nothing, 2).shape == nothing.shape


@pytest.mark.parametrize(('hole', 'closed'), [(3, True), (4, False)])
def test_holes_up_to_the_area_are_closed(*, hole: int, closed: bool) -> None:
    mask = torch.from_numpy(_ring(hole))
    logits = torch.where(mask, 5.0, -5.0)
    filled = fill_holes(logits, max_area=3, value=0.1)
    assert bool((filled[5, 3] > 0).item()) is closed
    changed = filled != logits
    assert changed.sum() == (hole if closed else 0)
    assert (filled[changed] == torch.tensor(0.1)).all()


def test_outside_is_no_hole() -> None:
    logits = torch.full((20, 20), -1.0)
    logits[:, 5] = 1.0
    assert torch.equal(fill_holes(logits, max_area=99, value=0.1), logits)


@pytest.mark.parametrize(('speck', 'dropped'), [(2, True), (3, False)])
def test_specks_up_to_the_area_are_dropped(*, speck: int, dropped: bool) -> None:
    logits = torch.full((3, 1, 10, 10), -2.0)
    logits[:, :, 1, :speck] = 2.0
    cleaned = remove_specks(logits, max_area=2, value=-10.0)
    assert ((cleaned > 0).sum() == 0).item() is dropped
    assert ((cleaned == -10.0).sum() == 3 * speck).item() is dropped


def test_threshold_tells_where_masks_begin() -> None:
    logits = torch.full((9, 9), 3.0)
    logits[4, 4] = 1.0
    assert torch.equal(fill_holes(logits, max_area=2, value=9.0), logits)
    filled = fill_holes(logits, max_area=2, value=9.0, threshold=2.0)
    assert filled[4, 4] == 9.0


def test_regions_below_the_area_go_and_others_stay() -> None:
    mask = np.pad(_ring(3), ((0, 0), (0, 8)))
    mask[1, 14:17] = True
    cleaned = without_small_regions(mask, 4)
    assert cleaned[5, 3:6].all()
    assert not cleaned[:, 12:].any()
    assert np.array_equal(without_small_regions(mask, 3), mask)


def test_largest_part_stays_where_all_are_small() -> None:
    mask = np.zeros((10, 30), dtype=bool)
    mask[1, 1:4] = True
    mask[8, 20:25] = True
    kept = without_small_regions(mask, 20)
    assert kept.sum() == 5
    assert kept[8, 20:25].all()


def test_empty_mask_stays_empty() -> None:
    assert not without_small_regions(np.zeros((5, 80), dtype=bool), 10).any()
