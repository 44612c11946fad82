"""EdgeTAM against the released one, and what the released one cannot do."""

import re

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from edgetam_models import edgetam_config, edgetam_model, fill_variant
from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover_variants,
)
from projects.sam2.checkpoints.key_map import map_from_released, map_to_released
from projects.sam2.models import (
    EdgeTAMCrossAttention,
    EdgeTAMPerceiver,
    MemoryAttention,
)
from projects.sam2.models.edgetam import token_table
from projects.sam2.models.layers import sine_encoding_2d
from projects.sam2.models.layers.position_encoding import rotate
from variant_videos import VariantVideoRun, stores_float32

CPU = torch.device('cpu')
# Sizes of the golden cross-attentions, from the note of `edgetam_rope`: channels of
# queries and memories, heads, side of the frame, memories, global tokens and side of
# the grid of each, pointer tokens.
ATTENTIONS = {
    'tiny': (64, 16, 1, 16, 3, 16, 4, 8),
    'nptr0_one': (64, 16, 1, 16, 1, 16, 4, 0),
    'h2_no1d': (32, 16, 2, 8, 2, 0, 4, 4),
}

golden = pytest.mark.golden_variants


# ------------------------------------------------------------------------- the release


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_manifest*'))
def test_weights_are_the_released_ones(case: GoldenCase) -> None:
    with torch.device('meta'):
        model = MODELS.build(edgetam_config(None))
    ours = {
        key: [list(value.shape), str(value.dtype).removeprefix('torch.')]
        for key, value in model.state_dict().items()
    }
    released: dict[str, object] = case.spec['keys']
    assert_exact(map_to_released(ours), released, 'keys')
    assert_exact(map_from_released(released), ours, 'our keys')
    count = sum(parameter.numel() for parameter in model.parameters())
    assert_exact((count, len(ours)), (case.spec['n_params'], case.spec['n_keys']), 'n')


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_encoder*'))
@torch.no_grad()
def test_image_encoder_equals_released(case: GoldenCase) -> None:
    config = edgetam_config(None)['image_encoder']
    config['neck']['out_channels'] = 64
    encoder = MODELS.build(config)
    fill_variant(encoder, case.spec['salt'], 'image_encoder.')
    backbone = encoder.backbone
    shapes = re.findall(r'(\w+) \((\d+), ?3, ?(\d+), ?(\d+)\)', case.spec['input'])
    inputs = {
        name: case.input(f'edgetam.trunk.{name}', (int(b), 3, int(h), int(w)))
        for name, b, h, w in shapes
    }
    outputs: dict[str, Tensor] = {}
    for name, image in inputs.items():
        for level, maps in enumerate(backbone(image)):
            outputs[f'{name}/f{level}'] = maps[:, ::2]
    image = next(iter(inputs.values()))
    outputs['stem'] = backbone.stem(image)[:, ::4]
    levels = encoder(image)
    outputs |= {f'neck/fpn{level}': maps for level, maps in enumerate(levels)}
    outputs['neck/fpn0'] = outputs['neck/fpn0'][:, ::4]
    size = (levels[2].shape[2], levels[2].shape[3])
    outputs['neck/pos2'] = sine_encoding_2d(channels=64, size=size, device=CPU)
    assert outputs.keys() == set(case.arrays)
    for name, output in outputs.items():
        assert_close(output, case.arrays[name], 1e-4, name)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_perceiver*'))
@torch.no_grad()
def test_perceiver_equals_released(case: GoldenCase) -> None:
    compared = set()
    for name, sizes in case.spec['extra']['cases'].items():
        perceiver = EdgeTAMPerceiver(
            memory_dims=sizes['dim'],
            num_global=max(sizes['n1'], 0),
            grid_size=round(max(sizes['n2'], 0) ** 0.5),
            num_heads=sizes['h'],
            feedforward_dims=4 * sizes['dim'],
        )
        fill_variant(perceiver, case.spec['salt'], 'tracker.perceiver.')
        height, width = sizes['hw']
        shape = sizes['B'], sizes['dim'], height, width
        memory = case.input(f'edgetam.perceiver.{name}', shape)
        position = sine_encoding_2d(
            channels=sizes['dim'], size=(height, width), device=CPU
        )
        tokens = perceiver(memory, None if name == 'nopos' else position)
        assert tokens.shape[1] == perceiver.num_tokens
        assert_close(tokens, case.arrays[f'{name}/latents'], 1e-4, name)
        compared.add(f'{name}/latents')
        if name == 'nopos':
            continue
        expected = case.arrays[f'{name}/pos']
        own = perceiver.position(CPU).expand(expected.shape[0], -1, -1)
        assert_close(own[:, -expected.shape[1] :], expected, 1e-4, f'{name}/pos')
        compared.add(f'{name}/pos')
    assert compared == set(case.arrays)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_rope*'))
@torch.no_grad()
def test_rotations_and_cross_attention_equal_released(case: GoldenCase) -> None:
    for name, expected in case.arrays.items():
        kind, _, what = name.partition('/')
        if kind == 'rot':
            repeats, num_plain = map(int, re.findall(r'\d+', what))
            shape = (2, 2, repeats * (16 + num_plain), 16)
            tokens = case.input(f'edgetam.rope.{repeats}.{num_plain}', shape)
            rotated = rotate(tokens, token_table(num_plain, 4, 16, CPU))
            assert_close(rotated, expected, 1e-4, name)
            continue
        dims, kv_dims, heads, side, num_memories, num_global, grid, num_pointers = (
            ATTENTIONS[what]
        )
        attention = EdgeTAMCrossAttention(
            embed_dims=dims,
            num_heads=heads,
            kv_dims=kv_dims,
            num_global=num_global,
            grid_size=grid,
        )
        place = 'tracker.memory_attention.layers.0.cross_attention.'
        fill_variant(attention, case.spec['salt'], place)
        length = num_memories * (num_global + grid**2) + num_pointers
        query, key, value = (
            case.input(f'edgetam.xattn.{what}.{letter}', shape)
            for letter, shape in (
                ('q', (2, side**2, dims)),
                ('k', (2, length, kv_dims)),
                ('v', (2, length, kv_dims)),
            )
        )
        attended = attention(
            query, key, value, feature_size=(side, side), num_unrotated=num_pointers
        )
        assert_close(attended[:, ::2], expected, 1e-4, name)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_memattn_full*'))
@torch.no_grad()
def test_memory_attention_equals_released(case: GoldenCase) -> None:
    attention = MemoryAttention(
        num_layers=2, cross_attention={'type': 'EdgeTAMCrossAttention'}
    )
    fill_variant(attention, case.spec['salt'], 'tracker.memory_attention.')
    note = case.spec['note']
    shapes = [
        tuple(map(int, shape)) for shape in re.findall(r'\((\d+),(\d+),(\d+)\)', note)
    ]
    tags = ('curr', 'curr_pos', 'memory', 'memory_pos')
    tokens, position, memory, memory_position = (
        # (N, O, C) -> (O, N, C)
        case.input(f'edgetam.memattn.{tag}', shape, scale).transpose(0, 1)
        for tag, shape, scale in zip(tags, shapes, (1, 0.5, 1, 0.5), strict=True)
    )
    pointers = re.search(r'(\d+) pointer tokens', note)
    assert pointers
    attended = attention(
        tokens=tokens,
        position=position,
        memory=memory,
        memory_position=memory_position,
        num_pointer_tokens=int(pointers[1]),
        feature_size=(64, 64),
    )
    assert_close(attended.transpose(0, 1)[::37], case.arrays['out'], 1e-4, 'out')


@golden
@pytest.mark.parametrize(
    'case',
    [
        *discover_variants('edgetam_video_*', without=('edgetam_video_error',)),
        *discover_variants('edgetam_full1024_*'),
    ],
)
def test_script_gives_the_released_masks_and_memories(case: GoldenCase) -> None:
    tolerances = (1e-3, 1.6e-2)
    if case.name.startswith('edgetam_full'):
        tolerances = (1e-3, 1e-3)
    elif stores_float32(case):
        tolerances = (5e-4, 5e-4)
    run = VariantVideoRun(case, edgetam_model(case), *tolerances)
    run.play()
    assert run.compared == set(case.arrays)
