"""Tools share their options, and part from the other processes when they are done."""

import argparse
import errno
import io
import logging
import multiprocessing
import os
import sys
import weakref
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import distributed
from torch._utils import ExceptionWrapper

from engine_toys import toy_config
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.engine import launching
from projects.sam2.engine.command_line import (
    add_run_arguments,
    call_tool,
    whole_number,
)
from projects.sam2.engine.distributed import LostProcessError
from projects.sam2.engine.launching import launched_runner


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


def test_runner_uses_the_work_dir_and_local_rank_of_the_options(
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
    monkeypatch.setattr(launching, 'init_distributed', Mock())
    runner = Mock(logger=Mock(handlers=[]), rank=0)
    monkeypatch.setattr(Runner, 'from_cfg', Mock(return_value=runner))
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'destroy_process_group', leave)
    return leave


def test_process_leaves_the_group_after_the_run(tmp_path: Path, leave: Mock) -> None:
    with launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')):
        leave.assert_not_called()
    leave.assert_called_once_with()


def test_failed_process_does_not_leave_the_group(tmp_path: Path, leave: Mock) -> None:
    message = 'loss is not finite'
    with (
        pytest.raises(FloatingPointError, match=message),
        launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')),
    ):
        raise FloatingPointError(message)
    leave.assert_not_called()


def test_lost_process_error_names_the_remedy(tmp_path: Path, leave: Mock) -> None:
    message = '[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1'
    with (
        pytest.raises(LostProcessError, match='with --resume to continue') as caught,
        launched_runner(toy_config(tmp_path), parse('--launcher', 'pytorch')),
    ):
        raise RuntimeError(message)
    assert message in str(caught.value)
    leave.assert_not_called()


def printed_for(error: BaseException) -> str:
    """What a tool prints that ends with an error, with exit code 1."""
    with pytest.raises(SystemExit) as ended:
        call_tool(Mock(side_effect=error))
    # Python prints a code that is a text, and the exit code is 1.
    assert isinstance(ended.value.code, str)
    return ended.value.code


def test_only_user_errors_are_printed_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = FileNotFoundError('a.pth does not exist')
    assert printed_for(error) == 'error: a.pth does not exist'
    assert printed_for(MemoryError()) == 'error: out of memory'
    gpu = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB. GPU 0')
    remedy = 'use a smaller batch_size or image_size, or fewer objects'
    assert printed_for(gpu) == (
        f'error: CUDA out of memory (Tried to allocate 2 GiB); {remedy}'
    )
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(2**60, dtype=torch.uint8)
    assert printed_for(cpu.value) == (
        f'error: out of memory (tried to allocate {2**60} bytes); {remedy}'
    )
    with pytest.raises(ZeroDivisionError):
        call_tool(lambda: 1 // 0)
    monkeypatch.setenv('SAM2_TRACEBACK', '1')
    with pytest.raises(FileNotFoundError):
        call_tool(Mock(side_effect=error))


def test_error_of_a_worker_is_printed_without_its_traceback() -> None:
    try:
        try:
            int('x')
        except ValueError as error:
            message = 'clip_1: is damaged\n  and: so is clip_2'
            raise ClipDataError(message) from error
    except ClipDataError:
        wrapper = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(ClipDataError, match='Original Traceback') as caught:
        wrapper.reraise()
    printed = printed_for(caught.value)
    assert printed == 'error: clip_1: is damaged and: so is clip_2'
    assert 'Traceback' not in printed


def test_long_message_is_cut() -> None:
    lines = '\n'.join(f'clip_{number} is damaged' for number in range(20))
    printed = printed_for(ValueError(lines))
    assert 'clip_2 is damaged … and 17 more lines' in printed
    assert '\n' not in printed


def test_error_in_the_config_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> object:
        return MODELS.build({'type': 'engine_toys.ToyModel', 'depth': 3})

    def look_up() -> object:
        return MODELS.build({'type': 'NoSuchModel'})

    def lack() -> object:
        return Runner.from_cfg(Config())

    said = {
        build: "unexpected keyword argument 'depth'",
        look_up: 'NoSuchModel is not',
        lack: "error: the config has no entry 'model'",
    }
    for main, message in said.items():
        with pytest.raises(SystemExit):
            call_tool(main, exit_code=2)
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count('\n') == 1


def test_ctrl_c_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_tool(Mock(side_effect=KeyboardInterrupt))
    assert ended.value.code == 130
    assert capsys.readouterr().err == 'Interrupted\n'


def test_characters_that_the_terminal_does_not_have_are_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr('sys.stdout', terminal)
    call_tool(lambda: None)
    terminal.write('key.pt…   \udcff\n')
    terminal.flush()
    assert terminal.buffer.getvalue() == rb'key.pt\u2026   \udcff' + b'\n'


@pytest.mark.parametrize('text', ['-1', '1.5', 'x', ''])
def test_whole_number_refuses_others(text: str) -> None:
    assert whole_number(0)('0') == 0
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a whole"):
        whole_number(0)(text)


def test_log_on_a_full_disk_prints_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, 'raiseExceptions', True)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    handler = logging.StreamHandler(Mock(write=Mock(side_effect=full)))

    def run() -> None:
        handler.handle(logging.makeLogRecord({'msg': 'lost'}))
        raise full

    with pytest.raises(SystemExit, match=r'^error: \[Errno 28\] No space left'):
        call_tool(run)
    assert 'Traceback' not in capsys.readouterr().err


def test_exit_code_is_what_a_tool_returns() -> None:
    call_tool(lambda: 0)
    call_tool(lambda: {'J&F': 50.0})
    with pytest.raises(SystemExit) as ended:
        call_tool(lambda: 3)
    assert ended.value.code == 3


def test_traceback_of_a_run_that_failed_is_in_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    message = 'clip_7: is damaged'
    with (
        pytest.raises(ClipDataError),
        launched_runner(toy_config(tmp_path), parse()) as runner,
    ):
        raise ClipDataError(message)
    (log,) = tmp_path.glob(f'{runner.timestamp}/*.log')
    assert 'Traceback (most recent call last)' in log.read_text()
    assert message in log.read_text()
    assert 'Traceback' not in capsys.readouterr().out


def test_runner_is_freed_before_the_program_exits() -> None:
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
