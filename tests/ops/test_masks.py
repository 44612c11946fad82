"""Areas of masks, and masks of several objects that must not overlap."""

import pytest
import torch

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.evaluation import region_similarity
from projects.sam2.ops import (
    NON_OVERLAPPING_LOGIT,
    count_pixels,
    mask_ious,
    non_overlapping,
)


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
    found = mask_ious(first, second, void if with_void else None)
    expected = [
        region_similarity(
            one[0].numpy(), other[0].numpy(), void[0, 0].numpy() if with_void else None
        )
        for one, other in zip(first, second, strict=True)
    ]
    assert found.tolist() == expected
    assert expected[2] == 1.0
