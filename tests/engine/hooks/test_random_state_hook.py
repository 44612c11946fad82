"""Random numbers do not depend on interruptions or validation."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from engine_processes import run_processes
from engine_toys import load, toy_config, train
from projects.sam2.engine.hooks import ClipRandomStateHook
from projects.sam2.engine.hooks import random_state_hook as module
from projects.sam2.engine.hooks.random_state_hook import (
    capture_random_state,
    restore_random_state,
)

STATE = 'random_states'


@pytest.fixture(autouse=True)
def _keep_random_state() -> Iterator[None]:
    state = capture_random_state()
    yield
    restore_random_state(state)


@pytest.fixture
def runner() -> Mock:
    """The attributes of a Runner that the hook reads."""
    return Mock(_resume=True, seed=3)


def saved_state(runner: Mock) -> tuple[dict[str, Any], torch.Tensor]:
    """A checkpoint of the current state, and the next numbers."""
    checkpoint: dict[str, Any] = {}
    writer = ClipRandomStateHook()
    writer.before_gather_checkpoint(runner)
    writer.before_save_checkpoint(runner, checkpoint)
    return checkpoint, torch.rand(3)


def test_states_are_restored_once_the_iterator_is_built(runner: Mock) -> None:
    checkpoint, expected = saved_state(runner)
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    torch.rand(5)  # as building an iterator does
    hook.after_build_iterator(runner)
    assert torch.equal(torch.rand(3), expected)
    following = torch.get_rng_state()
    hook.before_train_iter(runner, 0)
    assert torch.equal(torch.get_rng_state(), following)


def test_states_are_restored_at_the_first_batch_in_other_loops(runner: Mock) -> None:
    checkpoint, expected = saved_state(runner)
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train_epoch(runner)
    torch.rand(5)
    hook.before_train_iter(runner, 0)
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_before_the_first_epoch_contains_the_loaded_states(
    runner: Mock,
) -> None:
    checkpoint, _ = saved_state(runner)
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_gather_checkpoint(runner)
    written: dict[str, Any] = {}
    hook.before_save_checkpoint(runner, written)
    assert torch.equal(written[STATE][0]['torch'], checkpoint[STATE][0]['torch'])


def test_validation_does_not_change_the_states(runner: Mock) -> None:
    hook = ClipRandomStateHook()
    before = torch.get_rng_state()
    hook.before_val_epoch(runner)
    torch.rand(7)
    hook.after_val_epoch(runner, {})
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_alone_contain_no_random_states(runner: Mock) -> None:
    checkpoint: dict[str, Any] = {}
    ClipRandomStateHook().before_save_checkpoint(runner, checkpoint)
    assert checkpoint == {}
    runner._resume = False
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, saved_state(runner)[0])
    assert hook._pending is None
    runner.logger.warning.assert_not_called()


def test_missing_state_is_named(runner: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, _ = saved_state(runner)
    monkeypatch.setattr(module, 'get_rank', lambda: 2)
    ClipRandomStateHook().after_load_checkpoint(runner, checkpoint)
    text, *values = runner.logger.warning.call_args.args
    assert 'states of 1 processes and none for process 2' in text % tuple(values)


def test_training_draws_the_same_with_and_without_validation(tmp_path: Path) -> None:
    once = train(toy_config(tmp_path / 'a')).model.state_dict()
    changes = {'train_cfg__val_interval': 2}
    other = train(toy_config(tmp_path / 'b', **changes)).model.state_dict()
    assert all(torch.equal(once[key], other[key]) for key in once)


def test_processes_draw_different_numbers_and_all_are_saved(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, train_cfg__max_epochs=1)
    assert run_processes(cfg, 2) == [0, 0]
    first, second = load(tmp_path / 'epoch_1.pth')[STATE]
    assert not torch.equal(first['torch'], second['torch'])


def draw() -> tuple[float, float, float]:
    """One number of each library's global stream, with a cached one behind NumPy's."""
    normal = float(np.random.standard_normal())  # noqa: NPY002  what is tested
    return random.random(), normal, float(torch.rand(()))


def test_restored_states_draw_the_same_numbers_after_a_weights_only_load(
    tmp_path: Path,
) -> None:
    draw()
    state = capture_random_state()
    expected = [draw() for _ in range(3)]
    torch.save(state, tmp_path / 'state.pth')
    restore_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [draw() for _ in range(3)] == expected
