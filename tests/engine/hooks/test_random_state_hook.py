"""What is drawn while training does not depend on interruptions or validation."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from engine_processes import run_processes
from engine_toys import load, toy_config, train
from projects.sam2.engine.hooks import ClipRandomStateHook
from projects.sam2.engine.hooks import random_state_hook as module

STATE = 'random_states'


@pytest.fixture
def runner() -> Mock:
    """What the hook reads of a Runner."""
    return Mock(_resume=True, seed=3)


def saved_state(runner: Mock) -> tuple[dict[str, Any], torch.Tensor]:
    """A checkpoint of now, and the next numbers."""
    checkpoint: dict[str, Any] = {}
    writer = ClipRandomStateHook()
    writer.before_gather_checkpoint(runner)
    writer.before_save_checkpoint(runner, checkpoint)
    return checkpoint, torch.rand(3)


def test_states_are_set_when_the_iterator_is_there(runner: Mock) -> None:
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


def test_loop_that_does_not_tell_gets_them_with_its_first_batch(runner: Mock) -> None:
    checkpoint, expected = saved_state(runner)
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train_epoch(runner)
    torch.rand(5)
    hook.before_train_iter(runner, 0)
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_of_a_validation_that_is_owed_holds_what_was_loaded(
    runner: Mock,
) -> None:
    checkpoint, _ = saved_state(runner)
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_gather_checkpoint(runner)
    written: dict[str, Any] = {}
    hook.before_save_checkpoint(runner, written)
    assert torch.equal(written[STATE][0]['torch'], checkpoint[STATE][0]['torch'])


def test_validation_leaves_the_states_as_they_were(runner: Mock) -> None:
    hook = ClipRandomStateHook()
    before = torch.get_rng_state()
    hook.before_val_epoch(runner)
    torch.rand(7)
    hook.after_val_epoch(runner, {})
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_alone_carry_no_random_states(runner: Mock) -> None:
    checkpoint: dict[str, Any] = {}
    ClipRandomStateHook().before_save_checkpoint(runner, checkpoint)
    assert checkpoint == {}
    runner._resume = False
    hook = ClipRandomStateHook()
    hook.after_load_checkpoint(runner, saved_state(runner)[0])
    assert hook._pending is None
    runner.logger.warning.assert_not_called()


def test_missing_states_are_told(runner: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
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
