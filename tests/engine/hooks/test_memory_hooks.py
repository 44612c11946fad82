"""Activation checkpointing and bfloat16 gradients."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from engine_processes import run_processes
from engine_toys import load, toy_config
from golden_models import golden_model
from projects.sam2.engine.hooks import SAM2GradientCompressionHook, SAM2LowMemoryHook


def test_only_the_named_parts_are_checkpointed() -> None:
    model = golden_model('v17')
    hook = SAM2LowMemoryHook(
        parts=['mask_decoder'], frames_at_once=2, objects_at_once=3
    )
    hook.apply(model)
    assert model.mask_decoder.with_cp
    assert not model.tracker.memory_attention.with_cp
    assert not model.image_encoder.backbone.with_cp
    assert model.image_encoder.frames_at_once == 2
    assert model.objects_at_once == 3


def test_unknown_part_is_named_with_the_known_ones() -> None:
    hook = HOOKS.build({'type': 'SAM2LowMemoryHook', 'parts': ['decoder']})
    with pytest.raises(ValueError, match=r"'decoder' .*image_encoder.backbone"):
        hook.apply(golden_model('v17'))


@pytest.mark.parametrize('number', [0, -1, 'all'])
@pytest.mark.parametrize('name', ['frames_at_once', 'objects_at_once'])
def test_numbers_that_are_not_positive_are_refused(name: str, number: object) -> None:
    with pytest.raises(ValueError, match=f'{name} is {number!r}; give'):
        HOOKS.build({'type': 'SAM2LowMemoryHook', name: number})


@pytest.mark.parametrize('precision', [None, torch.float16])
def test_objects_at_once_is_refused_with_float16(
    precision: torch.dtype | None,
) -> None:
    runner = SimpleNamespace(
        model=golden_model('v17'), optim_wrapper=SimpleNamespace(cast_dtype=None)
    )
    hook = SAM2LowMemoryHook(objects_at_once=1)
    hook.before_train(cast('Runner', runner))
    assert runner.model.objects_at_once == 1
    # As MMEngine's AmpOptimWrapper, which is not to be had without a GPU.
    wrapper = SimpleNamespace(loss_scaler=None, cast_dtype=torch.bfloat16)
    runner.optim_wrapper = wrapper
    hook.before_train(cast('Runner', runner))
    wrapper.cast_dtype = precision
    with pytest.raises(ValueError, match='SAM2BFloat16OptimWrapper'):
        hook.before_train(cast('Runner', runner))


HOOK = {'type': 'SAM2GradientCompressionHook'}


def test_compressed_steps_are_close_to_full_precision_and_not_equal(
    tmp_path: Path,
) -> None:
    found = {}
    for name, hooks in (('whole', []), ('compressed', [HOOK])):
        cfg = toy_config(
            tmp_path / name,
            custom_hooks=hooks,
            train_cfg__max_epochs=1,
            val_cfg=None,
            val_dataloader=None,
            val_evaluator=None,
        )
        cfg.default_hooks.checkpoint.update(save_best=None)
        cfg.optim_wrapper.update(optimizer={'type': 'SGD', 'lr': 0.01})
        assert run_processes(cfg, 2) == [0, 0]
        found[name] = load(tmp_path / name / 'epoch_1.pth')['state_dict']
    differences = [
        (found['compressed'][key] - value).abs().max().item()
        for key, value in found['whole'].items()
    ]
    # A step is at most 0.01, and bfloat16 has eight bits; there are three steps.
    assert 0 < max(differences) < 3 * 0.01 * 2**-7


def test_other_model_wrapper_is_refused_and_one_process_is_ignored() -> None:
    runner: Any = SimpleNamespace(distributed=True, model=nn.Linear(1, 1))
    with pytest.raises(TypeError, match='is in Linear'):
        SAM2GradientCompressionHook().before_train(runner)
    runner.distributed = False
    SAM2GradientCompressionHook().before_train(runner)
