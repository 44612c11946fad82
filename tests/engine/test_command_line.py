"""Tools share their options, and part from the other processes when they are done."""

import argparse
import multiprocessing
import os
import sys
import weakref
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from mmengine.runner import Runner
from torch import distributed

from engine_toys import toy_config
from projects.sam2.engine import command_line
from projects.sam2.engine.command_line import (
    add_run_arguments,
    call_tool,
    launched_runner,
)
from projects.sam2.engine.distributed import LostProcessError


def parse(*words: str) -> argparse.Namespace:
    """Options of a tool that has no others."""
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    return parser.parse_args(words)


def test_values_of_options_have_their_types() -> None:
    options = parse('--cfg-options', 'a=1', 'b.c=[2,3]', 'd=x', '--launcher', 'mpi')
    assert options.cfg_options == {'a': 1, 'b.c': [2, 3], 'd': 'x'}
    assert options.launcher == 'mpi'
    with pytest.raises(SystemExit):
        parse('--launcher', 'horse')


def test_runner_is_built_where_it_was_told_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    options = parse('--work-dir', str(tmp_path / 'run'), '--local-rank', '2')
    with launched_runner(toy_config(tmp_path), options) as runner:
        assert runner.work_dir == str(tmp_path / 'run')
        assert not runner.distributed
        assert os.environ['LOCAL_RANK'] == '2'
    monkeypatch.delenv('LOCAL_RANK')


@pytest.mark.parametrize(
    'loop',
    [
        {'type': 'ClipTrainLoop', 'max_epochs': 1},
        {'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2},
    ],
)
def test_workers_end_while_the_runner_is_there(
    loop: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    cfg = toy_config(tmp_path)
    cfg.train_cfg = loop
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=1, persistent_workers=True)
    others = set(multiprocessing.active_children())
    with launched_runner(cfg, parse('--launcher', 'none')) as runner:
        runner.train()
        assert len(set(multiprocessing.active_children()) - others) == 2
    assert set(multiprocessing.active_children()) <= others


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts the processes that part from their group."""
    leave = Mock()
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(command_line, 'prepare_processes', Mock())
    monkeypatch.setattr(Runner, 'from_cfg', Mock())
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'destroy_process_group', leave)
    return leave


def test_processes_part_when_they_are_done(tmp_path: Path, leave: Mock) -> None:
    with launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')):
        leave.assert_not_called()
    leave.assert_called_once_with()


def test_process_that_fails_waits_for_no_other(tmp_path: Path, leave: Mock) -> None:
    message = 'loss is not finite'
    with (
        pytest.raises(FloatingPointError, match=message),
        launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')),
    ):
        raise FloatingPointError(message)
    leave.assert_not_called()


def test_lost_contact_becomes_an_error_that_says_what_to_do(
    tmp_path: Path, leave: Mock
) -> None:
    message = '[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1'
    with (
        pytest.raises(LostProcessError, match='with --resume: it goes on') as caught,
        launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')),
    ):
        raise RuntimeError(message)
    assert message in str(caught.value)
    leave.assert_not_called()


def test_user_error_is_one_line_and_a_fault_of_the_program_is_not() -> None:
    with pytest.raises(SystemExit) as ended:
        call_tool(Mock(side_effect=FileNotFoundError('a.pth does not exist')))
    assert ended.value.code == 'error: a.pth does not exist'
    with pytest.raises(ZeroDivisionError):
        call_tool(lambda: 1 // 0)


def test_runner_is_let_go_before_the_program_ends() -> None:
    left: list[weakref.ref[Mock]] = []

    def end(*, code: int | None) -> None:
        runner = Mock()
        runner.attach_mock(runner, 'loop')  # which holds the Runner
        left.append(weakref.ref(runner))
        if code is not None:
            sys.exit(code)

    call_tool(partial(end, code=None))
    assert left.pop()() is None
    with pytest.raises(SystemExit) as ended:
        call_tool(partial(end, code=75))
    assert ended.value.code == 75
    assert left.pop()() is None
