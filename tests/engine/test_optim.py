"""The optimizer of the recipe, bfloat16, and steps that are skipped."""

import math
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.optim.scheduler import CosineAnnealingLR
from torch import Tensor, nn

from golden_cases import GoldenCase, assert_exact, assert_near, discover
from golden_tables import model_of, rates_of
from projects.sam2.checkpoints import to_released
from projects.sam2.engine.optim import (
    FiniteGuard,
    SAM2BFloat16OptimWrapper,
    SAM2OptimWrapperConstructor,
)


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


def test_fused_steps_equal_unfused_ones() -> None:
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


def test_optimizer_has_no_frozen_parameters() -> None:
    model = Model(Backbone())
    model.image_encoder.requires_grad_(requires_grad=False)
    names = settings(model).keys()
    assert names == {n for n, _ in model.named_parameters() if n.startswith('head.')}


def test_layer_decay_applies_to_the_backbone_only() -> None:
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


def test_only_biases_and_token_norms_are_not_decayed() -> None:
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
def test_backbone_lr_mult_applies_to_models_of_other_projects(
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
def test_backbone_lr_mult_without_a_backbone_is_refused(
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
def test_entries_of_mmengine_combine_with_the_recipe(
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


def test_absolute_values_of_a_custom_key_are_kept() -> None:
    keys = {'head.0': {'lr': 7.0, 'weight_decay': 0.3, 'betas': (0.5, 0.5)}}
    found = settings(Model(Backbone()), paramwise_cfg={'custom_keys': keys})
    assert found['head.0.bias'] == found['head.0.weight'] == (7.0, 0.3)
    assert found['head.1.weight'] == (1.0, 0.0)


def test_custom_keys_of_a_frozen_model_print_no_line_for_each_parameter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Model(Backbone())
    model.image_encoder.requires_grad_(requires_grad=False)
    keys = {'head': {'lr_mult': 2.0}, 'nowhere': {'lr_mult': 2.0}}
    settings(model, paramwise_cfg={'custom_keys': keys})
    printed = ''.join(capsys.readouterr())
    assert 'requires_grad' not in printed
    assert 'nowhere' in printed


def test_parameter_without_gradient_is_neither_moved_nor_decayed() -> None:
    model: Any = Model(Backbone())
    cfg = {'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1}}
    wrapper = SAM2OptimWrapperConstructor(optim_wrapper_cfg=cfg)(model)
    weight = model.head[0].weight
    before = weight.detach().clone()
    wrapper.update_params(model.image_encoder['neck'].weight.sum())
    assert weight.grad is None
    assert torch.equal(weight, before)


def test_wrapper_gets_its_arguments() -> None:
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
        ({'optimizer': {'type': 'SGD', 'lr': 'x'}}, ValueError, "lr is 'x'; give"),
        ({'optimizer': {'type': 'SGD'}}, ValueError, "has no lr, but .*'SGD'.*; set"),
    ],
)
def test_invalid_config_is_refused(
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
def test_rates_and_decays_equal_those_of_the_released_recipe(
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


def train_step(
    wrapper: OptimWrapper, model: nn.Linear, inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """One forward and backward pass; the output, and the gradient as it was."""
    gradients: list[Tensor] = []
    handle = model.weight.register_post_accumulate_grad_hook(
        lambda weight: gradients.append(weight.grad.clone())
    )
    with wrapper.optim_context(model):
        output = model(inputs)
        loss = output.float().square().mean()
    wrapper.update_params(loss)
    handle.remove()
    return output, gradients[0]


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 3)


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason='no GPU here'
            ),
        ),
    ],
)
def test_forward_is_bfloat16_and_gradients_float32(
    model: nn.Linear, device: str
) -> None:
    if device == 'cpu' and torch.cuda.is_available():
        pytest.skip('MMEngine casts on the GPU where there is one')
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    output, gradient = train_step(
        SAM2BFloat16OptimWrapper(optimizer), model, torch.randn(4, 8, device=device)
    )
    assert output.dtype == torch.bfloat16
    assert gradient.dtype == model.weight.dtype == torch.float32
    assert model(torch.randn(4, 8, device=device)).dtype == torch.float32


def test_gradient_equals_that_of_float32_up_to_rounding(
    model: nn.Linear,
) -> None:
    inputs = torch.randn(4, 8)
    _, half = train_step(
        SAM2BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)),
        model,
        inputs,
    )
    _, full = train_step(
        OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)), model, inputs
    )
    assert torch.allclose(half, full, rtol=0.05, atol=0.02)
    assert not torch.equal(half, full)


def test_accumulated_batches_step_once_like_the_whole_batch(model: nn.Linear) -> None:
    inputs = torch.randn(4, 8)
    start = model.weight.detach().clone()

    def step(batches: list[Tensor]) -> Tensor:
        with torch.no_grad():
            model.weight.copy_(start)
            model.bias.zero_()
        wrapper = SAM2BFloat16OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=1.0),
            accumulative_counts=len(batches),
        )
        wrapper.initialize_count_status(model, 0, len(batches))
        for batch in batches:
            assert torch.equal(model.weight, start)
            train_step(wrapper, model, batch)
        return model.weight.detach() - start

    assert torch.allclose(
        step([inputs]), step([inputs[:2], inputs[2:]]), rtol=0.02, atol=0.01
    )


NAN, INF = float('nan'), float('inf')


@pytest.fixture
def weight() -> nn.Parameter:
    return nn.Parameter(torch.zeros(()))


def guarded(weight: nn.Parameter, **settings: Any) -> FiniteGuard:
    """Plain descent at rate 1: the weight is minus the sum of the gradients."""
    return FiniteGuard(OptimWrapper(torch.optim.SGD([weight], lr=1.0), **settings))


def train(guard: FiniteGuard, weight: nn.Parameter, *slopes: float) -> list[bool]:
    """Take batches whose gradients are known; tell which ones counted as bad."""
    bad = []
    for slope in slopes:
        with guard.optim_context(nn.Identity()):
            loss = weight * slope + 1
        guard.update_params(loss)
        bad.append(bool(guard.is_bad))
    return bad


@pytest.mark.parametrize('slope', [NAN, INF, -INF])
def test_bad_batch_changes_no_weight(weight: nn.Parameter, slope: float) -> None:
    guard = guarded(weight)
    assert train(guard, weight, 2, slope, 3) == [False, True, False]
    assert weight.item() == -5
    assert weight.grad is None


def test_bad_batch_skips_its_whole_accumulated_step(weight: nn.Parameter) -> None:
    guard = guarded(weight, accumulative_counts=2)
    slopes = (2, 4, NAN, 8, 16, NAN, 32, 64)
    assert train(guard, weight, *slopes) == [slope is NAN for slope in slopes]
    # Means of the first and of the last pair alone.
    assert weight.item() == -(3 + 48)
    assert guard.wrapper._inner_count == 8


@pytest.mark.parametrize(
    'clip_grad', [None, {'max_norm': 1.0}, {'type': 'value', 'clip_value': 1.0}]
)
def test_non_finite_gradient_skips_the_step(
    weight: nn.Parameter, clip_grad: dict[str, Any] | None
) -> None:
    decay = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    guard = FiniteGuard(OptimWrapper(decay, clip_grad=clip_grad))
    guard.update_params(weight.sqrt())
    assert guard.is_bad
    assert guard.is_own
    assert weight.item() == 0
    assert not decay.state
    weight.data.fill_(1)
    guard.update_params(weight.sqrt())
    assert not guard.is_bad
    assert 0 < weight.item() < 1


@pytest.mark.parametrize('clip_grad', [None, {'max_norm': 9.0}])
def test_fused_optimizer_skips_the_step_by_itself(
    weight: nn.Parameter, clip_grad: dict[str, Any] | None
) -> None:
    weight.data.fill_(1)
    adam = torch.optim.AdamW([weight], lr=0.1, fused=True)
    guard = FiniteGuard(OptimWrapper(adam, clip_grad=clip_grad))
    called = Mock(wraps=guard.wrapper.step)
    guard.wrapper.step = called
    assert train(guard, weight, 2) == [False]
    kept = [tensor.clone() for tensor in (weight, *adam.state[weight].values())]
    assert train(guard, weight, NAN, INF) == [True, True]
    for before, after in zip(kept, (weight, *adam.state[weight].values()), strict=True):
        assert torch.equal(before, after)
    assert train(guard, weight, 2) == [False]
    assert weight < kept[0]
    # Schedulers count the calls.
    assert called.call_count == 4


def test_norm_is_that_before_clipping_and_stays_on_the_device(
    weight: nn.Parameter,
) -> None:
    guard = guarded(weight, clip_grad={'max_norm': 1.0}, accumulative_counts=2)
    norms = []
    for slope in (3, 5):
        train(guard, weight, slope)
        norms.append(guard.grad_norm)
    assert norms == [None, torch.tensor(4.0)]
    assert guard.wrapper.clip_grad_kwargs == {'max_norm': 1.0}
    assert weight.item() == pytest.approx(-1, rel=1e-5)


@pytest.mark.parametrize('kind', ['norm', 'value'])
def test_finite_steps_are_clipped_as_usual(weight: nn.Parameter, kind: str) -> None:
    limit = {'max_norm': 1.0} if kind == 'norm' else {'clip_value': 1.0}
    guard = guarded(weight, clip_grad={'type': kind, **limit})
    assert train(guard, weight, 5, 5) == [False, False]
    assert weight.item() == pytest.approx(-2, rel=1e-5)


@pytest.mark.parametrize('is_enabled', [True, False])
def test_wrapper_that_scales_the_loss_checks_its_gradients_itself(
    weight: nn.Parameter, *, is_enabled: bool
) -> None:
    class Scaling(OptimWrapper):
        loss_scaler = Mock(is_enabled=lambda: is_enabled)
        num_steps = 0

        def step(self, **_: Any) -> None:
            self.num_steps += 1

    wrapper = Scaling(torch.optim.SGD([weight], lr=1.0))
    guard = FiniteGuard(wrapper)
    guard.update_params(weight.sqrt())
    assert weight.grad is None
    assert (wrapper.num_steps, bool(guard.is_bad)) == (is_enabled, not is_enabled)
