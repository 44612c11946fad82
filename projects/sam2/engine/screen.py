"""What a run shows on the screen; everything else goes to its log file.

MMEngine writes each message to the screen and to the log file: environment, config and
hooks fill 400 lines before the first training step. :class:`QuietRunner` lets warnings
and :class:`ScreenText` through to the screen, and :class:`ScreenHook` adds a summary of
the run, short lines of progress, and what to do next. The log file is as before.
"""

import io
import json
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.logging.logger import MMFormatter
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..installation import IS_WHEEL, tool_command
from ..ops import write_atomically
from ..ops.screen import ScreenText
from .command_line import VERBOSE_VARIABLE
from .hooks.diagnostics_hook import logs_after
from .run_summary import (
    count_of,
    is_training,
    item_noun,
    relative_path,
    test_rows,
    training_rows,
    versions,
)

RUN_FILE = 'run.json'  # in the log folder: what the report shows of a run
# MMEngine warns of its own use of these, in each run.
NOISE = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias of "LocalBackend"',
)


def is_verbose() -> bool:
    """Whether the environment asks for all messages on the screen."""
    return os.environ.get(VERBOSE_VARIABLE, '0') not in {'', '0'}


class QuietRunner(Runner):
    """MMEngine's Runner, whose screen shows warnings and :class:`ScreenText` only."""

    def build_logger(
        self,
        log_level: int | str = 'INFO',
        log_file: str | None = None,
        **kwargs: Any,
    ) -> MMLogger:
        """Build the logger, with a filter on its screen."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            is_screen = type(handler) is logging.StreamHandler
            if is_screen and passes_to_screen not in handler.filters:
                handler.addFilter(passes_to_screen)
                if isinstance(handler.formatter, MMFormatter):
                    handler.formatter.info_format = '%(message)s'  # no date and level
        return logger

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, without a line for its path: the summary has it."""
        # MMEngine prints the path and the weights that do not match; it logs neither.
        with redirect_stdout(io.StringIO()) as printed:
            checkpoint = super().load_checkpoint(*args, **kwargs)
        lines = printed.getvalue().strip().splitlines()
        problems = [line for line in lines if not line.startswith('Loads checkpoint ')]
        if problems:
            self.logger.warning('\n'.join(problems))
        return checkpoint


def passes_to_screen(record: logging.LogRecord) -> bool:
    """Whether a quiet run shows a message on the screen."""
    if record.levelno >= logging.WARNING:
        return not str(record.msg).startswith(NOISE)
    return isinstance(record.msg, ScreenText)


def ignore_harmless_warnings() -> None:
    """Silence warnings of torch that say nothing about a run."""
    # DDP compares strides of sizes of 1 as well, where they do not matter: the weights
    # of depth-wise convolutions have the same layout either way.
    warnings.filterwarnings('ignore', 'Grad strides do not match bucket view strides')


class ScreenHook(Hook):
    """Shows what a run is about, how far it is, and how it ended.

    It also writes ``run.json`` into the log folder: the command, versions and the
    summary, which ``tools/report.py`` reads.

    Args:
        config: Path of the config, as the user gave it.
    """

    priority = 'LOWEST'  # after the hooks that load weights, log and save

    def __init__(self, config: str) -> None:
        self.config = config
        self._start = time.monotonic()
        self._first_step = 0
        self._run: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Show the summary of a training run."""
        self._first_step = runner.iter
        self._show_summary(runner, 'train', training_rows(runner))

    def before_test(self, runner: Runner) -> None:
        """Show the summary of a test run."""
        self._show_summary(runner, 'test', test_rows(runner))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Show a line when ``LoggerHook`` logs."""
        if is_main_process() and logs_after(runner, batch_idx):
            _show(progress_line(runner, batch_idx))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Show how many videos are predicted, at the same interval."""
        self._show_videos(runner, batch_idx, runner.val_dataloader)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Show how many videos are predicted, at the same interval."""
        self._show_videos(runner, batch_idx, runner.test_dataloader)

    def _show_videos(self, runner: Runner, batch_idx: int, loader: Any) -> None:
        total = len(loader)
        is_last = batch_idx + 1 == total
        if is_main_process() and not is_last and logs_after(runner, batch_idx, total):
            where = ' in the first process' if get_world_size() > 1 else ''
            count = f'{batch_idx + 1} of {total}'
            nouns = 'videos' if item_noun(loader.dataset) == 'clip' else 'batches'
            _show(f'{_clock()}  predicted {count} {nouns}{where}')

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Show the metrics of a validation."""
        if is_main_process() and metrics:
            numbers = '  '.join(
                f'{name} {value:.4g}' for name, value in metrics.items()
            )
            when = f' {_training_progress(runner)}' if is_training(runner) else ''
            _show(f'{_clock()}  validation{when}: {numbers}')

    def after_train(self, runner: Runner) -> None:
        """Show how the run ended, and the command of its report."""
        if not is_main_process():
            return
        done, planned = runner.iter, runner.max_iters
        took = _duration(time.monotonic() - self._start)
        steps = f'{count_of(done - self._first_step, "step")} in {took}'
        if done < planned:
            _show(f'stopped after {steps}, at step {done} of {planned}')
            return
        self._run['finished'] = _now()
        self._write_run(runner)
        _show(f'trained {steps}')
        best = runner.message_hub.get_info('best_ckpt')
        if best:
            score = runner.message_hub.get_info('best_score')
            _show(f'best score: {score:.4g}, {relative_path(best)}')
        _show(f'report: {tool_command("report")} {shlex.quote(runner.work_dir)}')

    def _show_summary(self, runner: Runner, task: str, rows: Mapping[str, str]) -> None:
        if not is_main_process():
            return
        width = max(map(len, rows))
        lines = [f'  {name:{width}}  {text}' for name, text in rows.items()]
        title = f'{task} {self.config}'
        runner.logger.info(ScreenText('\n'.join([title, *lines])))
        self._run = {
            'task': task,
            'config': self.config,
            'command': run_command(sys.argv, get_world_size()),
            'started': _now(),
            'versions': versions(),
            'summary': dict(rows),
        }
        self._write_run(runner)

    def _write_run(self, runner: Runner) -> None:
        text = json.dumps(self._run, indent=2, ensure_ascii=False)
        path = Path(runner.log_dir) / RUN_FILE
        try:
            write_atomically(path, text)
        except OSError as error:  # a full disk must not end the run
            runner.logger.warning('%s could not be written: %s', path, error)


def _training_progress(runner: Runner) -> str:
    """How far a training is: in epochs, or in steps if its loop counts those."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return f'after epoch {runner.epoch}'
    return f'after step {runner.iter}'


def progress_line(runner: Runner, batch_idx: int) -> str:
    """Epoch, step, time left, loss, learning rate and memory, in a short line."""
    hub = runner.message_hub
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        num_batches, num_epochs = len(runner.train_dataloader), runner.max_epochs
        position = (
            f'epoch {runner.epoch + 1:{len(str(num_epochs))}}/{num_epochs}  '
            f'step {batch_idx + 1:{len(str(num_batches))}}/{num_batches}'
        )
    else:
        num_steps = runner.max_iters
        position = f'step {runner.iter + 1:{len(str(num_steps))}}/{num_steps}'
    words = [_clock(), position]
    window = runner.log_processor.window_size
    scalars = hub.log_scalars
    if 'train/loss' in scalars:  # as LoggerHook averages it
        words.append(f'loss {scalars["train/loss"].mean(window):.4f}')
    if 'train/lr' in scalars:
        words.append(f'lr {scalars["train/lr"].current():.2e}')
    if 'train/time' in scalars:
        words.append(f'{scalars["train/time"].mean(window):.2f} s/step')
    if torch.cuda.is_available():
        words.append(f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
    elif 'train/peak_megabytes' in scalars:
        words.append(f'{scalars["train/peak_megabytes"].current():.0f} MB')
    eta = hub.get_info('eta', None)
    if eta is not None:
        words.append(f'{_duration(eta)} left')
    return '  '.join(words)


def run_command(arguments: Sequence[str], num_processes: int = 1) -> str:
    """Return the command that a user types to start a run.

    Args:
        arguments: ``sys.argv`` of one process.
        num_processes: Of all machines; several come from ``dist_train.sh``.
    """
    program, *options = arguments
    script = Path(program)
    if script.suffix != '.py':  # `mmsam2 train`
        return shlex.join([*program.split(), *options])
    launcher = options.index('--launcher') if '--launcher' in options else None
    if launcher is None or options[launcher + 1] != 'pytorch':
        return shlex.join(['python', program, *options])
    del options[launcher : launcher + 2]
    config, *rest = options
    name = f'dist_{script.stem}'
    launch = ['bash', str(script.with_name(f'{name}.sh'))]
    if IS_WHEEL:
        launch = ['mmsam2', name]
    return shlex.join([*launch, config, str(num_processes), *rest])


def _show(text: str) -> None:
    """Print a line that the log file need not have: it has a longer one."""
    # A closed terminal or pipe must not end the run; loggers ignore it as well.
    with suppress(OSError, ValueError):
        print(text, flush=True)  # noqa: T201


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec='seconds')


def _clock() -> str:
    return f'{datetime.now().astimezone():%H:%M:%S}'


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
