"""What the programs of ``tools/`` share: options, errors in one line, a clean exit.

This module imports neither torch nor MMEngine, so that ``--help`` and the programs that
need neither start at once.
"""

import argparse
import gc
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from ..installation import NAME, PACKAGE, TOOLS, policy_names

# Errors that the user or the cluster can fix. All others show a traceback.
USER_ERRORS = (
    OSError,
    ValueError,  # damaged clips and checkpoints, wrong values of options
    ImportError,
    MemoryError,
    RecursionError,  # files that nest deeper than any reader goes
)
# The same, of this package: names, since importing the classes would import torch.
OWN_USER_ERRORS = {'UnknownKeyError', 'LostProcessError', 'NonFiniteLossError'}
TRACEBACK_VARIABLE = 'SAM2_TRACEBACK'
VERBOSE_VARIABLE = 'SAM2_VERBOSE'
# Values of checkpoints.CheckpointKind.
CHECKPOINT_KINDS = ('released', 'huggingface', 'mmsam2')
# File of an exported model: deployment.MANIFEST_FILE, whose import takes seconds.
EXPORT_FILE = 'sam2.json'
NO_CHECKPOINT = 'none'  # leaves the weights random
MAX_LINES = 3  # of an error message; they are joined into one
OWN_FOLDERS = (PACKAGE, TOOLS)
CONFIG_READERS = ('config', 'registry', 'runner')  # folders of MMEngine
TRIED = re.compile('tried to allocate [0-9.]+ [a-zA-Z]+', re.IGNORECASE)
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
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'ERROR')
    # A name or text that the terminal's encoding does not have is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    wants_traceback = os.environ.get(TRACEBACK_VARIABLE, '0') not in {'', '0'}
    # A log on a full disk is not worth a traceback for each of its lines.
    logging.raiseExceptions = wants_traceback
    code: object = None
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        _exit('Interrupted', 128 + signal.SIGINT)
    except Exception as error:
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
    kinds = {kind.__name__ for kind in type(error).__mro__ if _is_own(kind)}
    if isinstance(error, USER_ERRORS) or kinds & OWN_USER_ERRORS:
        return True
    if _is_out_of_memory(error):
        return True
    if _is_raised_in(error, _mmengine_folders(*CONFIG_READERS)):
        return True
    # A part that MMEngine was building from the config has raised it.
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == 'build_from_cfg' for frame, _ in frames)


def _one_line(error: BaseException) -> str:
    """Describe an error in one line, cut to three lines of its message.

    Errors of other packages end with a hint how to see where they were raised.
    """
    message = str(error)
    if isinstance(error, KeyError) and error.args:
        message = str(error.args[0])  # str() of a KeyError adds quotes
        if _is_raised_in(error, _mmengine_folders('config')):
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
    if _is_out_of_memory(error):
        size = TRIED.search(text)
        what = 'CUDA out of memory' if 'CUDA' in text else 'out of memory'
        text = f'{what} ({size[0]})' if size else text
        return f'{text}; use a smaller batch_size or image_size, or fewer objects'
    if ' ' not in text:
        text = f'{type(error).__name__}: {text}'
    is_ours = (
        isinstance(error, OSError)
        or _is_raised_in(error, OWN_FOLDERS)
        # torch raises a worker's error again, outside our folders.
        or _is_own(type(error))
    )
    return text if is_ours else f'{text} ({TRACEBACK_VARIABLE}=1 shows where)'


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether torch got no memory, of a GPU or (a plain RuntimeError) of the CPU."""
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == 'OutOfMemoryError'
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _is_own(kind: type) -> bool:
    """Whether a class is one of this package."""
    return kind.__module__.startswith(f'{NAME}.')


def _mmengine_folders(*names: str) -> tuple[Path, ...]:
    """Folders of MMEngine's package."""
    spec = find_spec('mmengine')
    locations = spec.submodule_search_locations if spec else None
    return tuple(Path(folder) / name for folder in locations or () for name in names)


def _is_raised_in(error: BaseException, folders: tuple[Path, ...]) -> bool:
    """Whether code in one of these folders raised an error."""
    calls = traceback.extract_tb(error.__traceback__)
    return bool(calls) and any(
        Path(calls[-1].filename).is_relative_to(folder) for folder in folders
    )


def whole_number(least: int) -> Callable[[str], int]:
    """Type of an option that is a whole number.

    Args:
        least: Smaller numbers are refused.
    """

    def parse(text: str) -> int:
        if not text.strip().lstrip('+').isdecimal() or int(text) < least:
            msg = f'{text!r} is not a whole number of at least {least}'
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


class _ConfigOptions(argparse.Action):
    """MMEngine's ``DictAction``, which is imported only when the option is given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Parse ``key=value`` pairs into a dict."""
        from mmengine.config import DictAction  # noqa: PLC0415

        action = DictAction(self.option_strings, self.dest, nargs=self.nargs)
        action(parser, namespace, values, option_string or '')


def add_cfg_options(
    parser: argparse.ArgumentParser,
    text: str = 'override entries of the config, as key=value',
) -> None:
    """Add ``--cfg-options``, as every MM tool has it.

    Args:
        text: Help of the option.
    """
    parser.add_argument('--cfg-options', nargs='+', action=_ConfigOptions, help=text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG and CHECKPOINT, or an exported model alone.

    Parse with :func:`parse_model_arguments`.
    """
    parser.add_argument(
        'config', help='config file or released name; or folder of an exported model'
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='released file, folder of transformers, or a checkpoint of ours; none for '
        'an exported model',
    )


def parse_model_arguments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Parse a command line with the arguments of :func:`add_model_arguments`.

    Options may stand between the arguments.
    """
    # With parse_args, an option after CONFIG would end the arguments.
    options = parser.parse_intermixed_args(arguments)
    if options.checkpoint is None and not is_export_folder(options.config):
        parser.error(
            'the following arguments are required: checkpoint (only the folder of an '
            'exported model needs none)'
        )
    return options


def is_export_folder(path: str | Path) -> bool:
    """Whether a path is the folder of an exported model."""
    return (Path(path).expanduser() / EXPORT_FILE).is_file()


def add_fast_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
) -> None:
    """Add ``--fast``."""
    parser.add_argument(
        '--fast',
        action='store_true',
        help='multiply matrices in bfloat16 on a CPU that has instructions for it',
    )


def add_policy_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
) -> None:
    """Add ``--policy``."""
    parser.add_argument(
        '--policy',
        metavar='NAME',
        help='memory policy in place of that of the model: '
        f'{", ".join(policy_names())}, or a config with a memory_bank',
    )


def add_compile_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    *other_names: str,
) -> None:
    """Add ``--compile``.

    Args:
        other_names: Of the same option.
    """
    parser.add_argument(
        '--compile',
        *other_names,
        action='store_true',
        help='compile the model first, with torch.compile: slow to start, then faster',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every MM tool has."""
    parser.add_argument(
        '--work-dir', help='folder for logs, checkpoints and visualizations'
    )
    add_cfg_options(parser)
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


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the exporters share; see :func:`read_export_arguments`."""
    add = parser.add_argument
    add('config', help='config, or a name like sam2.1_hiera_b+')
    add(
        'checkpoint',
        help='released file, folder of transformers, a checkpoint of ours, or none',
    )
    add('out', type=Path, help='folder of the graphs')
    add_policy_option(parser)
    add(
        '--image-size',
        type=int,
        nargs='+',
        metavar='SIDE',
        help='height and width of the image, or the side of a square (default: those '
        'of the config)',
    )
    add(
        '--check',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='compare the graphs with torch (default: yes)',
    )


def read_export_arguments(
    options: argparse.Namespace,
) -> tuple[str, str | None, tuple[int, int] | None]:
    """Read config, checkpoint (None for random weights) and size, as builders do."""
    checkpoint = None if options.checkpoint == NO_CHECKPOINT else options.checkpoint
    sides = options.image_size
    if sides is not None and len(sides) > 2:
        msg = f'--image-size has {len(sides)} numbers; give HEIGHT and WIDTH, or one'
        raise ValueError(msg)
    size = None if sides is None else (sides[0], sides[-1])  # one side: a square
    return options.config, checkpoint, size
