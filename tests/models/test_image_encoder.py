"""Backbone and neck together."""

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.models.image_encoder import SAM2ImageEncoder
from released_weights import released_keys, released_shapes

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
