"""Train a small SAM 2.1 on generated clips in a given time, on a CPU, and score it.

    python tools/quickstart.py [--minutes 8]

It measures how fast the machine takes training steps, chooses a schedule that ends in
time, trains on the CPU, and scores the model. Interrupted at any point, it goes on from
there when it is run again: the schedule is kept in ``quickstart.json`` of the work
directory.
"""

import argparse
import json
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from repository_root import use_repository_root  # type: ignore[import-not-found]
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

use_repository_root()

from projects.sam2.engine.command_line import call_tool
from projects.sam2.ops import write_atomically

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'sam2_mini_synthetic.py'
PLAN_FILE = 'quickstart.json'
TRAIN_LOG, REPORT_LOG, CLIPS_LOG = 'train.log', 'report.log', 'clips.log'
REPORT_PAGE = 'report.html'
DEFAULT_MINUTES = 8.0
# Two processes with one thread each train on twice as many clips per second as one
# process with two threads, which wait for each other on a busy machine.
MAX_PROCESSES = 2

# Schedule
CLIPS_PER_STEP = 4
SHORT, LONG = 4, 8  # frames of a clip, in the first and in the later epochs
# Most of them teach to match; a few with long clips then teach not to drift.
SHORT_SHARE = 0.8  # of the epochs
MIN_EPOCHS = 4
NUM_VALIDATIONS = 2
NUM_CHECKPOINTS = 10
LOG_INTERVAL = 4  # steps; the progress bar follows the log

# Measuring
MEASURED_STEPS = 8  # of each length
WARM_UP_STEPS = 2  # the first of them, which are slower
# A validation, and the scoring after training with the report, in steps of long clips.
VALIDATION_STEPS = 15
SCORING_STEPS = 85

POLL_SECONDS = 0.2
LINE_SECONDS = 30.0  # between the lines of a log file, where no terminal shows a bar
NUM_TAIL_LINES = 20  # of a log, after a failure
FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured on this machine, in seconds.

    Attributes:
        start: From the launch of the processes to the end of the first step.
        short_step: A training step with short clips.
        long_step: A training step with long clips.
    """

    start: float
    short_step: float
    long_step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule that fits a budget.

    Attributes:
        minutes: The budget for measuring, training and scoring.
        num_epochs: Epochs of training.
        num_short_epochs: How many of them, the first ones, have short clips.
        steps_per_epoch: Optimizer steps of an epoch.
        val_interval: Epochs from one validation to the next.
        speed: What the schedule was sized by.
        is_trained: Whether the training is complete.
    """

    minutes: float
    num_epochs: int
    num_short_epochs: int
    steps_per_epoch: int
    val_interval: int
    speed: Speed
    is_trained: bool = False

    @classmethod
    def fitting(
        cls, minutes: float, speed: Speed, *, steps_per_epoch: int, spent: float
    ) -> 'Plan':
        """Choose the longest schedule that fits.

        Args:
            minutes: The budget.
            spent: Seconds of it that are already spent.
        """

        def plan_of(num_epochs: int) -> Plan:
            return cls(
                minutes=minutes,
                num_epochs=num_epochs,
                num_short_epochs=round(SHORT_SHARE * num_epochs),
                steps_per_epoch=steps_per_epoch,
                val_interval=math.ceil(num_epochs / NUM_VALIDATIONS),
                speed=speed,
            )

        num_epochs = MIN_EPOCHS
        while spent + plan_of(num_epochs + 1).seconds <= 60 * minutes:
            num_epochs += 1
        return plan_of(num_epochs)

    @property
    def seconds(self) -> float:
        """Expected time of training and scoring."""
        return self.training_seconds + self.scoring_seconds

    @property
    def training_seconds(self) -> float:
        """Expected time of training."""
        last_validation = VALIDATION_STEPS * self.speed.long_step
        return (
            self.seconds_until(self.num_epochs * self.steps_per_epoch) + last_validation
        )

    @property
    def scoring_seconds(self) -> float:
        """Expected time of scoring after training."""
        return SCORING_STEPS * self.speed.long_step

    def seconds_until(self, step: int) -> float:
        """Expected time of training up to a step, with the validations before it."""
        num_short = min(step, self.num_short_epochs * self.steps_per_epoch)
        epochs_before = max(step - 1, 0) // self.steps_per_epoch
        num_validations = epochs_before // self.val_interval
        num_long = step - num_short + VALIDATION_STEPS * num_validations
        return (
            self.speed.start
            + num_short * self.speed.short_step
            + num_long * self.speed.long_step
        )

    def options(self, num_processes: int) -> list[str]:
        """The schedule as ``--cfg-options``."""
        lengths = f'(({self.num_short_epochs},{LONG}),)'
        checkpoint_interval = math.ceil(self.num_epochs / NUM_CHECKPOINTS)
        return [
            f'train_cfg.max_epochs={self.num_epochs}',
            f'train_cfg.val_interval={self.val_interval}',
            *batch_options(num_processes),
            f'train_dataloader.dataset.pipeline.0.num_frames={SHORT}',
            f'train_dataloader.dataset.pipeline.0.later_num_frames={lengths}',
            f'default_hooks.checkpoint.interval={checkpoint_interval}',
            f'default_hooks.logger.interval={LOG_INTERVAL}',
        ]

    def describe(self) -> str:
        """The schedule in one line."""
        text = (
            f'{self.num_epochs} epochs of {self.steps_per_epoch} steps '
            f'({self.speed.short_step:.2f} s each with clips of {SHORT} frames, '
            f'{self.speed.long_step:.2f} s with {LONG}) and scoring, '
            f'about {format_time(self.seconds)}'
        )
        if self.num_epochs == MIN_EPOCHS and self.seconds > 60 * self.minutes:
            text += f'; fewer would not train, whatever MINUTES={self.minutes:g} says'
        return text


def batch_options(num_processes: int) -> list[str]:
    """Options that give a step the same clips for any number of processes."""
    return [f'train_dataloader.batch_size={CLIPS_PER_STEP // num_processes}']


def read_plan(work_dir: Path) -> Plan | None:
    """Read the schedule of a run; None if it has none yet.

    Raises:
        ValueError: If the file is damaged, or the run was started without a plan.
    """
    path = work_dir / PLAN_FILE
    if not path.exists():
        if (work_dir / 'last_checkpoint').exists():
            msg = (
                f'{work_dir} has checkpoints, but no {PLAN_FILE}: another program '
                f'trained there. Remove it, or choose another folder with WORK_DIR='
            )
            raise ValueError(msg)
        return None
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        return Plan(**{**values, 'speed': Speed(**values['speed'])})
    except (ValueError, TypeError, KeyError) as error:
        msg = f'{path} is damaged ({error}); remove {work_dir} to start again'
        raise ValueError(msg) from error


def write_plan(plan: Plan, work_dir: Path) -> None:
    """Keep the schedule for a run that is interrupted."""
    write_atomically(work_dir / PLAN_FILE, json.dumps(asdict(plan), indent=2) + '\n')


# Progress ----------------------------------------------------------------------------


class Progress:
    """Expected seconds of the work that is done, and the time that is left.

    The time left follows the pace so far: a machine that turns out to be half as fast
    as measured doubles it.

    Args:
        total: Expected seconds of all the work.
        clock: Current time in seconds.
    """

    MIN_SECONDS = 15.0  # of work before the pace is known

    def __init__(
        self, total: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = 0.0
        self._clock = clock
        self._pace = 1.0
        self._begin = self._updated = clock()
        self._first: float | None = None  # work that an earlier call has done

    def advance(self, done: float) -> None:
        """Note the work that is done, in expected seconds."""
        now = self._clock()
        if self._first is None:
            self._first, self._begin, self._updated = done, now, now
        if done <= self.done:
            return
        self.done, self._updated = min(done, self.total), now
        if self.done - self._first > self.MIN_SECONDS:
            self._pace = (now - self._begin) / (self.done - self._first)

    @property
    def seconds_left(self) -> float:
        """Estimated time that is left."""
        left = (self.total - self.done) * self._pace
        return max(left - (self._clock() - self._updated), 0.0)


def format_time(seconds: float) -> str:
    """Format a duration as ``m:ss min``."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d} min'


def status_line(progress: Progress, text: str) -> str:
    """Progress for a log file, where no bar can be drawn."""
    return (
        f'{100 * progress.done / progress.total:3.0f}%, '
        f'{format_time(progress.seconds_left)} left: {text}'
    )


@contextmanager
def progress_bar(progress: Progress) -> Iterator[Callable[[str], None]]:
    """Show one bar on the terminal, or a line now and then if there is none.

    Yields ``show(text)``, which draws the progress with a text beside it.
    """
    console = Console()
    if not console.is_terminal:
        last = -math.inf

        def show_line(text: str) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                print(status_line(progress, text), flush=True)

        yield show_line
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn('{task.fields[left]} left'),
        TextColumn('{task.description}'),
    )
    with Bar(*columns, console=console, auto_refresh=False) as bar:
        task = bar.add_task('', total=progress.total, left='')

        def show(text: str) -> None:
            left = format_time(progress.seconds_left)
            bar.update(task, completed=progress.done, description=text, left=left)
            bar.refresh()

        yield show


# Programs ----------------------------------------------------------------------------


class LogReader:
    """Reads what a training run appends to its ``scalars.json``."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._old = set(self._logs())
        self._log: Path | None = None
        self._offset = 0

    def _logs(self) -> Iterator[Path]:
        return self._work_dir.glob('*/vis_data/scalars.json')

    def read(self) -> list[dict[str, Any]]:
        """Read the records since the last call."""
        if self._log is None:
            self._log = max(set(self._logs()) - self._old, default=None)
        if self._log is None:
            return []
        with self._log.open('rb') as file:
            file.seek(self._offset)
            lines, newline, _ = file.read().rpartition(b'\n')
        self._offset += len(lines + newline)
        return [json.loads(line) for line in lines.splitlines()]


class ProgramFailedError(OSError):
    """A program of the quickstart has failed; its output was shown."""


def run_program(
    command: Sequence[str | Path], log: Path, watch: Callable[[], object]
) -> None:
    """Run a program with its output in a log file.

    It has a process group of its own, so that it gets each signal once: from here.

    Args:
        watch: Called several times a second.

    Raises:
        ProgramFailedError: If it fails; the end of its log was printed.
        SystemExit: If a signal has stopped it.
    """
    received: list[int] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('ab') as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=program_environment(os.environ),
        )

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # A terminal that closes sends SIGHUP, of which training would die.
        sent = signal.SIGTERM if number == signal.SIGHUP else number
        process.send_signal(sent)

    old = {number: signal.signal(number, forward) for number in FORWARDED_SIGNALS}
    try:
        while process.poll() is None:
            watch()
            time.sleep(POLL_SECONDS)
        watch()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.terminate()
            process.wait()
    if received:
        sys.exit(128 + received[0])
    if process.returncode:
        text = log.read_text(encoding='utf-8', errors='replace')
        print(*text.splitlines()[-NUM_TAIL_LINES:], sep='\n', file=sys.stderr)
        msg = f'{Path(command[0]).name} failed (see above); all of its output: {log}'
        raise ProgramFailedError(msg)


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment of the programs: on the CPU, one thread each."""
    return {
        'OMP_NUM_THREADS': '1',
        'MKL_NUM_THREADS': '1',
        **environment,
        'CUDA_VISIBLE_DEVICES': '',  # each process would need a GPU of its own
    }


def launch_command(program: str, num_processes: int) -> list[str | Path]:
    """Command that runs one of the tools in several processes."""
    port = os.environ.get('PORT')
    if port is None:  # another run may use the default port
        with socket.create_server(('', 0)) as server:
            port = str(server.getsockname()[1])
    return [
        TOOLS / 'launch.py',
        f'--nproc-per-node={num_processes}',
        '--master-addr=127.0.0.1',
        f'--master-port={port}',
        TOOLS / program,
        CONFIG,
        '--launcher',
        'pytorch',
    ]


# The steps of the quickstart ---------------------------------------------------------


def make_clips(data_root: Path, num_processes: int, work_dir: Path) -> None:
    """Generate the clips, unless they exist."""
    print(f'clips: generated in {data_root}, unless they are there', flush=True)
    command = [TOOLS / 'dataset_converters' / 'make_synthetic_clips.py', data_root]
    workers = ['--workers', str(num_processes)]
    run_program([*command, *workers], work_dir / CLIPS_LOG, lambda: None)


def training_clips(data_root: Path) -> list[str]:
    """Names of the training clips."""
    return (data_root / 'ImageSets' / 'train.txt').read_text().split()


def measure(options: argparse.Namespace, num_processes: int) -> Speed:
    """Take some steps in all processes, as the training will.

    Raises:
        ProgramFailedError: If the processes fail.
    """
    folder = options.work_dir / 'measure'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clips = training_clips(options.data_root)
    clip_list = folder / 'clips.txt'
    clip_list.write_text('\n'.join(clips[: MEASURED_STEPS * CLIPS_PER_STEP]))
    command = [
        *launch_command('train.py', num_processes),
        *('--work-dir', folder, '--cfg-options'),
        *batch_options(num_processes),
        'train_cfg.max_epochs=2',
        'train_cfg.val_begin=3',
        f'train_dataloader.dataset.file_list={clip_list.resolve()}',
        f'train_dataloader.dataset.pipeline.0.num_frames={SHORT}',
        f'train_dataloader.dataset.pipeline.0.later_num_frames=((1,{LONG}),)',
        'default_hooks.logger.interval=1',
        'log_processor.window_size=1',
        'default_hooks.checkpoint.save_last=False',
        'default_hooks.checkpoint.interval=3',
        f'data_root={options.data_root}',
        *options.cfg_options,
    ]
    begin = time.monotonic()
    first: list[float] = []
    log = LogReader(folder)
    records: list[dict[str, Any]] = []

    def watch() -> None:
        records.extend(log.read())
        if records and not first:
            first.append(time.monotonic() - begin)

    run_program(command, folder / TRAIN_LOG, watch)
    speed = speed_of([record for record in records if 'iter' in record], first[0])
    shutil.rmtree(folder)
    return speed


def speed_of(records: Sequence[Mapping[str, Any]], start: float) -> Speed:
    """Compute the speed from the records of the measured steps."""
    times = [record['time'] for record in sorted(records, key=lambda r: r['iter'])]
    half = len(times) // 2
    return Speed(
        start=start,
        short_step=statistics.median(times[WARM_UP_STEPS:half]),
        long_step=statistics.median(times[half + WARM_UP_STEPS :]),
    )


def train(
    plan: Plan,
    options: argparse.Namespace,
    num_processes: int,
    progress: Progress,
    show: Callable[[str], None],
) -> None:
    """Train, or resume training, by the plan."""
    log = LogReader(options.work_dir)
    text, last_score = 'starting', ''

    def watch() -> None:
        nonlocal text, last_score
        for record in log.read():
            if 'iter' in record:
                step = int(record['iter'])
                progress.advance(plan.seconds_until(step))
                epoch = min(math.ceil(step / plan.steps_per_epoch), plan.num_epochs)
                text = f'training, epoch {epoch} of {plan.num_epochs}'
            elif 'J&F' in record:
                last_score = f', J&F {record["J&F"]:.1f}'
        show(text + last_score)

    command = [
        *launch_command('train.py', num_processes),
        *('--work-dir', options.work_dir, '--resume', 'auto', '--cfg-options'),
        *plan.options(num_processes),
        f'data_root={options.data_root}',
        *options.cfg_options,
    ]
    run_program(command, options.work_dir / TRAIN_LOG, watch)
    progress.advance(plan.training_seconds)


def score(
    plan: Plan,
    options: argparse.Namespace,
    num_processes: int,
    progress: Progress,
    show: Callable[[str], None],
) -> str:
    """Score the model and the baselines; return the table."""
    begin = time.monotonic()

    def watch() -> None:
        share = (time.monotonic() - begin) / plan.scoring_seconds
        progress.advance(
            plan.training_seconds + min(share, 0.95) * plan.scoring_seconds
        )
        show('scoring before and after training, and without memory')

    log = options.work_dir / REPORT_LOG
    log.unlink(missing_ok=True)
    command = [
        *(TOOLS / 'quickstart_report.py', CONFIG, '--work-dir', options.work_dir),
        *('--processes', str(num_processes)),
        *('--cfg-options', f'data_root={options.data_root}', *options.cfg_options),
    ]
    run_program(command, log, watch)
    progress.advance(progress.total)
    show('done')
    lines = log.read_text(encoding='utf-8').splitlines()
    header = next(
        i for i, line in enumerate(lines) if line.split() == ['J', 'F', 'J&F']
    )
    return '\n'.join(lines[header:])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Train a small SAM 2.1 on generated clips in a given time.'
    )
    add = parser.add_argument
    add(
        '--minutes',
        type=float,
        help='time for measuring, training and scoring '
        f'(default {DEFAULT_MINUTES:g}); a run that was started keeps its schedule',
    )
    add(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/quickstart'),
        help='folder for logs and checkpoints (default work_dirs/quickstart)',
    )
    add(
        '--data-root',
        type=Path,
        default=Path('data/synthetic'),
        help='folder for the clips (default data/synthetic)',
    )
    add(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override entries of the config',
    )
    options = parser.parse_args(arguments)
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        parser.error(
            f'--minutes {options.minutes:g}: give a positive number, such as 8'
        )
    for name in ('work_dir', 'data_root'):
        folder = getattr(options, name)
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            parser.error(
                f'--{name.replace("_", "-")} {folder}: {existing} is a file; remove it '
                f'or give another folder'
            )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the quickstart."""
    options = parse_arguments(arguments)
    try:
        run(options)
    except SystemExit:
        print('stopped; run the same command again to go on from here', file=sys.stderr)
        raise


def run(options: argparse.Namespace) -> None:
    """Run all steps that an earlier call has not done.

    Raises:
        SystemExit: If a signal has stopped a step.
    """
    num_processes = min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
    work_dir = options.work_dir
    plan = read_plan(work_dir)
    make_clips(options.data_root, num_processes, work_dir)
    begin = time.monotonic()
    if plan is None:
        print(f'speed: measuring some steps in {num_processes} process(es)', flush=True)
        speed = measure(options, num_processes)
        plan = Plan.fitting(
            DEFAULT_MINUTES if options.minutes is None else options.minutes,
            speed,
            steps_per_epoch=len(training_clips(options.data_root)) // CLIPS_PER_STEP,
            spent=time.monotonic() - begin,
        )
        write_plan(plan, work_dir)
    elif options.minutes not in {None, plan.minutes}:
        print(
            f'schedule: it was chosen for {plan.minutes:g} minutes and is kept; remove '
            f'{work_dir} to start again with {options.minutes:g}'
        )
    print(f'schedule: {plan.describe()}; log: {work_dir / TRAIN_LOG}', flush=True)
    progress = Progress(plan.seconds)
    with progress_bar(progress) as show:
        if not plan.is_trained:
            train(plan, options, num_processes, progress, show)
            plan = replace(plan, is_trained=True)
            write_plan(plan, work_dir)
        table = score(plan, options, num_processes, progress, show)
    print(f'\n{table}\nWriting the report', flush=True)
    log = work_dir / REPORT_LOG
    run_program([TOOLS / 'report.py', work_dir], log, lambda: None)
    print(f'report: {work_dir / REPORT_PAGE}')
    print(f'done after {format_time(time.monotonic() - begin)}')


if __name__ == '__main__':
    call_tool(main)
