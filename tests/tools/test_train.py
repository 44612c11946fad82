"""``tools/train.py`` and its distributed form train and resume."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_toys import differences, load, toy_config_file
from tool_modules import ROOT, TOOLS, load_tool


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config file of the toy run, of one epoch."""
    return toy_config_file(tmp_path / 'toy.py', train_cfg__max_epochs=1)


def environment() -> dict[str, str]:
    """Variables of a program that trains the toy run, among processes of its own."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    return {
        **os.environ,
        'PORT': port,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT / 'tests' / 'support'),
        'OMP_NUM_THREADS': '1',
    }


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something has happened, for two minutes at most."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_arguments_are_those_of_mm_tools() -> None:
    parse = load_tool('train').parse_arguments
    words = (
        'c.py --work-dir w --amp --resume --auto-scale-lr --cfg-options a.b=1 c=[x,y]'
    )
    options = parse([*words.split(), 'c=[x,y]', '--launcher', 'slurm'])
    assert vars(options) == {
        'config': 'c.py',
        'work_dir': 'w',
        'amp': True,
        'auto_scale_lr': True,
        'resume': 'auto',
        'compile': False,
        'cfg_options': {'a.b': 1, 'c': ['x', 'y']},
        'launcher': 'slurm',
        'local_rank': 0,
        'verbose': False,
    }
    assert parse(['c.py', '--resume', 'a.pth']).resume == 'a.pth'
    assert parse(['c.py', '--local_rank=3']).local_rank == 3
    assert parse(['c.py']).resume is None


def test_same_command_line_starts_and_restarts_a_run(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load_tool('train').main
    words = [config, '--work-dir', str(tmp_path / 'run'), '--amp', '--resume']
    main(words)
    assert 'starting a new run' in capsys.readouterr().out
    saved = load(tmp_path / 'run' / 'epoch_1.pth')
    assert 'SAM2BFloat16OptimWrapper' in saved['meta']['cfg']
    main([*words, '--cfg-options', 'experiment_name=again', 'train_cfg.max_epochs=2'])
    assert 'starting a new run' not in capsys.readouterr().out
    went_on = load(tmp_path / 'run' / 'epoch_2.pth')
    assert went_on['meta']['iter'] == 12
    assert differences(saved['state_dict'], went_on['state_dict']) != []


def test_test_py_gives_the_score_of_a_run_of_two_processes(
    config: str, tmp_path: Path
) -> None:
    work_dir = tmp_path / 'run'
    watched = tmp_path / 'watched.py'
    imports = ['projects.sam2', 'engine_toys', 'group_threads']
    watched.write_text(f'_base_ = {config!r}\ncustom_imports = dict(imports={imports})')
    answer = subprocess.run(
        [TOOLS / 'dist_train.sh', watched, '2', '--work-dir', str(work_dir)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    # One that still runs at Python's own end may abort the process.
    threads = re.findall(r'(before|after) there are (\d+) threads', answer.stdout)
    assert [int(count) > 0 for when, count in threads if when == 'before'] == [True] * 2
    assert [int(count) for when, count in threads if when == 'after'] == [0, 0]
    saved = load(work_dir / 'epoch_1.pth')
    assert saved['meta']['iter'] == 3
    assert len(saved['random_states']) == 2
    words = [config, str(work_dir / 'epoch_1.pth'), '--work-dir', str(work_dir)]
    metrics = load_tool('test').main(words)
    best = saved['message_hub']['runtime_info']['best_score']
    assert metrics['J&F'] == pytest.approx(best, rel=1e-9)


def interruptible_config(path: Path, seconds: float) -> str:
    """A config file of a run with workers that waits in its second iteration."""
    hook = {'type': 'engine_toys.ToySlowHook', 'iteration': 2, 'seconds': seconds}
    workers = {'train_dataloader__num_workers': 1}
    return toy_config_file(path, custom_hooks=[hook], **workers)


def test_ctrl_c_saves_and_ends_the_run_of_several_processes(tmp_path: Path) -> None:
    config, work_dir = interruptible_config(tmp_path / 'toy.py', 3.0), tmp_path / 'run'
    words = [str(TOOLS / 'dist_train.sh'), config, '2', '--work-dir', str(work_dir)]
    with subprocess.Popen(
        words,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        wait_for(lambda: len(list(work_dir.glob('waits_*'))) == 2)
        # To all processes of the group, as the terminal sends it, and once more as
        # from a launcher that hands it on.
        os.killpg(running.pid, signal.SIGINT)
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert 'Ctrl-C: a checkpoint is written at the next optimizer step' in said
    assert 'Traceback' not in said
    saved = Path((work_dir / 'last_checkpoint').read_text())
    assert load(saved)['meta']['iter'] in {2, 3}


def test_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    config, work_dir = interruptible_config(tmp_path / 'toy.py', 90.0), tmp_path / 'run'
    said = tmp_path / 'said.txt'
    with (
        said.open('w') as file,
        subprocess.Popen(
            [sys.executable, TOOLS / 'train.py', config, '--work-dir', work_dir],
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):
        wait_for((work_dir / 'waits_0').exists)
        os.killpg(running.pid, signal.SIGINT)
        wait_for(lambda: 'A second Ctrl-C ends it at once' in said.read_text())
        time.sleep(1)  # within half a second it would be the same key press
        assert running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=30)
    assert running.returncode == 130
    assert not (work_dir / 'last_checkpoint').exists()
    # The loader's worker is gone, too.
    wait_for(lambda: not _group_lives(running.pid))


def _group_lives(group: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
