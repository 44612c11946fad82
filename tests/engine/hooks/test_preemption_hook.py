"""A cluster that wants its machine back loses nothing of a run."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from torch._C import _set_worker_signal_handlers
from torch.utils.data._utils import signal_handling

from engine_processes import run_processes
from engine_toys import differences, load, toy_config, train
from projects.sam2.engine.hooks import preemption_hook
from projects.sam2.engine.hooks.preemption_hook import (
    EXIT_CODE,
    INTERRUPT_EXIT_CODE,
    PREEMPTION_SIGNALS,
)
from projects.sam2.engine.optim import NonFiniteLossError

SEND = 'engine_toys.ToySignalHook'
SAME = ('state_dict', 'optimizer', 'param_schedulers', 'random_states')


@pytest.fixture
def _handlers() -> Iterator[None]:
    """Puts this process's own handlers back."""
    numbers = (*PREEMPTION_SIGNALS, signal.SIGINT)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def send(number: int, **more: object) -> list[dict[str, Any]]:
    """The hook that sends."""
    return [{'type': SEND, 'number': int(number), **more}]


@pytest.mark.parametrize(
    ('number', 'world_size', 'exit_code'),
    [
        (signal.SIGTERM, 1, EXIT_CODE),
        (signal.SIGUSR1, 2, EXIT_CODE),
        (signal.SIGINT, 1, INTERRUPT_EXIT_CODE),
    ],
)
def test_stopped_and_resumed_run_ends_like_an_uninterrupted_one(
    tmp_path: Path, number: int, world_size: int, exit_code: int
) -> None:
    workers: dict[str, Any] = {
        'train_dataloader__num_workers': 2,
        'train_dataloader__batch_size': 2 // world_size,
        'optim_wrapper__accumulative_counts': 2,
    }
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    assert run_processes(toy_config(whole, **workers), world_size) == [0] * world_size
    # One process hears of it, its workers too, between the two halves of a step.
    hooks = send(number, iteration=7, rank=world_size - 1)
    cfg = toy_config(run, custom_hooks=hooks, **workers)
    assert run_processes(cfg, world_size) == [exit_code] * world_size
    stopped = run / 'epoch_1_iter_8.pth'
    assert (run / 'last_checkpoint').read_text() == str(stopped)
    assert load(stopped)['meta']['iter'] == 8

    cfg = toy_config(run, resume=True, **workers)
    assert run_processes(cfg, world_size) == [0] * world_size
    expected, found = load(whole / 'epoch_2.pth'), load(run / 'epoch_2.pth')
    assert {key: differences(expected[key], found[key]) for key in SAME} == {
        key: [] for key in SAME
    }
    assert differences(load(stopped)['state_dict'], found['state_dict'])


@pytest.mark.usefixtures('_handlers')
@pytest.mark.parametrize(('in_validation', 'agreed'), [(False, True), (True, False)])
def test_process_leaves_the_group_only_if_all_processes_stop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    in_validation: bool,
    agreed: bool,
) -> None:
    part = Mock()
    monkeypatch.setattr(preemption_hook, 'leave_process_group', part)
    iteration = 6 if in_validation else 5
    hooks = send(signal.SIGTERM, iteration=iteration, in_validation=in_validation)
    with pytest.raises(SystemExit):
        train(toy_config(tmp_path, custom_hooks=hooks))
    assert part.called == agreed


@pytest.mark.usefixtures('_handlers')
def test_signal_in_validation_exits_at_once_and_resuming_validates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hooks = send(signal.SIGTERM, iteration=6, in_validation=True)
    with pytest.raises(SystemExit) as ended:
        train(toy_config(tmp_path, custom_hooks=hooks))
    assert ended.value.code == EXIT_CODE
    assert {signal.getsignal(number) for number in PREEMPTION_SIGNALS} == {
        signal.SIG_IGN
    }
    assert 'Stopped by SIGTERM during validation' in capsys.readouterr().out
    assert not list(tmp_path.glob('best_*'))
    again = train(toy_config(tmp_path, resume=True))
    # The validation that was owed, and that of the second epoch.
    assert again.val_dataloader.dataset.loaded == 2 * [0, 1, 2, 3]


@pytest.mark.usefixtures('_handlers')
def test_validation_without_a_checkpoint_is_not_interrupted(tmp_path: Path) -> None:
    hooks = send(signal.SIGTERM, iteration=6, in_validation=True)
    interval = {'default_hooks__checkpoint__interval': 2}
    with pytest.raises(SystemExit) as ended:
        train(toy_config(tmp_path, custom_hooks=hooks, **interval))
    assert ended.value.code == EXIT_CODE
    assert {signal.getsignal(number) for number in PREEMPTION_SIGNALS} == {
        signal.SIG_IGN
    }
    assert [path.name for path in tmp_path.glob('best_*')] == ['best_JF_epoch_1.pth']
    assert load(tmp_path / 'epoch_1.pth')['meta']['iter'] == 6


@pytest.mark.usefixtures('_handlers')
def test_signal_at_the_end_of_a_run_has_no_effect(tmp_path: Path) -> None:
    hooks = send(signal.SIGUSR1, iteration=12)
    before = signal.getsignal(signal.SIGUSR1)
    cfg = toy_config(tmp_path, custom_hooks=hooks)
    cfg.update(dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator')))
    assert train(cfg).iter == 12
    assert signal.getsignal(signal.SIGUSR1) == before


def test_run_outside_the_main_thread_warns_that_signals_do_not_save(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = toy_config(tmp_path, train_cfg__max_epochs=1)
    runs = []
    thread = threading.Thread(target=lambda: runs.append(train(cfg)))
    thread.start()
    thread.join()
    assert runs[0].iter == 6
    assert 'SIGTERM and SIGUSR1 will not save' in capsys.readouterr().out


@pytest.mark.usefixtures('_handlers')
def test_worker_ignores_a_signal_right_after_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare_and_hear() -> None:
        _set_worker_signal_handlers()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(
        signal_handling, '_set_worker_signal_handlers', prepare_and_hear
    )
    workers = {f'{name}_dataloader__num_workers': 1 for name in ('train', 'val')}
    assert train(toy_config(tmp_path, **workers)).iter == 12


@pytest.mark.usefixtures('_handlers')
def test_failed_run_restores_the_handler_of_ctrl_c(tmp_path: Path) -> None:
    # Else a notebook could not be interrupted any more.
    before = signal.getsignal(signal.SIGINT)
    hooks = [{'type': 'engine_toys.ToyNanHook', 'iterations': range(2, 7)}]
    with pytest.raises(NonFiniteLossError):
        train(toy_config(tmp_path, custom_hooks=hooks))
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.set_wakeup_fd(-1) == -1
