"""The backbone, its blocks and its pretrained weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import Sequential
from mmengine.registry import MODELS
from torch import Tensor, nn

from bridge_models import assert_same_weights, small_config, small_model, write_small
from golden_cases import GoldenCase, assert_close, assert_near, discover
from golden_models import fill_released
from golden_tables import model_of, rates_of
from projects.sam2.checkpoints import (
    CheckpointMismatchError,
    from_released,
    map_to_released,
    to_released,
)
from projects.sam2.models.hiera import Hiera, HieraBlock, HieraPatchEmbedding
from projects.sam2.models.layers import pool

PREFIX = 'image_encoder.backbone.'
SMALL: dict[str, Any] = {
    'embed_dims': 8,
    'stages': (1, 1, 2, 1),
    'global_attention_blocks': (3,),
}


def golden_hiera(spec: dict[str, Any]) -> Hiera:
    """Backbone with the arguments that a golden case names in the released words."""
    return Hiera(
        embed_dims=spec['embed_dim'],
        num_heads=spec['num_heads'],
        stages=spec['stages'],
        global_attention_blocks=spec['global_att_blocks'],
        window_sizes=spec['window_spec'],
        position_embedding_size=spec['window_pos_embed_bkg_spatial_size'],
    )


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small() -> Hiera:
    return Hiera(**SMALL)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('trunk_*'))
@torch.no_grad()
def test_maps_equal_released(case: GoldenCase) -> None:
    hiera = golden_hiera(case.spec['hiera' if 'hiera' in case.spec else 'tiny'])
    fill_released(hiera, case.spec['salt'], PREFIX)
    image = case.stated_input(case.spec['input'])
    for level, features in enumerate(hiera(image)):
        name = f'trunk_{level}'
        assert_close(features, case.arrays[name], 1e-4, name)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('optim_table_*'))
def test_layers_give_the_released_learning_rates(case: GoldenCase) -> None:
    model: Any = model_of(case)
    hiera: Hiera = model.image_encoder.backbone
    _, vision_lr = rates_of(case)
    compared = set()
    for released, entry in case.spec['table'].items():
        if not released.startswith('image_encoder.trunk.'):
            continue
        name = from_released(released).removeprefix(PREFIX)
        scale = 0.9 ** (hiera.num_layers + 1 - hiera.layer_of(name))
        assert_near(scale, entry['lr']['0.0'] / vision_lr, 1e-9, name)
        compared.add(name)
    assert compared == set(dict(hiera.named_parameters()))


@pytest.mark.parametrize('size', [(64, 64), (32, 96), (160, 32)])
@torch.no_grad()
def test_any_multiple_of_32_gives_maps_at_four_strides(
    small: Hiera, size: tuple[int, int]
) -> None:
    maps = small(torch.randn(2, 3, *size))
    expected = [
        (2, 8 << level, size[0] >> level + 2, size[1] >> level + 2)
        for level in range(4)
    ]
    assert [tuple(m.shape) for m in maps] == expected


@pytest.mark.parametrize('size', [(64, 48), (33, 64)])
def test_images_that_do_not_divide_are_refused(
    small: Hiera, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=rf'multiple of 32.*{size[0]} x {size[1]}'):
        small(torch.zeros(1, 3, *size))


def test_first_window_decides_what_divides() -> None:
    hiera = Hiera(**{**SMALL, 'window_sizes': (12, 4, 14, 7)})
    with pytest.raises(ValueError, match='multiple of 96'):
        hiera(torch.zeros(1, 3, 64, 64))


def test_window_channels_heads_and_drop_path_follow_the_stages() -> None:
    hiera = Hiera(
        embed_dims=8,
        num_heads=2,
        stages=(2, 2, 2, 1),
        global_attention_blocks=(5,),
        drop_path_rate=0.3,
    )
    assert hiera.num_layers == 7
    blocks = [block for block in hiera.blocks if isinstance(block, HieraBlock)]
    assert [b.window_size for b in blocks] == [8, 8, 8, 4, 4, 0, 14]
    assert [b.attention.num_heads for b in blocks] == [2, 2, 4, 4, 8, 8, 16]
    assert [b.norm2.normalized_shape for b in blocks] == [
        (8,), (8,), (16,), (16,), (32,), (32,), (64,)
    ]  # fmt: skip
    assert [b.drop_path.rate for b in blocks] == pytest.approx(
        [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    )


@torch.no_grad()
def test_window_position_repeats_and_whole_position_does_not(small: Hiera) -> None:
    position = small._position(16, 24)
    small.position_embedding.zero_()
    windowed = small._position(16, 24)
    assert torch.equal(windowed[:, :8, :8], windowed[:, 8:, 16:])
    assert not torch.equal(position[:, :8, :8], position[:, 8:, 16:])


def test_training_starts_from_small_random_weights(small: Hiera) -> None:
    for module in small.blocks.modules():
        if isinstance(module, nn.Linear):
            assert 0.01 < module.weight.std() < 0.03
            assert not module.bias.any()
    assert 0.01 < small.position_embedding.std() < 0.03
    assert 0.01 < small.window_position_embedding.std() < 0.03


def test_every_parameter_learns(small: Hiera) -> None:
    maps = small(torch.randn(1, 3, 64, 64))
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None and p.grad.any() for p in small.parameters())


WHOLE = small_model()
OURS = dict(WHOLE.state_dict())
OF_BACKBONE = {
    key.removeprefix(PREFIX): value
    for key, value in OURS.items()
    if key.startswith(PREFIX)
}
RELEASED = map_to_released(OURS)


def initialised(folder: Path, saved: object, **options: object) -> dict[str, Tensor]:
    """Weights of a backbone that was initialised from a checkpoint."""
    checkpoint = folder / 'checkpoint.pth'
    if saved is None:
        checkpoint = folder / 'hf'
        write_small(checkpoint, 'huggingface', WHOLE)
    else:
        torch.save(saved, checkpoint)
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(checkpoint), **options}
    config = small_config()['image_encoder']['backbone'] | {'init_cfg': init_cfg}
    # In a model of another project.
    model = Sequential(MODELS.build(config))
    model.init_weights()
    return dict(model[0].state_dict())


@pytest.mark.parametrize(
    'prefix',
    [None, 'image_encoder.trunk.', 'image_encoder.trunk', 'image_encoder.backbone'],
)
@pytest.mark.parametrize(
    'saved',
    [
        pytest.param({'model': RELEASED}, id='released'),
        pytest.param(None, id='folder of transformers'),
        pytest.param({'state_dict': OURS, 'meta': {}}, id='ours'),
        pytest.param(
            {'state_dict': {f'model.{key}': v for key, v in RELEASED.items()}},
            id='within a model of a training script',
        ),
    ],
)
def test_backbone_finds_its_weights_in_a_whole_model(
    saved: object, prefix: str | None, tmp_path: Path
) -> None:
    options = {} if prefix is None else {'prefix': prefix}
    assert_same_weights(initialised(tmp_path, saved, **options), OF_BACKBONE)


def test_backbone_refuses_weights_that_are_no_numbers(tmp_path: Path) -> None:
    key = 'image_encoder.backbone.blocks.0.norm1.weight'
    broken = OURS | {key: OURS[key] * float('nan')}
    with pytest.raises(CheckpointMismatchError, match='NaN or infinite'):
        initialised(tmp_path, {'state_dict': broken})


@pytest.mark.parametrize(
    ('start', 'prefix'),
    [('', None), ('backbone.', None), ('backbone.', 'backbone'), ('a.b.', 'a.b.')],
)
@pytest.mark.parametrize('rename', [str, to_released])
def test_backbone_finds_its_weights_in_other_models(
    start: str, prefix: str | None, rename: Callable[[str], str], tmp_path: Path
) -> None:
    trunk = 'image_encoder.trunk.'
    state = {
        start + rename(PREFIX + key).removeprefix(PREFIX).removeprefix(trunk): value
        for key, value in OF_BACKBONE.items()
    }
    if start:
        state['head.weight'] = torch.ones(1)
    options = {} if prefix is None else {'prefix': prefix}
    loaded = initialised(tmp_path, {'state_dict': state}, **options)
    assert_same_weights(loaded, OF_BACKBONE)


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    """All but one weight."""
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ('saved', 'options', 'message'),
    [
        (
            {'conv1.weight': torch.ones(1)},
            {},
            r'has no image_encoder.backbone: it hold',
        ),
        ({'model': RELEASED}, {'prefix': 'neck'}, r"under prefix='neck'.*looked for"),
        (
            without(OF_BACKBONE, 'position_embedding'),
            {},
            r'(?s)does not fit.*1 missing: position_embedding',
        ),
        (
            {f'{PREFIX}{key}': v for key, v in OF_BACKBONE.items()}
            | {f'{PREFIX}more': torch.ones(1)},
            {},
            r'1 unexpected: more',
        ),
        (
            OF_BACKBONE | {'position_embedding': torch.ones(1)},
            {},
            r'1 of another shape: position_embedding \(1,\) instead of',
        ),
    ],
)
def test_backbone_without_its_weights_is_an_error(
    saved: object, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointMismatchError, match=message):
        initialised(tmp_path, saved, **options)


@pytest.mark.parametrize('place', ['image_encoder', 'image_encoder.neck'])
def test_other_parts_find_their_weights_too(place: str, tmp_path: Path) -> None:
    torch.save({'model': RELEASED}, tmp_path / 'sam2.pt')
    config: Any = small_config()['image_encoder']
    config = config['neck'] if place.endswith('neck') else config
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'sam2.pt')}
    part = MODELS.build(config | {'init_cfg': init_cfg})
    part.init_weights()
    wanted = {
        key.removeprefix(f'{place}.'): value
        for key, value in OURS.items()
        if key.startswith(f'{place}.')
    }
    assert_same_weights(dict(part.state_dict()), wanted)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'window_sizes': (8, 4, 14)}, r'\(8, 4, 14\)'),
        ({'stages': (1, 0, 2, 1)}, r'\(1, 0, 2, 1\)'),
        ({'global_attention_blocks': (3, 5)}, r'\[5\]'),
        ({'window_sizes': (8, 5, 14, 7)}, 'even'),
    ],
)
def test_contradicting_arguments_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Hiera(**{**SMALL, **changes})


def test_patches_overlap_at_stride_four() -> None:
    embed = HieraPatchEmbedding(embed_dims=5)
    images = torch.zeros(1, 3, 32, 64, requires_grad=True)
    tokens = embed(images)
    assert tokens.shape == (1, 8, 16, 5)
    tokens[0, 2, 3].sum().backward()
    assert images.grad is not None
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 11, 9, 15)


@pytest.mark.parametrize(
    ('out_dims', 'window_size', 'reach'), [(4, 2, 2), (4, 0, 8), (8, 4, 4)]
)
def test_block_sees_its_window_alone(
    out_dims: int, window_size: int, reach: int
) -> None:
    block = HieraBlock(
        in_dims=4, out_dims=out_dims, num_heads=2, window_size=window_size
    )
    maps = torch.randn(1, 8, 8, 4, requires_grad=True)
    block(maps)[0, 0, 0].sum().backward()
    assert maps.grad is not None
    touched = maps.grad[0].abs().sum(dim=-1) > 0
    assert touched[:reach, :reach].all()
    assert touched.sum() == reach**2


def test_pooled_block_halves_the_map_beside_a_projected_shortcut() -> None:
    block = HieraBlock(in_dims=4, out_dims=8, num_heads=2, window_size=4)
    for layer in (block.attention.output, block.mlp.layers[1]):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    maps = torch.randn(2, 8, 12, 4)
    assert block.shortcut is not None
    expected = pool(block.shortcut(block.norm1(maps)))
    assert expected.shape == (2, 4, 6, 8)
    torch.testing.assert_close(block(maps), expected)


def test_dropped_samples_keep_the_shortcut_alone() -> None:
    block = HieraBlock(
        in_dims=4, out_dims=4, num_heads=1, window_size=2, drop_path_rate=0.9
    )
    maps = torch.randn(64, 2, 2, 4)
    unchanged = (block(maps) == maps).flatten(1).all(dim=1)
    assert 32 < unchanged.sum() < 64
    assert not (block.eval()(maps) == maps).flatten(1).all(dim=1).any()


def test_odd_window_before_a_pooled_stage_is_refused() -> None:
    with pytest.raises(ValueError, match='7'):
        HieraBlock(in_dims=4, out_dims=8, num_heads=1, window_size=7)
