"""Resizing of mask logits and masks."""

import pytest
import torch

from golden_cases import GoldenCase, assert_close, discover, unpack_masks
from projects.sam2.ops import (
    at_least_float32,
    downsample_logits,
    resize_masks,
    upsample_logits,
)


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
    ('given', 'expected'),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_half_precision_is_raised(
    given: torch.dtype, expected: torch.dtype
) -> None:
    assert at_least_float32(torch.ones(2, dtype=given)).dtype is expected
