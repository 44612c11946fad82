"""Areas, overlaps, sizes and small components of masks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover,
    unpack_masks,
)
from projects.sam2.evaluation import region_similarity
from projects.sam2.ops import (
    NON_OVERLAPPING_LOGIT,
    at_least_float32,
    count_pixels,
    downsample_logits,
    fill_holes,
    mask_ious,
    non_overlapping,
    remove_specks,
    resize_masks,
    small_components,
    upsample_logits,
    without_small_regions,
)
from projects.sam2.ops.masks import small_components_on_device


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_non_overlapping_masks_equal_the_released_ones(case: GoldenCase) -> None:
    logits = torch.from_numpy(case.arrays['nonoverlap_in'])
    expected = case.arrays['nonoverlap_out']
    assert_exact(non_overlapping(logits), expected, 'non-overlapping')


def test_a_pixel_belongs_to_at_most_one_object() -> None:
    logits = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    separate = non_overlapping(logits)
    assert ((separate > 0).sum(dim=0) <= 1).all()
    assert torch.equal(separate.amax(dim=0), logits.amax(dim=0))


def test_losers_keep_logits_that_are_lower_still() -> None:
    logits = torch.tensor([3.0, 1.0, -40.0]).view(3, 1, 1, 1)
    expected = [3.0, NON_OVERLAPPING_LOGIT, -40.0]
    assert non_overlapping(logits).flatten().tolist() == expected


def test_an_object_alone_stays_as_it_is() -> None:
    logits = torch.full((1, 1, 2, 2), -3.0)
    assert torch.equal(non_overlapping(logits), logits)


def test_areas_are_counted_whatever_the_layout() -> None:
    masks = torch.rand(3, 2, 300, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(count_pixels(masks), masks.flatten(2).sum(dim=2))
    turned = masks.transpose(0, 1)[..., ::2]
    assert torch.equal(count_pixels(turned), turned.sum(dim=(2, 3)))


@pytest.mark.parametrize('with_void', [False, True])
def test_iou_of_masks_is_the_region_similarity(*, with_void: bool) -> None:
    noise = torch.Generator().manual_seed(4)
    first, second = torch.rand(2, 3, 1, 7, 9, generator=noise) < 0.4
    first[2], second[2] = False, False
    void = torch.rand(1, 1, 7, 9, generator=noise) < 0.3
    actual = mask_ious(first, second, void if with_void else None)
    expected = [
        region_similarity(
            mask[0].numpy(), truth[0].numpy(), void[0, 0].numpy() if with_void else None
        )
        for mask, truth in zip(first, second, strict=True)
    ]
    assert actual[:, 0].tolist() == expected
    assert expected[2] == 1.0


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_a_given_mask_shrinks_as_in_the_released_code(case: GoldenCase) -> None:
    masks = unpack_masks(case.arrays['masks_bits'], (3, 256, 256))[:, None]
    low = downsample_logits(masks.float() * 20 - 10, (64, 64))
    assert_close(low, case.arrays['mask_as_output_low'], 1e-4, 'mask as output')


def test_upsampling_interpolates_between_pixel_centres() -> None:
    logits = torch.tensor([[[[0.0, 8.0]]]])
    enlarged = upsample_logits(logits, (1, 8))
    expected = [0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 8.0, 8.0]
    assert enlarged.flatten().tolist() == pytest.approx(expected)


def test_same_size_is_not_copied() -> None:
    logits = torch.randn(1, 3, 5, 7)
    masks = logits > 0
    assert upsample_logits(logits, (5, 7)) is logits
    assert resize_masks(masks, (5, 7)) is masks


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_shrinking_keeps_the_type_and_the_mean(dtype: torch.dtype) -> None:
    logits = torch.full((2, 1, 32, 48), 3.5, dtype=dtype)
    small = downsample_logits(logits, (8, 12))
    assert small.dtype is dtype
    assert torch.equal(small, torch.full((2, 1, 8, 12), 3.5, dtype=dtype))


def test_shrinking_sees_every_pixel() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::4] = 1
    shrunk = downsample_logits(stripes, (16, 16))
    assert shrunk.mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize('size', [(8, 8), (32, 32), (11, 23)], ids=str)
def test_a_resized_mask_keeps_its_share_of_the_frame(size: tuple[int, int]) -> None:
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    masks[0, 0, :, :8] = True
    resized = resize_masks(masks, size)
    assert resized.dtype is torch.bool
    assert resized.shape == (2, 1, *size)
    share = resized[0].float().mean().item()
    assert share == pytest.approx(0.5, abs=0.5 / size[1])
    assert not resized[1].any()


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_half_precision_is_raised(
    dtype: torch.dtype, expected: torch.dtype
) -> None:
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype is expected


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
    actual = small_components(masks, 3)
    assert actual[0, 0].nonzero().tolist() == [[1, 1], [1, 2], [1, 3]]
    assert actual[1].sum() == 1


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
        actual = small_components_on_device(masks, max_area)
        assert torch.equal(actual, small_components(masks, max_area))


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
    cleaned = without_small_regions(mask, 20)
    assert cleaned.sum() == 5
    assert cleaned[8, 20:25].all()


def test_empty_mask_stays_empty() -> None:
    assert not without_small_regions(np.zeros((5, 80), dtype=bool), 10).any()


def test_iou_of_two_empty_masks_is_what_the_caller_says() -> None:
    empty = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    assert mask_ious(empty, empty[:, :1]).tolist() == [[1.0] * 3]
    assert mask_ious(empty, empty[:, :1], empty_iou=0.0).tolist() == [[0.0] * 3]
