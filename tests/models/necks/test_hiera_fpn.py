"""The pyramid against the released one and the literal one."""

import pytest
import torch
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover
from projects.sam2.models.image_encoder import HieraFPN
from projects.sam2.models.layers import sine_encoding_2d
from released_weights import fill_released

CHANNELS = (2, 4, 8, 16)


def random_maps() -> list[Tensor]:
    return [torch.randn(1, c, 48 >> i, 32 >> i) for i, c in enumerate(CHANNELS)]


@pytest.fixture
def neck() -> HieraFPN:
    torch.manual_seed(0)
    return HieraFPN(in_channels=CHANNELS, out_channels=8)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('neck_*'))
@torch.no_grad()
def test_pyramid_and_positions_equal_released(case: GoldenCase) -> None:
    tiny = case.spec['tiny']
    channels = tiny['backbone_channel_list'][::-1]
    neck = HieraFPN(in_channels=channels, out_channels=tiny['d_model'])
    fill_released(neck, case.spec['salt'], 'image_encoder.neck.')
    num_images = len(case.arrays['fpn_0'])
    sides = [tiny['image_size'] // 4 >> level for level in range(4)]
    maps = [
        case.input(f'neck{level}', (num_images, channels[level], side, side))
        for level, side in enumerate(sides)
    ]
    for level, features in enumerate(neck(maps)):
        assert_close(features, case.arrays[f'fpn_{level}'], 1e-4, f'level {level}')
        size = (sides[level], sides[level])
        position = sine_encoding_2d(
            channels=tiny['d_model'], size=size, device=features.device
        )
        assert_close(position, case.arrays[f'pos_{level}'], 1e-4, f'position {level}')


@torch.no_grad()
def test_only_the_third_level_gets_the_coarser_one(neck: HieraFPN) -> None:
    maps = random_maps()
    lateral = [
        conv(features)
        for conv, features in zip(reversed(neck.lateral_convs), maps, strict=True)
    ]
    repeated = lateral[3].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = [*lateral[:2], lateral[2] + repeated, lateral[3]]
    for level, (actual, wanted) in enumerate(zip(neck(maps), expected, strict=True)):
        torch.testing.assert_close(actual, wanted, msg=f'level {level}')


@torch.no_grad()
def test_sum_is_in_float32_under_autocast(neck: HieraFPN) -> None:
    with torch.autocast('cpu', dtype=torch.bfloat16):
        types = [features.dtype for features in neck(random_maps())]
    assert types == [torch.bfloat16, torch.bfloat16, torch.float32, torch.bfloat16]


def test_another_number_of_maps_is_refused(neck: HieraFPN) -> None:
    with pytest.raises(ValueError, match='Expected 4 maps, but got 3'):
        neck(random_maps()[:3])


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r'\(2, 4\)'):
        HieraFPN(in_channels=CHANNELS, top_down_levels=(2, 4))
