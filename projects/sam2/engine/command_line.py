"""What the command lines of training and of scoring have in common."""

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
    lost_contact,
    part_from_processes,
    prepare_processes,
)
from .optim import NonFiniteLossError

# Errors that the user or the cluster can mend. Others show a traceback.
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
# If it is set, all errors show a traceback.
TRACEBACK_VARIABLE = 'SAM2_TRACEBACK'
TRACEBACK_HINT = f'({TRACEBACK_VARIABLE}=1 shows where)'
MAX_LINES = 3  # of a message, joined to one
PROJECT = Path(__file__).resolve().parents[1]
TOOLS = PROJECT.parents[1] / 'tools'
CONFIG_READERS = tuple(
    Path(mmengine.__file__).parent / name for name in ('config', 'registry', 'runner')
)
# The last call of a traceback that a loader's worker has put into its message.
LAST_CALL = re.compile(r'^  File ".*", line \d+.*\n(?:    .*\n)*', re.MULTILINE)

__all__ = [
    'add_run_arguments',
    'call_tool',
    'describe_error',
    'launched_runner',
    'shows_traceback',
]


def call_tool(main: Callable[[], object], *, exit_code: int = 1) -> None:
    """Call a tool and report an error that the user can mend in one line.

    With the environment variable ``SAM2_TRACEBACK=1`` all errors show a traceback.

    Args:
        main: Function of the tool; if it returns an int, that is the exit code.

    Raises:
        SystemExit: If the exit code is not 0; 130 after Ctrl-C.
    """
    code: object = None
    _silence_decoders()
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        _end('Interrupted', 128 + signal.SIGINT)
    except Exception as error:
        if shows_traceback() or not _is_user_error(error):
            raise
        _end(f'error: {describe_error(error)}', exit_code)
    # The Runner stands in cycles and keeps the group that the process has parted from,
    # whose threads would still run at Python's own end: one that lets go of a tensor
    # then aborts the process.
    gc.collect()
    if isinstance(code, int | str) and code:
        sys.exit(code)


def shows_traceback() -> bool:
    """Whether the user asks for the traceback of errors, by ``SAM2_TRACEBACK=1``."""
    return os.environ.get(TRACEBACK_VARIABLE, '0') not in {'', '0'}


def describe_error(error: BaseException) -> str:
    """Describe an error in one line.

    Returns:
        Its message, without the traceback that torch adds to the error of a loader's
        worker. Long messages are cut. The error of another package ends with a hint
        how to see where it was raised.
    """
    message = str(error)
    if isinstance(error, KeyError) and error.args:
        message = str(error.args[0])  # not its representation, in quotes
        if _raised_in(error, CONFIG_READERS[0]):
            return f'the config has no entry {message!r}'
    if 'Original Traceback (most recent call last):' in message:
        *_, last = LAST_CALL.split(message)
        message = last.partition(': ')[2]
    lines = [' '.join(line.split()) for line in message.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        more = f'… and {len(lines) - MAX_LINES} more lines'
        lines = [*lines[:MAX_LINES], more]
    text = ' '.join(lines)
    if isinstance(error, MemoryError):
        return f'out of memory ({text})' if text else 'out of memory'
    if ' ' not in text:
        text = f'{type(error).__name__}: {text}'
    # A worker's error is raised a second time, by torch, but its kind is ours.
    is_ours = isinstance(error, OSError) or _raised_in(error, PROJECT, TOOLS)
    is_ours = is_ours or type(error).__module__.startswith('projects.')
    return text if is_ours else f'{text} {TRACEBACK_HINT}'


def _silence_decoders() -> None:
    """Silence FFmpeg and OpenCV: the project's own errors name a damaged video."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    if 'OPENCV_LOG_LEVEL' not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def _end(message: str, code: int) -> NoReturn:
    """End the program with a message."""
    gc.collect()
    if code == 1:
        sys.exit(message)  # Python prints it
    sys.stderr.write(f'{message}\n')
    sys.exit(code)


def _is_user_error(error: Exception) -> bool:
    """Whether the user can mend an error, e.g. in the config.

    An error comes from the config if it was raised while MMEngine read it or built a
    part of it.
    """
    if isinstance(error, USER_ERRORS) or _raised_in(error, *CONFIG_READERS):
        return True
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return build_from_cfg.__code__ in codes


def _raised_in(error: BaseException, *folders: Path) -> bool:
    """Whether code in one of these folders raised an error."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return any(Path(call.filename).is_relative_to(f) for call in last for f in folders)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every MM tool has."""
    parser.add_argument('--work-dir', help='where logs, checkpoints and pictures go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='entries of the config to change, as key=value',
    )
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none'
    )
    # Old launchers pass it; what is read is the variable LOCAL_RANK.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)


@contextmanager
def launched_runner(cfg: Config, options: argparse.Namespace) -> Iterator[Runner]:
    """Build the Runner, among its processes, and part from them when it is done.

    A process that fails does not part: NCCL would wait for the others, which wait for
    it in another collective. It ends, and the launcher ends the others.

    Args:
        options: With what :func:`add_run_arguments` adds.

    Raises:
        LostProcessError: If the other processes do not answer any more.
    """
    os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    cfg.launcher = options.launcher
    apply_work_dir(cfg, options.work_dir)
    try:
        prepare_processes(cfg, options.launcher)
        runner = Runner.from_cfg(cfg)
        try:
            yield runner
        except Exception as error:
            _log_traceback(runner, error)
            raise
        finally:
            _end_workers(runner)
    except RuntimeError as error:
        lost = lost_contact(error, cfg)
        if lost is None:
            raise
        raise lost from error
    part_from_processes()


def _log_traceback(runner: Runner, error: Exception) -> None:
    """Write the traceback of an error to the log file, not to the terminal."""
    logger = runner.logger
    information = (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, 'The run failed', (), information
    )
    for handler in vars(logger).get('handlers', ()):
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _end_workers(runner: Runner) -> None:
    """Let go of the loaders, which end the workers that no running loop holds.

    Garbage collection would take the workers' queues first, and then wait five seconds
    for each worker to notice.
    """
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):  # noqa: SLF001  the properties build what is not built
        if isinstance(loop, BaseLoop):
            # The second is that of MMEngine's IterBasedTrainLoop.
            for name in ('dataloader', 'dataloader_iterator'):
                vars(loop).pop(name, None)
