"""Processes that share a model out train it as DDP does, and save it whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine_processes import run_processes
from engine_toys import ToyModel, differences, load, toy_config
from projects.sam2.engine.sharding import SAM2FullySharded

SHARDED = {'type': 'SAM2FullySharded', 'parts': ['first']}


def _train(work_dir: Path, *, sharded: bool, **changes: object) -> Path:
    cfg = toy_config(work_dir, **changes)
    if sharded:
        cfg.model_wrapper_cfg = SHARDED
    assert run_processes(cfg, 2) == [0, 0]
    return work_dir


def _numbers(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Weights and states of the optimizer, by name."""
    states = checkpoint['optimizer']['state']
    weights: dict[str, Tensor] = checkpoint['state_dict']
    return weights | {
        f'{index}.{key}': value
        for index, state in states.items()
        for key, value in state.items()
    }


def test_run_goes_on_from_a_checkpoint_of_ddp_to_the_weights_of_ddp(
    tmp_path: Path,
) -> None:
    ddp = _train(tmp_path / 'ddp', sharded=False)
    begun = ddp / 'epoch_1.pth'
    ours = _train(tmp_path / 'ours', sharded=True, resume=True, load_from=str(begun))
    before, expected, found = (
        _numbers(load(path))
        for path in (begun, ddp / 'epoch_2.pth', ours / 'epoch_2.pth')
    )
    # `never` has no gradient anywhere, `sometimes` on one process alone.
    assert found.keys() == expected.keys()
    assert '0.exp_avg' in found
    assert len(differences(before, expected)) > 0.8 * len(before)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-6), name


def test_part_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"'third' fits none .* first, dropout, seco"):
        SAM2FullySharded(module=ToyModel(), parts=['third'])
