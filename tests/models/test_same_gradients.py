"""Ways to train in less memory give the gradients of the plain way."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from torch import Tensor

from golden_cases import GoldenCase, discover
from golden_clips import golden_batch
from golden_models import golden_model
from kept_memory import kept_storages
from projects.sam2.models import SAM2
from projects.sam2.models.layers import checkpointing
from projects.sam2.models.prompt_simulator import PromptKind, PromptPlan
from projects.sam2.structures import TrackingMode
from tool_modules import ROOT, load_tool

RECIPE = ROOT / 'configs/_base_/schedules/finetune_40e_low_memory.py'
PROMPTS = [PromptKind.MASK, PromptKind.POINT]


@pytest.fixture(scope='module')
def plain() -> ModuleType:
    return load_tool('benchmarks/plain_training')


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, 'SMALLEST_BYTES', 0)


def low_memory(salt: str) -> SAM2:
    """The small model as the recipe trains it."""
    model = golden_model(salt)
    for hook in Config.fromfile(RECIPE).custom_hooks:
        HOOKS.build(hook).apply(model)
    return model


def gradients(
    case: GoldenCase, kind: PromptKind, model: SAM2, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Gradients of the loss of a golden clip, clicked on in two frames or none."""
    batch = golden_batch(case.spec['case'], case.arrays['masks_bits'])
    plan = PromptPlan(
        prompts={0: kind},
        correction_frames=frozenset({0, 1} if kind is PromptKind.POINT else ()),
        conditioning_frames=frozenset({0}),
    )
    batch = replace(batch, frames=batch.frames.to(dtype))
    model.train().to(dtype)
    outputs = model.track(batch, plan, TrackingMode.TRAINING)
    assert model.loss_module is not None
    terms = model.loss_module(outputs, batch.targets)
    sum(terms.values(), torch.zeros(())).backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.golden
@pytest.mark.parametrize('kind', PROMPTS)
@pytest.mark.parametrize('case', discover('train_mask1_v17'))
def test_every_gradient_equals_that_of_the_plain_way(
    case: GoldenCase, kind: PromptKind, plain: ModuleType
) -> None:
    salt, exact = case.spec['case']['salt'], torch.float64
    with plain.plain_way():
        expected = gradients(case, kind, golden_model(salt), exact)
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for model in (golden_model(salt), low_memory(salt)):
        actual = gradients(case, kind, model, exact)
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            error = float((actual[name] - gradient).norm())
            # A bias of keys has no gradient but rounding errors.
            assert error <= 1e-9 * float(gradient.norm()) + 1e-15 * largest, name


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('train_mask1_v17'))
def test_gradients_of_single_precision_differ_by_rounding(
    case: GoldenCase, plain: ModuleType
) -> None:
    kind, salt, single = PromptKind.MASK, case.spec['case']['salt'], torch.float32
    with plain.plain_way():
        expected = flat(gradients(case, kind, golden_model(salt), single))
    for model in (golden_model(salt), low_memory(salt)):
        actual = flat(gradients(case, kind, model, single))
        assert float((actual - expected).norm()) <= 1e-5 * float(expected.norm())


def flat(parts: dict[str, Tensor]) -> Tensor:
    """All gradients as one vector."""
    return torch.cat([gradient.flatten() for gradient in parts.values()])


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('train_mask1_v17'))
def test_each_way_keeps_less_than_the_one_before(
    case: GoldenCase, plain: ModuleType
) -> None:
    salt = case.spec['case']['salt']
    batch = golden_batch(case.spec['case'], case.arrays['masks_bits'])
    model = golden_model(salt).train()
    recipe = low_memory(salt).train()
    with plain.plain_way():
        most = sum(kept_storages(lambda: model.loss(batch)))
    default = sum(kept_storages(lambda: model.loss(batch)))
    assert default < 0.6 * most
    assert sum(kept_storages(lambda: recipe.loss(batch))) < 0.3 * default
