"""What the command lines of training and of scoring have in common."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.config import Config, DictAction
from mmengine.runner import BaseLoop, Runner

from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.engine.config import apply_work_dir
from projects.sam2.engine.distributed import (
    LostProcessError,
    lost_contact,
    part_from_processes,
    prepare_processes,
)
from projects.sam2.engine.optim import NonFiniteLossError

# What the user can mend, or the cluster: where in the program it came up is of no use.
PLAIN_ERRORS = (
    FileNotFoundError,
    CheckpointMismatchError,
    LostProcessError,
    NonFiniteLossError,
)

__all__ = ['add_run_arguments', 'call_tool', 'launched_runner']


def call_tool(main: Callable[[], object]) -> None:
    """Call a tool, whose error, where it is no fault of the program, is one line.

    Args:
        main: Of the tool.

    Raises:
        SystemExit: With the line, which Python prints, and exit code 1; or the tool's
            own.
    """
    code: str | int | None = None
    try:
        main()
    except PLAIN_ERRORS as error:
        sys.exit(f'error: {error}')
    except SystemExit as ended:
        code = ended.code
    # The Runner stands in cycles and keeps the group that the process has parted from,
    # whose threads would still run at Python's own end: one that lets go of a tensor
    # then aborts the process.
    gc.collect()
    if code is not None:
        sys.exit(code)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every MM tool has.

    Args:
        parser: Changed in place.
    """
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
        cfg: Ready but for launcher and work directory; changed in place.
        options: With what :func:`add_run_arguments` adds.

    Yields:
        The Runner; not for use afterwards, when its loaders are gone.

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
        finally:
            _end_workers(runner)
    except RuntimeError as error:
        lost = lost_contact(error, cfg)
        if lost is None:
            raise
        raise lost from error
    part_from_processes()


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
