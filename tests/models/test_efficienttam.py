"""EfficientTAM: its parts, weights and predictions against the released ones."""

import copy
import re
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover_variants,
    fill,
    variant_weights,
)
from golden_models import released_keys
from golden_variant_videos import VariantVideoRun
from projects.sam2.apis import load_model_config
from projects.sam2.apis.released_overrides import MODEL_OPTIONS, read_overrides
from projects.sam2.checkpoints import to_released
from projects.sam2.models import SAM2, EfficientTAMCrossAttention
from projects.sam2.models.efficienttam import PoolingBias

VARIANTS = ('', '_1', '_2', '_512x512')
BIAS_OF_VARIANT: dict[str, PoolingBias] = {'v1': 'logits', 'v2': 'keys'}
MODEL = 'configs/_base_/models/{}.py'


def case_config(case: GoldenCase) -> Config:
    """Our config of the model of a case, in the sizes that the case names."""
    config = copy.deepcopy(load_model_config(MODEL.format(case.spec['config'])))
    if 'tiny' in case.spec:
        config.merge_from_dict(sizes_of(case.spec['tiny']))
    changes, _ = read_overrides(
        [
            f'++model.{key.lstrip("+")}={value}'
            for key, value in case.spec.get('overrides', {}).items()
            if key.lstrip('+') in MODEL_OPTIONS
        ]
    )
    config.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return config


def sizes_of(tiny: dict[str, Any]) -> dict[str, Any]:
    """The sizes of a small model, which a golden file names in the released words."""
    dims, memory_dims = tiny['d_model'], tiny['mem_dim']
    windowed = tiny['window_block_indexes']
    backbone = {
        'embed_dims': tiny['embed_dim'],
        'num_heads': tiny['num_heads'],
        'num_blocks': tiny['depth'],
        'window_size': tiny['window_size'],
        'global_attention_blocks': sorted({*range(tiny['depth'])} - {*windowed}),
    }
    attention = {
        'num_layers': tiny['memattn_layers'],
        'feedforward_dims': tiny['memattn_ff'],
        'dropout': 0.0,
    }
    both = {'embed_dims': dims, 'memory_dims': memory_dims}
    sizes: dict[str, Any] = {
        'data_preprocessor.image_size': (tiny['image_size'],) * 2,
        'image_encoder.backbone': backbone,
        'image_encoder.neck': {
            'in_channels': tiny['embed_dim'],
            'out_channels': dims,
        },
        'tracker.memory_attention': attention | both,
        'tracker.memory_encoder': both,
        'tracker.object_pointer': both,
        'tracker.memory_bank.num_frames': tiny['num_maskmem'],
        'prompt_encoder.embed_dims': dims,
        'mask_decoder.embed_dims': dims,
    }
    return {f'model.{key}': value for key, value in sizes.items()}


def fill_variant(module: nn.Module, salt: str, prefix: str = '') -> nn.Module:
    """Fill a part of the model with golden weights, in evaluation mode."""
    keys = released_keys(module, prefix)
    fill(module.eval(), salt, keys, generator=variant_weights())
    return module


@pytest.mark.golden_variants
@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('case', discover_variants('efficienttam_manifest_*'))
def test_weights_have_the_released_names_and_shapes(
    case: GoldenCase, variant: str
) -> None:
    size = case.name.rpartition('_')[2]
    with torch.device('meta'):
        config = load_model_config(MODEL.format(f'efficienttam_{size}{variant}'))
        model: SAM2 = MODELS.build(config.model)
    weights = {
        to_released(key): [list(value.shape), str(value.dtype).removeprefix('torch.')]
        for key, value in model.state_dict().items()
    }
    assert_exact(weights, case.spec['keys'], 'weights')
    count = sum(parameter.numel() for parameter in model.parameters())
    assert_exact(count, case.spec['n_params'], 'number of parameters')


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('efficienttam_encoder*'))
@torch.no_grad()
def test_encoder_gives_the_released_features(case: GoldenCase) -> None:
    config = copy.deepcopy(load_model_config(MODEL.format('efficienttam_ti')))
    config.merge_from_dict(sizes_of(case.spec['tiny']))
    encoder = MODELS.build(config.model.image_encoder)
    fill_variant(encoder, case.spec['salt'], 'image_encoder.')
    shapes = re.findall(r'(\w+) \((\d+), ?3, ?(\d+), ?(\d+)', case.spec['note'])
    assert {f'{name}/{part}' for name, *_ in shapes for part in ('trunk', 'neck')} == {
        *case.arrays
    }
    for name, *sizes in shapes:
        batch, height, width = map(int, sizes)
        image = case.input(f'efftam.enc.{name}', (batch, 3, height, width))
        (features,) = encoder.backbone(image)
        assert_close(features, case.arrays[f'{name}/trunk'], 1e-4, f'{name}/trunk')
        (embedding,) = encoder(image)
        expected = case.arrays[f'{name}/neck']
        assert_close(embedding[:, ::2], expected, 1e-4, f'{name}/neck')


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('efficienttam_xattn*'))
@torch.no_grad()
def test_cross_attention_gives_the_released_results(case: GoldenCase) -> None:
    note = case.spec['note']
    numbers = r'd (\d+), kv (\d+), (\d+) head.*grid (\d+)x(\d+), batch (\d+)'
    sizes = re.search(numbers, note)
    counts = re.search(
        r'([\w/]+): ([\d/]+) memories of \d+ tokens \+ ([\d/]+) pointer', note
    )
    assert sizes, note
    assert counts, note
    dims, kv_dims, num_heads, height, width, batch = map(int, sizes.groups())
    for name, memories, pointers in zip(
        *(part.split('/') for part in counts.groups()), strict=True
    ):
        num_pointers = int(pointers)
        num_keys = int(memories) * height * width + num_pointers
        query, key, value = (
            case.input(f'efftam.xattn.{name}.{letter}', (batch, number, channels))
            for letter, number, channels in (
                ('q', height * width, dims),
                ('k', num_keys, kv_dims),
                ('v', num_keys, kv_dims),
            )
        )
        for variant, bias_on in BIAS_OF_VARIANT.items():
            attention = EfficientTAMCrossAttention(
                embed_dims=dims, num_heads=num_heads, kv_dims=kv_dims, bias_on=bias_on
            )
            prefix = 'tracker.memory_attention.layers.0.cross_attention.'
            fill_variant(attention, case.spec['salt'], prefix)
            output = attention(
                query,
                key,
                value,
                feature_size=(height, width),
                num_unrotated=num_pointers,
            )
            expected = case.arrays[f'{variant}/{name}']
            assert_close(output, expected, 1e-4, f'{variant}/{name}')


@pytest.mark.golden_variants
@pytest.mark.parametrize(
    'case',
    [
        *discover_variants('efficienttam_video_*'),
        *discover_variants('efficienttam_full*'),
    ],
)
def test_video_gives_the_released_masks_and_memories(case: GoldenCase) -> None:
    model: SAM2 = MODELS.build(case_config(case).model)
    fill_variant(model, case.spec['salt'])
    run = VariantVideoRun(case, model)
    run.play()
    assert run.compared == {*case.arrays}
