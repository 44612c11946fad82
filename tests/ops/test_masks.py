"""Areas of masks, and masks of several objects that must not overlap."""

import pytest
import torch

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.ops import NON_OVERLAPPING_LOGIT, count_pixels, non_overlapping


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
