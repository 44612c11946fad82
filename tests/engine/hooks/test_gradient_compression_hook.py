"""Gradients travel in bfloat16, and training hardly notices."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from engine_processes import run_processes
from engine_toys import load, toy_config
from projects.sam2.engine.hooks import SAM2GradientCompressionHook

HOOK = {'type': 'SAM2GradientCompressionHook'}


def test_steps_are_close_to_those_of_whole_gradients_and_not_the_same(
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


def test_other_wrapper_is_named_and_one_process_is_left_alone() -> None:
    runner: Any = SimpleNamespace(distributed=True, model=nn.Linear(1, 1))
    with pytest.raises(TypeError, match='is in Linear'):
        SAM2GradientCompressionHook().before_train(runner)
    runner.distributed = False
    SAM2GradientCompressionHook().before_train(runner)
