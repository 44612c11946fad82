"""The feature pyramid, and backbone and neck together."""

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from golden_cases import GoldenCase, assert_close, assert_exact, discover
from golden_models import fill_released, released_keys, released_shapes
from projects.sam2.models.image_encoder import HieraFPN, SAM2ImageEncoder
from projects.sam2.models.layers import sine_encoding_2d

# What the released configs leave to the defaults of the released code.
RELEASED_DEFAULTS: dict[str, Any] = {
    'stages': (2, 3, 16, 3),
    'global_att_blocks': (12, 16, 20),
    'window_spec': (8, 4, 14, 7),
    'window_pos_embed_bkg_spatial_size': (14, 14),
}


def encoder_config(trunk: dict[str, Any], out_channels: int) -> dict[str, Any]:
    trunk = {**RELEASED_DEFAULTS, **trunk}
    return {
        'type': 'SAM2ImageEncoder',
        'backbone': {
            'type': 'Hiera',
            'embed_dims': trunk['embed_dim'],
            'num_heads': trunk['num_heads'],
            'stages': trunk['stages'],
            'global_attention_blocks': trunk['global_att_blocks'],
            'window_sizes': trunk['window_spec'],
            'position_embedding_size': trunk['window_pos_embed_bkg_spatial_size'],
        },
        'neck': {
            'type': 'HieraFPN',
            'in_channels': [trunk['embed_dim'] << level for level in range(4)],
            'out_channels': out_channels,
        },
    }


@pytest.fixture
def encoder() -> SAM2ImageEncoder:
    trunk = {'embed_dim': 8, 'num_heads': 1, 'stages': (1, 1, 1, 1)}
    config = encoder_config({**trunk, 'global_att_blocks': (2,)}, 16)
    built: SAM2ImageEncoder = MODELS.build(config)
    return built


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_weights_have_released_names_and_shapes(case: GoldenCase) -> None:
    expected = released_shapes(case, 'image_encoder.')
    config = encoder_config(case.spec['model_config']['image_encoder']['trunk'], 256)
    with torch.device('meta'):
        encoder = MODELS.build(config)
    names = released_keys(encoder, 'image_encoder.')
    shapes = {
        names[key]: list(value.shape) for key, value in encoder.state_dict().items()
    }
    assert_exact(shapes, expected, 'shapes')


@torch.no_grad()
def test_three_finest_levels_come_finest_first(encoder: SAM2ImageEncoder) -> None:
    images = torch.randn(2, 3, 64, 96)
    features = encoder(images)
    assert [tuple(f.shape) for f in features] == [
        (2, 16, 16, 24),
        (2, 16, 8, 12),
        (2, 16, 4, 6),
    ]
    pyramid = encoder.neck(encoder.backbone(images))
    assert all(torch.equal(f, p) for f, p in zip(features, pyramid[:3], strict=True))


def test_coarsest_level_reaches_the_result(encoder: SAM2ImageEncoder) -> None:
    encoder(torch.randn(1, 3, 64, 64))[2].sum().backward()
    coarsest = encoder.neck.lateral_convs[0].weight
    assert coarsest.grad is not None
    assert coarsest.grad.any()


def test_frames_are_encoded_independently(encoder: SAM2ImageEncoder) -> None:
    images = torch.randn(3, 3, 32, 64)
    together = encoder.eval()(images)
    alone = encoder(images[1:2])
    for all_frames, one_frame in zip(together, alone, strict=True):
        torch.testing.assert_close(all_frames[1:2], one_frame)


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
