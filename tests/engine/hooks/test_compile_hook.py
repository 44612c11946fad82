"""Compiled parts compute what they did before."""

import logging
import os
import shutil
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch._dynamo.config as compiler_settings
import torch._inductor.config as inductor_settings
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch import Tensor, fx, nn

from bridge_models import assert_same_weights
from golden_models import golden_model
from projects.sam2.engine.hooks import SAM2CompileHook
from projects.sam2.models import SAM2
from projects.sam2.models.prompt_simulator import PromptPlan
from square_clips import SIDE, square_sample

PARTS = [
    ('static', 'image_encoder.backbone.blocks.0'),
    ('static', 'tracker.memory_encoder'),
    ('dynamic', 'tracker.memory_attention.layers.0'),
    ('dynamic', 'mask_decoder'),
]


@pytest.fixture
def model() -> SAM2:
    """The golden model, in training."""
    return golden_model('v17', data_preprocessor={'image_size': (SIDE, SIDE)}).train()


def _gradients(model: SAM2) -> tuple[float, Tensor]:
    """Loss of a clip, and all gradients as one vector."""
    model.zero_grad()
    batch = model.data_preprocessor([square_sample(0)])['inputs']
    total = torch.stack(list(model(batch, mode='loss').values())).sum()
    total.backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    return total.item(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    'SAM2_COMPILE_TESTS' not in os.environ or shutil.which('g++') is None,
    reason='set SAM2_COMPILE_TESTS; needs a C++ compiler and some minutes',
)
@pytest.mark.filterwarnings('ignore')  # of the compiler's own
@pytest.mark.parametrize(('shapes', 'part'), PARTS)
def test_compiled_part_gives_the_same_loss_and_gradients(
    model: SAM2,
    shapes: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    expected, gradients = _gradients(model)
    hook = {'type': 'SAM2CompileHook', 'static': [], shapes: [part]}
    HOOKS.build(hook).apply(model)
    torch.compiler.reset()
    with inductor_settings.patch(compile_threads=1):
        found, compiled = _gradients(model)
    assert list(tmp_path.rglob('*.so')), 'nothing was compiled'
    assert found == pytest.approx(expected, rel=1e-5)
    assert (compiled - gradients).norm() <= 1e-4 * gradients.norm()


def test_without_names_the_recipe_is_compiled_in_a_wrapped_model_too() -> None:
    model = golden_model('v17')
    HOOKS.build({'type': 'SAM2CompileHook'}).apply(nn.Sequential(model))
    compiled = {name for name, m in model.named_modules() if m._compiled_call_impl}
    parts = {'tracker.memory_encoder', 'tracker.object_pointer', 'mask_decoder'}
    assert parts | {'prompt_encoder', 'tracker.memory_attention.layers.1'} <= compiled
    assert 'image_encoder.backbone.blocks.7' in compiled


def test_a_model_without_a_sam2_needs_names() -> None:
    with pytest.raises(ValueError, match='no SAM 2 in the Linear; name the modules'):
        SAM2CompileHook().apply(nn.Linear(1, 1))


class Step(nn.Module):
    """Differs from others by a number, as blocks do by their rate of drop path."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, tensor: Tensor) -> Tensor:
        """Add the number."""
        return tensor + self.number


def test_all_blocks_are_compiled_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def note(graph: fx.GraphModule, _: list[Tensor]) -> fx.GraphModule:
        traced.append(graph)
        return graph

    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', partialmethod(plain, backend=note))
    model = nn.Sequential(*map(Step, range(12)))
    torch.compiler.reset()
    with compiler_settings.patch(recompile_limit=8):
        SAM2CompileHook(static=['*']).apply(model)
        assert model(torch.zeros(2)).tolist() == [66, 66]
    assert len(traced) == 12


def test_pattern_compiles_a_block_and_not_its_children() -> None:
    model = golden_model('v17')
    SAM2CompileHook(static=['image_encoder.backbone.blocks.*']).apply(model)
    done = [n for n, one in model.named_modules() if one._compiled_call_impl]
    assert done == [f'image_encoder.backbone.blocks.{index}' for index in range(8)]


def test_warm_up_runs_the_next_prompts_and_changes_nothing(
    model: SAM2,
) -> None:
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    runner: Any = SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(optimizer),
        message_hub=hub,
        iter=5,
        logger=logging.getLogger(__name__),
    )
    steps: list[int] = []
    plan = model.prompt_simulator.plan

    def noted(num_frames: int, step: int, seed: int) -> PromptPlan:
        steps.append(step)
        torch.rand(1)  # as dropout would
        planned: PromptPlan = plan(num_frames, step=step, seed=seed)
        return planned

    model.prompt_simulator.plan = noted
    observer = Mock()
    assert model.loss_module is not None
    model.loss_module.observer = observer
    weights = {name: one.clone() for name, one in model.state_dict().items()}
    stream = torch.get_rng_state()
    hook = SAM2CompileHook(static=[], warm_up=2)
    for batch in range(2):
        hook.before_train_iter(runner, batch, [square_sample(0)])
    assert steps == [5, 6]
    assert hub.get_info('iter') == 5
    assert model.loss_module.observer is observer
    observer.assert_not_called()
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(one.grad is None for one in model.parameters())
    assert_same_weights(dict(model.state_dict()), weights)


def test_unknown_module_is_named() -> None:
    with pytest.raises(ValueError, match=r"'decoder' matches no module.*image_encoder"):
        SAM2CompileHook(static=['decoder']).apply(golden_model('v17'))
