"""What ``tools/dist_train.sh`` starts hands signals on and tells how the run ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
)

from projects.sam2.engine.hooks.preemption_hook import EXIT_CODE, INTERRUPT_EXIT_CODE
from tool_modules import TOOLS, load_tool

# Ends like a run that a signal stopped: late, and with its exit code.
WORKER = """
import os, pathlib, signal, sys, time
heard = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: heard.append(number))
rank = os.environ['RANK']
pathlib.Path(sys.argv[1], f'ready_{rank}').touch()
end = time.monotonic() + 60
while not heard and time.monotonic() < end:
    time.sleep(0.05)
time.sleep(float(rank))
pathlib.Path(sys.argv[1], f'heard_{rank}').write_text(str(heard[0]))
sys.exit(75)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """A script in place of the training."""
    path = tmp_path / 'worker.py'
    path.write_text(WORKER)
    return path


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_signal_reaches_all_processes_and_their_exit_code_is_returned(
    worker: Path, number: signal.Signals
) -> None:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    words: list[str | Path] = [
        '--nproc-per-node=2',
        f'--master-port={port}',
        worker,
        worker.parent,
    ]
    launched = subprocess.Popen(
        [sys.executable, TOOLS / 'launch.py', *words, worker, worker.parent],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    end = time.monotonic() + 60
    while len(list(worker.parent.glob('ready_*'))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    launched.send_signal(number)
    _, said = launched.communicate(timeout=60)
    assert launched.returncode == 75, said
    # The second one ends a second later, and nobody cuts it short.
    for rank in (0, 1):
        assert (worker.parent / f'heard_{rank}').read_text() == str(int(number))
    assert (
        'Stopped by a signal, checkpoint saved, with exit codes (process 0: 75' in said
    )
    assert 'Traceback' not in said


def test_signal_before_any_process_has_started_ends_the_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = load_tool('launch')
    monkeypatch.setattr(launch, 'child_processes', list)
    with pytest.raises(SystemExit) as ended:
        launch.forward_signal(int(signal.SIGTERM), None)
    assert ended.value.code == 143


def test_child_processes_are_those_that_this_process_has_started() -> None:
    with subprocess.Popen(['sleep', '60']) as child:
        assert child.pid in load_tool('launch').child_processes()
        child.kill()
    assert child.pid not in load_tool('launch').child_processes()


@pytest.mark.parametrize(
    ('codes', 'expected'),
    [
        ((75, 75), 75),
        ((75, -15), 75),
        ((130, 75), 130),
        ((130, 130), 130),
        ((75, 1), 75),
        ((-9, 75), 1),
        ((1, 75), 1),
        ((-9, -9), 1),
        ((3, 3), 3),
    ],
)
def test_exit_code_tells_a_stopped_run_from_a_failed_one(
    codes: tuple[int, ...], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = load_tool('launch')
    assert (launch.STOPPED, launch.INTERRUPTED) == (EXIT_CODE, INTERRUPT_EXIT_CODE)
    failures = {
        rank: ProcessFailure(rank, 100 + rank, code, '<N/A>')
        for rank, code in enumerate(codes)
    }
    for second, failure in enumerate(failures.values()):
        vars(failure)['timestamp'] = second
    error = ChildFailedError('train.py', failures)
    monkeypatch.setattr(launch, 'run', Mock(side_effect=error))
    monkeypatch.setattr(launch.signal, 'signal', Mock())
    assert launch.main(['train.py']) == expected
