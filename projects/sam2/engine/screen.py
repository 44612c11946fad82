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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.logging.logger import MMFormatter
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.version import __version__ as mmengine_version
from torch import nn

from ..installation import IS_WHEEL, TOOLS
from ..ops import write_atomically
from ..ops.screen import ScreenText
from ..version import __version__
from .command_line import VERBOSE_VARIABLE
from .distributed import unwrap_model
from .hooks.diagnostics_hook import logs_after
from .loops import CLIPS_PER_STEP

RUN_FILE = 'run.json'  # in the log folder: what the report shows of a run
COUNT_SECONDS = 1.0  # for counting the objects and frames of a dataset
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
        is_last = batch_idx + 1 == len(loader)
        if is_main_process() and not is_last and logs_after(runner, batch_idx):
            where = ' in the first process' if get_world_size() > 1 else ''
            count = f'{batch_idx + 1} of {len(loader)}'
            _show(f'{_clock()}  predicted {count} videos{where}')

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Show the metrics of a validation."""
        if is_main_process() and metrics:
            numbers = '  '.join(
                f'{name} {value:.4g}' for name, value in metrics.items()
            )
            epoch = f'after epoch {runner.epoch}' if _is_training(runner) else ''
            _show(f'{_clock()}  validation {epoch}: {numbers}')

    def after_train(self, runner: Runner) -> None:
        """Show how the run ended, and the command of its report."""
        if not is_main_process():
            return
        done, planned = runner.iter, runner.max_iters
        took = _duration(time.monotonic() - self._start)
        steps = f'{_count(done - self._first_step, "step")} in {took}'
        if done < planned:
            _show(f'stopped after {steps}, at step {done} of {planned}')
            return
        self._run['finished'] = _now()
        self._write_run(runner)
        _show(f'trained {steps}')
        best = runner.message_hub.get_info('best_ckpt')
        if best:
            score = runner.message_hub.get_info('best_score')
            _show(f'best score: {score:.4g}, {_relative(best)}')
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


# ------------------------------------------------------------------------ The summary


def training_rows(runner: Runner) -> dict[str, str]:
    """Describe a training run: a line for each row of the summary."""
    rows = {
        'model': describe_model(runner),
        'weights': describe_weights(runner),
        'train': describe_data(runner.train_dataloader),
    }
    if runner.val_loop is not None:
        rows['validate'] = describe_data(runner.val_dataloader)
    return rows | {
        'schedule': describe_schedule(runner),
        'device': describe_device(runner),
        'files': describe_files(runner),
    }


def test_rows(runner: Runner) -> dict[str, str]:
    """Describe a test run: a line for each row of the summary."""
    return {
        'model': describe_model(runner),
        'weights': describe_weights(runner),
        'test': describe_data(runner.test_dataloader),
        'device': describe_device(runner),
        'files': describe_files(runner),
    }


def describe_model(runner: Runner) -> str:
    """Name, numbers of parameters and size of the images."""
    model: nn.Module = unwrap_model(runner.model)
    sizes = [(part.numel(), part.requires_grad) for part in model.parameters()]
    total = sum(size for size, _ in sizes)
    trained = sum(size for size, is_trained in sizes if is_trained)
    words = [type(model).__name__, f'{_millions(total)} parameters']
    if _is_training(runner):
        words.append(
            'all trained' if trained == total else f'{_millions(trained)} trained'
        )
    size = getattr(getattr(model, 'data_preprocessor', None), 'image_size', None)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        words.append(f'images of {width} x {height}')
    return ', '.join(words)


def describe_weights(runner: Runner) -> str:
    """Where the weights come from."""
    source, is_resumed = runner._load_from, runner._resume  # noqa: SLF001
    if is_resumed and runner.iter:
        path = source or 'the last checkpoint'
        return f'{path} (resumed after epoch {runner.epoch}, step {runner.iter})'
    if source and not is_resumed:
        return str(source)
    pretrained = list(_pretrained_parts(runner.cfg.get('model')))
    return ', '.join(pretrained) if pretrained else 'random'


def _pretrained_parts(node: Any) -> Iterator[str]:
    """Checkpoints of the model's ``init_cfg`` entries."""
    if isinstance(node, Mapping):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield str(node['checkpoint'])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _pretrained_parts(child)


def describe_data(loader: Any) -> str:
    """Number of clips of a loader, and of their objects and frames where counted."""
    dataset = loader.dataset
    words = [_count(len(dataset), 'clip')]
    counts = count_objects_and_frames(dataset)
    if counts is not None:
        words += [_count(counts[0], 'object'), _count(counts[1], 'frame')]
    text = ', '.join(words)
    lengths = next(_sampled_lengths(dataset), ())
    if lengths:
        (_, first), *later = lengths
        text += f'; {_count(first, "frame")} of a clip at a time'
        text += ''.join(f', {frames} from epoch {epoch + 1}' for epoch, frames in later)
    return text


def _sampled_lengths(dataset: Any) -> Iterator[Sequence[tuple[int, int]]]:
    """Frames that are sampled from each clip, by the epoch from which they are."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    yield from (part.lengths for part in transforms if hasattr(part, 'lengths'))
    for name in ('dataset', 'videos'):
        if hasattr(dataset, name):
            yield from _sampled_lengths(getattr(dataset, name))
    for part in getattr(dataset, 'datasets', ()):
        yield from _sampled_lengths(part)


def count_objects_and_frames(dataset: Any) -> tuple[int, int] | None:
    """Count the objects and frames of a dataset of ours.

    Masks may have to be decoded to know the objects, so that the count stops after a
    second: a summary must not delay a large run.

    Returns:
        Number of objects and of frames; None if unknown.
    """
    end = time.monotonic() + COUNT_SECONDS
    videos = getattr(dataset, 'videos', dataset)  # of ClipVideoDataset
    if not hasattr(videos, 'open_video') or not hasattr(videos, 'video_name'):
        return None
    num_objects = num_frames = 0
    for index in range(len(videos)):
        if time.monotonic() > end:
            return None
        try:
            source = videos.open_video(videos.video_name(index))
            num_objects += len(source.object_ids())
        except (OSError, ValueError, AttributeError):
            return None  # a corrupt clip is reported when it is drawn
        num_frames += source.num_frames
    return num_objects, num_frames


def describe_schedule(runner: Runner) -> str:
    """Epochs, steps, clips of a step, optimizer and learning rate."""
    num_steps = runner.max_iters
    wrapper: Any = runner.optim_wrapper
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        num_batches = len(runner.train_dataloader)
        length = f'{_count(runner.max_epochs, "epoch")} of {num_batches} steps'
    else:
        length = _count(num_steps, 'step')
    words = [length, _clips_of_step(runner.train_dataloader)]
    accumulated = getattr(wrapper, '_accumulative_counts', 1)
    if accumulated > 1:
        words.append(f'{accumulated} steps an update')
    optimizer = getattr(wrapper, 'optimizer', None)
    if optimizer is not None:
        rate = max(
            group.get('initial_lr', group['lr']) for group in optimizer.param_groups
        )
        words.append(f'{type(optimizer).__name__}, learning rate {rate:.3g}')
    return '; '.join(words)


def _clips_of_step(loader: Any) -> str:
    """Number of clips in a step, of all processes together."""
    processes = get_world_size()
    numbers = getattr(loader.batch_sampler, CLIPS_PER_STEP, None)
    if numbers is None:
        numbers = [processes * loader.batch_size]
    text = f'{" or ".join(map(str, numbers))} clips a step'
    return f'{text} in {processes} processes' if processes > 1 else text


def describe_device(runner: Runner) -> str:
    """Device, number of processes and precision."""
    processes = get_world_size()
    if get_device() == 'cuda':
        device = torch.cuda.get_device_name()
        device = f'{processes} x {device}' if processes > 1 else device
    else:
        device = get_device().upper()
        threads = _count(torch.get_num_threads(), 'thread')
        each = ' each' if processes > 1 else ''
        device += f', {_count(processes, "process", "es")}, {threads}{each}'
    return f'{device}; {_precision(runner)}'


def _precision(runner: Runner) -> str:
    """Data type of the forward pass."""
    if not _is_training(runner):
        return 'float32'
    wrapper = runner.optim_wrapper
    dtype = getattr(wrapper, 'cast_dtype', None)
    if dtype is not None:
        return str(dtype).removeprefix('torch.')
    name = type(wrapper).__name__
    if 'BFloat16' in name:
        return 'bfloat16'
    return 'mixed precision' if 'Amp' in name else 'float32'


def describe_files(runner: Runner) -> str:
    """Where checkpoints and the log are."""
    log = Path(runner.log_dir) / f'{runner.timestamp}.log'
    return f'{_relative(runner.work_dir)} (all messages: {_relative(log)})'


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about results."""
    return {
        'mmsam2': __version__,
        'python': sys.version.split()[0],
        'torch': torch.__version__,
        'mmengine': mmengine_version,
    }


# ------------------------------------------------------------------------- The lines


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


def tool_command(name: str) -> str:
    """Return the command of another tool, as the running one was called."""
    program = Path(sys.argv[0])
    if program.suffix == '.py' and not IS_WHEEL:
        return f'python {_relative(TOOLS / f"{name}.py")}'
    return f'mmsam2 {name}'


def _show(text: str) -> None:
    """Print a line that the log file need not have: it has a longer one."""
    # A closed terminal or pipe must not end the run; loggers ignore it as well.
    with suppress(OSError, ValueError):
        print(text, flush=True)  # noqa: T201


def _is_training(runner: Runner) -> bool:
    # The property would build the loop.
    return not isinstance(runner._train_loop, dict | None)  # noqa: SLF001


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec='seconds')


def _clock() -> str:
    return f'{datetime.now().astimezone():%H:%M:%S}'


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _millions(number: int) -> str:
    return f'{number / 1e6:.3g} million'


def _count(number: int, noun: str, plural: str = 's') -> str:
    return f'{number:,} {noun}{plural if number != 1 else ""}'


def _relative(path: str | Path) -> str:
    """A path relative to the working folder if it is below, else as it is."""
    absolute = Path(path).resolve()
    if absolute.is_relative_to(Path.cwd()):
        return str(absolute.relative_to(Path.cwd()))
    return str(path)
