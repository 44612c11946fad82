"""What ``tools/train.py`` and ``tools/test.py`` share: options, errors, a clean exit.

Added to what MMEngine's Runner does:

- errors that the user can fix are printed in one line instead of a traceback;
- runs without a GPU join their process group by gloo, and all runs leave it;
- data loader workers end before the interpreter does.
"""

import argparse
import gc
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import cv2
import mmengine
from mmengine.config import Config, DictAction
from mmengine.registry.build_functions import build_from_cfg
from mmengine.runner import BaseLoop, Runner

from ..checkpoints import UnknownKeyError
from .config import apply_work_dir
from .distributed import (
    LostProcessError,
    init_distributed,
    leave_process_group,
    lost_process_error,
)
from .optim import NonFiniteLossError
from .screen import (
    VERBOSE_VARIABLE,
    QuietRunner,
    ScreenHook,
    ignore_harmless_warnings,
    is_verbose,
)

# Errors that the user or the cluster can fix. All others show a traceback.
USER_ERRORS = (
    OSError,
    ValueError,  # damaged clips and checkpoints, wrong values of options
    UnknownKeyError,
    ImportError,
    MemoryError,
    RecursionError,  # files that nest deeper than any reader goes
    LostProcessError,
    NonFiniteLossError,
)
TRACEBACK_VARIABLE = 'SAM2_TRACEBACK'
MAX_LINES = 3  # of an error message; they are joined into one
PACKAGE = Path(__file__).resolve().parents[1]
OWN_FOLDERS = (PACKAGE, PACKAGE.parents[1] / 'tools')
CONFIG_READERS = tuple(
    Path(mmengine.__file__).parent / name for name in ('config', 'registry', 'runner')
)
# The last call in the traceback that torch puts into the message of a worker's error.
LAST_CALL = re.compile(r'^  File ".*", line \d+.*\n(?:    .*\n)*', re.MULTILINE)


def call_tool(main: Callable[[], object], *, exit_code: int = 1) -> None:
    """Call a tool's ``main`` and exit with its code.

    An error that the user can fix is printed in one line, unless the environment
    variable ``SAM2_TRACEBACK=1`` asks for the traceback.

    Args:
        main: If it returns an int, that is the exit code.
        exit_code: Exit code after such an error.

    Raises:
        SystemExit: If the exit code is not 0; it is 130 after Ctrl-C.
    """
    # FFmpeg and OpenCV are silent: our own errors name a damaged video.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    if 'OPENCV_LOG_LEVEL' not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    code: object = None
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        _exit('Interrupted', 128 + signal.SIGINT)
    except Exception as error:
        wants_traceback = os.environ.get(TRACEBACK_VARIABLE, '0') not in {'', '0'}
        if wants_traceback or not _is_user_error(error):
            raise
        _exit(f'error: {_one_line(error)}', exit_code)
    # Reference cycles keep the Runner and its process group alive. Threads of the group
    # that free a tensor while the interpreter shuts down would abort the process.
    gc.collect()
    if isinstance(code, int | str) and code:
        sys.exit(code)


def _exit(message: str, code: int) -> NoReturn:
    """Print a message to standard error and exit."""
    gc.collect()
    if code == 1:
        sys.exit(message)  # Python prints it
    sys.stderr.write(f'{message}\n')
    sys.exit(code)


def _is_user_error(error: Exception) -> bool:
    """Whether the user can fix an error, for example in the config."""
    if isinstance(error, USER_ERRORS) or _is_raised_in(error, CONFIG_READERS):
        return True
    # A part that MMEngine was building from the config has raised it.
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is build_from_cfg.__code__ for frame, _ in frames)


def _one_line(error: BaseException) -> str:
    """Describe an error in one line, cut to three lines of its message.

    Errors of other packages end with a hint how to see where they were raised.
    """
    message = str(error)
    if isinstance(error, KeyError) and error.args:
        message = str(error.args[0])  # str() of a KeyError adds quotes
        if _is_raised_in(error, CONFIG_READERS[:1]):
            return f'the config has no entry {message!r}'
    if 'Original Traceback (most recent call last):' in message:
        *_, last = LAST_CALL.split(message)
        message = last.partition(': ')[2]
    lines = [' '.join(line.split()) for line in message.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f'… and {len(lines) - MAX_LINES} more lines']
    text = ' '.join(lines)
    if isinstance(error, MemoryError):
        return f'out of memory ({text})' if text else 'out of memory'
    if ' ' not in text:
        text = f'{type(error).__name__}: {text}'
    is_ours = (
        isinstance(error, OSError)
        or _is_raised_in(error, OWN_FOLDERS)
        # torch raises a worker's error again, outside our folders.
        or type(error).__module__.startswith('projects.')
    )
    return text if is_ours else f'{text} ({TRACEBACK_VARIABLE}=1 shows where)'


def _is_raised_in(error: BaseException, folders: tuple[Path, ...]) -> bool:
    """Whether code in one of these folders raised an error."""
    calls = traceback.extract_tb(error.__traceback__)
    return bool(calls) and any(
        Path(calls[-1].filename).is_relative_to(folder) for folder in folders
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every MM tool has."""
    parser.add_argument(
        '--work-dir', help='folder for logs, checkpoints and visualizations'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override entries of the config, as key=value',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what starts the processes of a distributed run',
    )
    parser.add_argument(
        '--verbose',
        action='store_true',
        help='show all messages of the log file on the screen as well '
        f'({VERBOSE_VARIABLE}=1 does the same)',
    )
    # Old launchers pass it; the environment variable LOCAL_RANK is what is read.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)


@contextmanager
def launched_runner(cfg: Config, options: argparse.Namespace) -> Iterator[Runner]:
    """Build a Runner in its process group, and leave the group after the run.

    A process that fails does not leave the group: NCCL would wait there for the other
    processes, which wait for this one in another collective. The process exits, and
    the launcher ends the others.

    Args:
        options: Parsed options of :func:`add_run_arguments`.

    Raises:
        LostProcessError: If another process no longer answers.
    """
    os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    cfg.launcher = options.launcher
    apply_work_dir(cfg, options.work_dir)
    try:
        init_distributed(cfg, options.launcher)
        runner = _build_runner(cfg, options)
        try:
            yield runner
        except Exception as error:
            _log_traceback(runner, error)
            raise
        finally:
            _end_workers(runner)
    except RuntimeError as error:
        lost_process = lost_process_error(error, cfg)
        if lost_process is None:
            raise
        raise lost_process from error
    leave_process_group()


def _build_runner(cfg: Config, options: argparse.Namespace) -> Runner:
    """Build a Runner with a quiet screen, unless all messages are wanted."""
    if getattr(options, 'verbose', False) or is_verbose():
        return Runner.from_cfg(cfg)
    ignore_harmless_warnings()
    runner = QuietRunner.from_cfg(cfg)
    runner.register_hook(ScreenHook(getattr(options, 'config', cfg.filename)))
    return runner


def _log_traceback(runner: Runner, error: Exception) -> None:
    """Write the traceback of an error to the log file, not to the terminal."""
    logger = runner.logger
    exc_info = (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, 'The run failed', (), exc_info
    )
    for handler in vars(logger).get('handlers', ()):
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _end_workers(runner: Runner) -> None:
    """Release the data loaders, which ends their workers.

    Garbage collection may free the queues of the workers first; each worker then takes
    five seconds to end.
    """
    # Private attributes: the properties would build loops that do not exist yet.
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):  # noqa: SLF001
        if isinstance(loop, BaseLoop):
            vars(loop).pop('dataloader', None)
            vars(loop).pop('dataloader_iterator', None)  # of IterBasedTrainLoop
