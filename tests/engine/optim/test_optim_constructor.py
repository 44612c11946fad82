"""Rates and decays are those of the released recipe, parameter by parameter."""

import math
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.optim.scheduler import CosineAnnealingLR
from torch import nn

from golden_cases import GoldenCase, assert_exact, assert_near, discover
from golden_tables import model_of, rates_of
from projects.sam2.checkpoints import to_released
from projects.sam2.engine.optim import SAM2OptimWrapperConstructor


class Backbone(nn.Module):
    """Two blocks and position embeddings."""

    num_layers = 2

    def __init__(self) -> None:
        super().__init__()
        self.position_embedding = nn.Parameter(torch.zeros(1))
        self.patch_embedding = nn.Conv2d(1, 1, 1)
        self.blocks = nn.ModuleList([nn.Linear(1, 1), nn.LayerNorm(1)])

    def layer_of(self, name: str) -> int:
        """As Hiera does."""
        if name.startswith('blocks.'):
            return int(name.split('.')[1]) + 1
        return 0 if name.startswith('patch_embedding') else 3


class Model(nn.Module):
    """The parts that the constructor tells apart."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.image_encoder = nn.ModuleDict(
            {'backbone': backbone, 'neck': nn.Linear(1, 1)}
        )
        self.head = nn.ModuleList(
            [nn.Linear(1, 1), nn.LayerNorm(1), nn.GroupNorm(1, 1)]
        )


def settings(model: nn.Module, **changes: object) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    optimizer = {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1}
    cfg = {'optimizer': optimizer, 'constructor': 'SAM2OptimWrapperConstructor'}
    wrapper = build_optim_wrapper(model, Config({**cfg, **changes})._cfg_dict)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


def test_fused_steps_are_those_of_the_usual_ones() -> None:
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = Model(Backbone())
        optimizer = {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.1, 'fused': fused}
        cfg = {'optimizer': optimizer, 'constructor': 'SAM2OptimWrapperConstructor'}
        wrapper = build_optim_wrapper(model, Config(cfg)._cfg_dict)
        assert isinstance(wrapper, OptimWrapper)
        for _ in range(2):
            total = torch.stack([(p - 1).square().sum() for p in model.parameters()])
            wrapper.update_params(total.sum())
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    plain, fused_ones = found
    assert torch.allclose(plain, fused_ones, rtol=1e-5)


def test_frozen_parameters_are_none_of_the_optimizers() -> None:
    model = Model(Backbone())
    model.image_encoder.requires_grad_(requires_grad=False)
    names = settings(model).keys()
    assert names == {n for n, _ in model.named_parameters() if n.startswith('head.')}


def test_rates_fall_with_depth_and_only_in_the_backbone() -> None:
    recipe = {'backbone_lr_mult': 0.5, 'layer_decay': 0.9}
    found = settings(Model(Backbone()), paramwise_cfg=recipe)
    prefix = 'image_encoder.backbone.'
    rates = {
        f'{prefix}position_embedding': 0.5,
        f'{prefix}patch_embedding.weight': 0.5 * 0.9**3,
        f'{prefix}blocks.0.weight': 0.5 * 0.9**2,
        f'{prefix}blocks.1.weight': 0.5 * 0.9,
        'image_encoder.neck.weight': 0.5,
        'head.0.weight': 1.0,
    }
    assert {name: found[name][0] for name in rates} == pytest.approx(rates, rel=1e-12)


def test_biases_and_token_norms_alone_are_not_decayed() -> None:
    found = settings(Model(Backbone()))
    exempt = {name for name, (_, decay) in found.items() if decay == 0}
    assert exempt == {
        'image_encoder.backbone.patch_embedding.bias',
        'image_encoder.backbone.blocks.0.bias',
        'image_encoder.backbone.blocks.1.weight',
        'image_encoder.backbone.blocks.1.bias',
        'image_encoder.neck.bias',
        'head.0.bias',
        'head.1.weight',
        'head.1.bias',
        'head.2.bias',
    }
    assert {decay for _, decay in found.values()} == {0.0, 0.1}


def in_model(**parts: nn.Module) -> nn.Module:
    """A model of another project."""
    return nn.ModuleDict({**parts, 'head': nn.ModuleList([nn.Linear(1, 1)])})


@pytest.mark.parametrize(
    ('model', 'place'),
    [
        (in_model(backbone=Backbone()), 'backbone.'),
        (in_model(detector=in_model(backbone=Backbone())), 'detector.backbone.'),
        # A wrapper around a backbone
        (
            in_model(backbone=nn.ModuleDict({'hiera': Backbone()})),
            'backbone.hiera.',
        ),
        (
            in_model(sam2=Model(Backbone())),
            'sam2.image_encoder.backbone.',
        ),
    ],
)
def test_rate_of_the_backbone_holds_in_models_of_other_projects(
    model: nn.Module, place: str
) -> None:
    recipe = {'backbone_lr_mult': 0.5, 'layer_decay': 0.9}
    found = settings(model, paramwise_cfg=recipe)
    rates = {
        f'{place}position_embedding': 0.5,
        f'{place}patch_embedding.weight': 0.5 * 0.9**3,
        f'{place}blocks.1.weight': 0.5 * 0.9,
        'head.0.weight': 1.0,
    }
    assert {name: found[name][0] for name in rates} == pytest.approx(rates, rel=1e-12)


@pytest.mark.parametrize('recipe', [{'backbone_lr_mult': 0.1}, {'layer_decay': 0.9}])
def test_rate_of_a_backbone_that_is_not_there_is_an_error(
    recipe: dict[str, float],
) -> None:
    with pytest.raises(ValueError, match=r'no part called .*it has trunk, head'):
        settings(in_model(trunk=Backbone()), paramwise_cfg=recipe)


def default_settings(
    model: nn.Module, paramwise_cfg: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    """As MMEngine's own constructor sets them."""
    return settings(
        model,
        paramwise_cfg=paramwise_cfg,
        constructor='DefaultOptimWrapperConstructor',
    )


@pytest.mark.parametrize(
    'paramwise_cfg',
    [
        {'custom_keys': {'head': {'lr_mult': 10.0}, 'head.1': {'decay_mult': 0.5}}},
        {'norm_decay_mult': 2.0, 'bias_decay_mult': 3.0, 'bias_lr_mult': 2.0},
        {'flat_decay_mult': 0.25},
        {'dwconv_decay_mult': 0.1, 'bypass_duplicate': True},
    ],
)
def test_entries_of_mmengine_work_beside_the_recipe(
    paramwise_cfg: dict[str, Any],
) -> None:
    model = Model(Backbone())
    recipe = {'backbone_lr_mult': 0.5, 'layer_decay': 0.9}
    own = settings(model, paramwise_cfg=recipe)
    mmengine = default_settings(model, paramwise_cfg)
    both = settings(model, paramwise_cfg={**recipe, **paramwise_cfg})
    assert both.keys() == own.keys() == mmengine.keys()
    for name, (rate, decay) in both.items():
        assert rate == pytest.approx(own[name][0] * mmengine[name][0]), name
        # A decay that MMEngine's entries change takes the recipe's place.
        is_changed = mmengine[name][1] != 0.1
        assert decay == (mmengine if is_changed else own)[name][1], name


def test_custom_key_keeps_what_it_says_outright() -> None:
    keys = {'head.0': {'lr': 7.0, 'weight_decay': 0.3, 'betas': (0.5, 0.5)}}
    found = settings(Model(Backbone()), paramwise_cfg={'custom_keys': keys})
    assert found['head.0.bias'] == found['head.0.weight'] == (7.0, 0.3)
    assert found['head.1.weight'] == (1.0, 0.0)


def test_parameter_without_gradient_is_neither_moved_nor_decayed() -> None:
    model: Any = Model(Backbone())
    cfg = {'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1}}
    wrapper = SAM2OptimWrapperConstructor(optim_wrapper_cfg=cfg)(model)
    weight = model.head[0].weight
    before = weight.detach().clone()
    wrapper.update_params(model.image_encoder['neck'].weight.sum())
    assert weight.grad is None
    assert torch.equal(weight, before)


def test_wrapper_gets_its_own_arguments() -> None:
    cfg = {
        'type': 'SAM2BFloat16OptimWrapper',
        'optimizer': {'type': 'SGD', 'lr': 1.0},
        'clip_grad': {'max_norm': 0.1},
    }
    wrapper = SAM2OptimWrapperConstructor(optim_wrapper_cfg=cfg)(Model(Backbone()))
    assert type(wrapper).__name__ == 'SAM2BFloat16OptimWrapper'
    assert wrapper.clip_grad_kwargs == {'max_norm': 0.1}
    assert cfg['optimizer'] == {'type': 'SGD', 'lr': 1.0}


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'paramwise_cfg': {'backbone_lr': 1}}, ValueError, r"has \['backbone_lr'\]"),
        (
            {'paramwise_cfg': {'norm_decay_mult': 0}},
            ValueError,
            'norm_decay_mult.*set optim_wrapper.optimizer.weight_decay',
        ),
        (
            {'paramwise_cfg': {'custom_keys': {'head': {'decay_mult': 0}}}},
            ValueError,
            'custom_keys.head.*set optim_wrapper.optimizer.weight_decay',
        ),
        ({'paramwise_cfg': {'layer_decay': 0.9}}, TypeError, 'got Linear; set'),
        ({'optimizer': None}, ValueError, 'optim_wrapper needs optimizer'),
        ({'optimizer': {'type': 'SGD'}}, ValueError, "has no lr, but .*'SGD'.*; set"),
    ],
)
def test_what_cannot_be_built_is_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    cfg = {'optimizer': {'type': 'SGD', 'lr': 1.0}, **changes}
    paramwise = cfg.pop('paramwise_cfg', None)
    if cfg['optimizer'] is None:
        del cfg['optimizer']
    with pytest.raises(error, match=message):
        SAM2OptimWrapperConstructor(optim_wrapper_cfg=cfg, paramwise_cfg=paramwise)(
            Model(nn.Linear(1, 1))
        )


NUM_STEPS = 1_000_000


@pytest.fixture(scope='module')
def fall() -> list[float]:
    """What is left of a rate, step by step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = CosineAnnealingLR(
        optimizer, eta_min_ratio=0.1, by_epoch=False, end=NUM_STEPS
    )
    optimizer.step()
    left = []
    for _ in range(NUM_STEPS):
        left.append(optimizer.param_groups[0]['lr'])
        scheduler.step()
    return left


def step_at(position: str) -> int:
    """The step at a position of a golden table, a share of the schedule."""
    step = round(float(position) * NUM_STEPS)
    if step / NUM_STEPS != float(position) or step >= NUM_STEPS:
        pytest.skip(f'{position} lies between two of {NUM_STEPS} steps')
    return step


@pytest.mark.parametrize('step', [0, 1, NUM_STEPS // 2, NUM_STEPS - 1])
def test_cosine_falls_to_a_tenth(fall: list[float], step: int) -> None:
    expected = 0.1 + 0.9 * (1 + math.cos(math.pi * step / NUM_STEPS)) / 2
    assert fall[step] == pytest.approx(expected, rel=1e-9)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('optim_table_*'))
def test_rates_and_decays_are_those_of_the_released_recipe(
    case: GoldenCase, fall: list[float]
) -> None:
    base_lr, vision_lr = rates_of(case)
    optimizer = {'type': 'AdamW', 'lr': base_lr, 'weight_decay': 0.1}
    recipe = {'backbone_lr_mult': vision_lr / base_lr, 'layer_decay': 0.9}
    found = settings(model_of(case), optimizer=optimizer, paramwise_cfg=recipe)
    table = case.spec['table']
    assert {to_released(name) for name in found} == set(table)
    for name, (rate, decay) in found.items():
        row = table[to_released(name)]
        assert_exact(decay, row['weight_decay'], name)
        for position, expected in row['lr'].items():
            left = fall[step_at(position)]
            assert_near(rate * left, expected, 1e-9, name, floor=1e-12)
