"""The quickstart's budget, its progress bar, and how it goes on after Ctrl-C."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mmengine.config import DictAction

from projects.sam2.engine.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TABLE = '       J      F    J&F\nafter 1.0 2.0 1.5\n'


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    return import_module('quickstart')


def speed_times(tool: ModuleType, factor: float) -> Any:
    """The speed of the machine of the docs, or that of a slower one."""
    return tool.Speed(
        start=6 * factor, short_step=0.24 * factor, long_step=0.5 * factor
    )


def plan_for(tool: ModuleType, *, factor: float = 1, minutes: float = 8) -> Any:
    speed = speed_times(tool, factor)
    return tool.Plan.fitting(minutes, speed, steps_per_epoch=24, spent=20 * factor)


def test_half_the_speed_gives_half_the_epochs(tool: ModuleType) -> None:
    fast, slow = plan_for(tool, minutes=20), plan_for(tool, minutes=20, factor=2)
    # A little less than half: starting and scoring take twice as long, too.
    assert 0.4 < slow.num_epochs / fast.num_epochs < 0.5
    # The share of short clips and the number of validations stay.
    for plan in (fast, slow):
        share = plan.num_short_epochs / plan.num_epochs
        assert share == pytest.approx(tool.SHORT_SHARE, abs=0.05)
        assert round(plan.num_epochs / plan.val_interval) == tool.NUM_VALIDATIONS


@pytest.mark.parametrize('minutes', [5, 8, 30])
@pytest.mark.parametrize('factor', [0.3, 1, 2])
def test_longest_schedule_that_fits_is_chosen(
    tool: ModuleType, factor: float, minutes: float
) -> None:
    plan = plan_for(tool, factor=factor, minutes=minutes)
    left = 60 * minutes - 20 * factor
    assert plan.seconds <= left
    longer = replace(
        plan,
        num_epochs=plan.num_epochs + 1,
        num_short_epochs=round(tool.SHORT_SHARE * (plan.num_epochs + 1)),
    )
    assert longer.seconds > left


def test_budget_that_is_too_small_is_said(tool: ModuleType) -> None:
    plan = plan_for(tool, minutes=0.5)
    assert plan.num_epochs == tool.MIN_EPOCHS
    assert 'whatever MINUTES=0.5 says' in plan.describe()
    assert 'whatever' not in plan_for(tool).describe()


def test_expected_time_counts_steps_and_validations(tool: ModuleType) -> None:
    speed = tool.Speed(start=6.0, short_step=1.0, long_step=2.0)
    plan = tool.Plan(
        minutes=8,
        num_epochs=5,
        num_short_epochs=2,
        steps_per_epoch=10,
        val_interval=2,
        speed=speed,
    )
    validation = 2.0 * tool.VALIDATION_STEPS
    assert plan.seconds_until(0) == 6
    assert plan.seconds_until(19) == 6 + 19
    assert plan.seconds_until(20) == 6 + 20
    assert plan.seconds_until(21) == 6 + 20 + validation + 2
    # The last epoch is validated as well, although 5 is no multiple of 2.
    assert plan.training_seconds == 6 + 20 + 30 * 2 + 3 * validation


def test_slow_first_steps_do_not_count(tool: ModuleType) -> None:
    times = [9.0, 5.0, 0.2, 0.3, 0.2, 7.0, 4.0, 0.5, 0.6, 0.5]
    records = [{'iter': i, 'time': t} for i, t in enumerate(times, start=1)]
    speed = tool.speed_of(records[::-1], 12.0)
    assert (speed.start, speed.short_step, speed.long_step) == (12.0, 0.2, 0.5)


@pytest.mark.parametrize('num_processes', [1, 2])
def test_plan_is_what_the_config_then_says(
    tool: ModuleType, num_processes: int
) -> None:
    plan = plan_for(tool)
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = parser.parse_args(['--cfg-options', *plan.options(num_processes)])
    cfg = load_config(str(tool.CONFIG), options.cfg_options)
    assert cfg.train_cfg.max_epochs == plan.num_epochs
    assert cfg.train_cfg.val_interval == plan.val_interval
    assert cfg.train_dataloader.batch_size * num_processes == tool.CLIPS_PER_STEP
    sampling = cfg.train_dataloader.dataset.pipeline[0]
    assert sampling.type == 'ClipSampleFrames'
    assert sampling.num_frames == tool.SHORT
    ((epoch, length),) = sampling.later_num_frames
    assert (epoch, length) == (plan.num_short_epochs, tool.LONG)


# Progress ----------------------------------------------------------------------------


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_time_left_follows_the_pace(tool: ModuleType) -> None:
    clock = Clock()
    progress = tool.Progress(400.0, clock)
    progress.advance(0.0)
    assert progress.seconds_left == 400
    clock.now += 200  # the machine is half as fast as measured
    progress.advance(100.0)
    assert progress.seconds_left == 600
    assert tool.status_line(progress, 'epoch 3') == ' 25%, 10:00 min left: epoch 3'
    clock.now += 30  # nothing new in the log
    assert progress.seconds_left == 570


def test_work_before_an_interruption_does_not_count_for_the_pace(
    tool: ModuleType,
) -> None:
    clock = Clock()
    progress = tool.Progress(400.0, clock)
    clock.now += 10
    progress.advance(300.0)  # of an earlier call
    assert progress.seconds_left == 100
    clock.now += 40
    progress.advance(320.0)
    assert progress.seconds_left == 160


def test_progress_never_goes_back_or_beyond_the_end(tool: ModuleType) -> None:
    progress = tool.Progress(10.0, Clock())
    for done in (5.0, 3.0):
        progress.advance(done)
    assert progress.done == 5
    progress.advance(12.0)
    assert progress.done == 10
    assert progress.seconds_left == 0


def test_without_a_terminal_the_bar_is_lines(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = tool.Progress(10.0, Clock())
    with tool.progress_bar(progress) as show:
        for done in (1.0, 2.0, 3.0):
            progress.advance(done)
            show('training')
    assert capsys.readouterr().out == ' 10%, 0:09 min left: training\n'


def test_reader_reads_only_what_the_new_run_has_completed(
    tool: ModuleType, tmp_path: Path
) -> None:
    old, new = (tmp_path / name / 'vis_data' / 'scalars.json' for name in ('1', '2'))
    old.parent.mkdir(parents=True)
    old.write_text('{"iter": 7}\n')
    reader = tool.LogReader(tmp_path)
    assert reader.read() == []
    new.parent.mkdir(parents=True)
    new.write_text('{"iter": 8}\n{"iter": 1')
    assert reader.read() == [{'iter': 8}]
    with new.open('a') as file:
        file.write('2}\n')
    assert reader.read() == [{'iter': 12}]
    assert reader.read() == []


# Programs and interruptions ----------------------------------------------------------


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / 'program.py'
    path.write_text(text)
    return path


def test_ctrl_c_reaches_the_program_once(tool: ModuleType, tmp_path: Path) -> None:
    program = script(
        tmp_path,
        'import signal, sys, time\n'
        'count = []\n'
        'signal.signal(signal.SIGINT, lambda *_: count.append(1))\n'
        'print("ready", flush=True)\n'
        'while not count: time.sleep(0.01)\n'
        'time.sleep(0.3)\n'
        'print("saved", len(count), flush=True)\n'
        'sys.exit(130)\n',
    )
    log = tmp_path / 'log'
    sent: list[int] = []

    def interrupt_once() -> None:
        if not sent and 'ready' in log.read_text():
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        tool.run_program([program], log, interrupt_once)
    assert caught.value.code == 130
    assert 'saved 1' in log.read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_failed_program_shows_the_end_of_its_log(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = script(tmp_path, 'print("because of this")\nraise SystemExit(3)')
    log = tmp_path / 'log'
    with pytest.raises(tool.ProgramFailedError, match=r'program.py failed.*log'):
        tool.run_program([program], log, lambda: None)
    assert 'because of this' in capsys.readouterr().err


def test_programs_run_on_the_cpu_with_one_thread(tool: ModuleType) -> None:
    environment = tool.program_environment({'CUDA_VISIBLE_DEVICES': '0', 'A': 'b'})
    assert environment['CUDA_VISIBLE_DEVICES'] == ''
    assert environment['OMP_NUM_THREADS'] == '1'
    assert tool.program_environment({'OMP_NUM_THREADS': '3'})['OMP_NUM_THREADS'] == '3'


class Programs:
    """Stands in for the programs: writes what they would leave behind."""

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root
        self.calls: list[str] = []
        self.max_epochs: list[str] = []
        self.interrupted: str | None = None

    def __call__(
        self, command: list[object], log: Path, watch: Callable[[], object]
    ) -> None:
        """Stand in for ``run_program``."""
        words = [str(word) for word in command]
        name = Path(words[0]).stem
        if name == 'launch':
            name = 'measure' if 'measure' in str(log) else 'train'
            self.max_epochs += [w for w in words if w.startswith('train_cfg.max_')]
        self.calls.append(name)
        if name == 'make_synthetic_clips':
            lists = self.data_root / 'ImageSets'
            lists.mkdir(parents=True, exist_ok=True)
            (lists / 'train.txt').write_text('\n'.join(f'c{i}' for i in range(96)))
        if name in {'measure', 'train'}:
            number = len(list(log.parent.glob('*/vis_data')))
            scalars = log.parent / f'{number}' / 'vis_data' / 'scalars.json'
            scalars.parent.mkdir(parents=True)
            times = [0.2] * 8 + [0.4] * 8
            records = [{'iter': i + 1, 'time': t} for i, t in enumerate(times)]
            scalars.write_text(''.join(json.dumps(r) + '\n' for r in records))
        if name == 'quickstart_report':
            log.write_text(TABLE)
        watch()
        if name == self.interrupted:
            sys.exit(130)


@pytest.fixture
def programs(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Programs:
    stub = Programs(tmp_path / 'data')
    monkeypatch.setattr(tool, 'run_program', stub)
    return stub


def arguments(tmp_path: Path, *more: str) -> list[str]:
    folders = (
        '--work-dir',
        str(tmp_path / 'run'),
        '--data-root',
        str(tmp_path / 'data'),
    )
    return [*folders, *more]


@pytest.mark.parametrize('step', ['make_synthetic_clips', 'measure', 'train'])
def test_interrupted_quickstart_goes_on_with_its_schedule(
    tool: ModuleType,
    programs: Programs,
    tmp_path: Path,
    step: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs.interrupted = step
    with pytest.raises(SystemExit):
        tool.main(arguments(tmp_path, '--minutes', '5'))
    programs.interrupted = None
    tool.main(arguments(tmp_path, '--minutes', '5'))
    # What was measured is not measured again, and the schedule stays.
    assert programs.calls.count('measure') == (2 if step == 'measure' else 1)
    schedules = [
        word for word in programs.max_epochs if word != 'train_cfg.max_epochs=2'
    ]
    assert len(set(schedules)) == 1
    assert TABLE.strip() in capsys.readouterr().out


def test_complete_run_is_only_scored_again(
    tool: ModuleType,
    programs: Programs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool.main(arguments(tmp_path))
    programs.calls.clear()
    tool.main(arguments(tmp_path, '--minutes', '3'))
    assert {'measure', 'train'}.isdisjoint(programs.calls)
    assert 'quickstart_report' in programs.calls
    assert 'was chosen for 8 minutes and is kept' in capsys.readouterr().out


def test_work_dir_of_another_program_is_refused(
    tool: ModuleType, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'last_checkpoint').write_text('epoch_40.pth')
    with pytest.raises(ValueError, match=r'no quickstart.json.*WORK_DIR='):
        tool.main(arguments(tmp_path))
    assert programs.calls == []


@pytest.mark.parametrize('text', ['', '{}', '[1]', '{"minutes": 8, "speed": {}}'])
def test_damaged_plan_is_an_error(
    tool: ModuleType, programs: Programs, tmp_path: Path, text: str
) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / tool.PLAN_FILE).write_text(text)
    with pytest.raises(ValueError, match=r'is damaged.*to start again'):
        tool.main(arguments(tmp_path))
    assert programs.calls == []


@pytest.mark.parametrize('option', ['--work-dir', '--data-root'])
@pytest.mark.parametrize('name', ['file', 'file/below'])
def test_file_in_place_of_a_folder_is_refused(
    tool: ModuleType,
    tmp_path: Path,
    option: str,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit):
        tool.parse_arguments([option, str(tmp_path / name)])
    message = f'{option} {tmp_path / name}: {tmp_path / "file"} is a file; remove it'
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('minutes', ['0', '-1', 'nan', 'inf', 'eight'])
def test_minutes_must_be_a_positive_number(
    tool: ModuleType, minutes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.parse_arguments([f'--minutes={minutes}'])
    assert '--minutes' in capsys.readouterr().err
