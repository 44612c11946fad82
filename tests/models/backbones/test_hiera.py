"""The backbone against the released one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from golden_cases import GoldenCase, assert_close, assert_near, discover
from golden_tables import model_of, rates_of
from projects.sam2.checkpoints.key_map import from_released
from projects.sam2.models.backbones import Hiera
from projects.sam2.models.backbones.hiera_blocks import HieraBlock
from released_weights import fill_released

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


@pytest.fixture
def small() -> Hiera:
    torch.manual_seed(0)
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


def test_init_cfg_loads_weights(small: Hiera, tmp_path: Path) -> None:
    path = tmp_path / 'hiera.pth'
    torch.save(small.state_dict(), path)
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(path)}
    loaded = MODELS.build({'type': 'Hiera', 'init_cfg': init_cfg, **SMALL})
    loaded.init_weights()
    for key, value in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


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
