"""What the command lines of training and of scoring have in common."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import distributed

from projects.sam2.engine.config import apply_work_dir
from projects.sam2.engine.distributed import prepare_processes

__all__ = ['add_run_arguments', 'launched_runner']


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
        The Runner.
    """
    os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    cfg.launcher = options.launcher
    apply_work_dir(cfg, options.work_dir)
    prepare_processes(cfg, options.launcher)
    yield Runner.from_cfg(cfg)
    if distributed.is_initialized():
        distributed.destroy_process_group()
