"""Building a Runner in its process group, and a clean end of both.

Added to what MMEngine's Runner does:

- runs without a GPU join their process group by gloo, and all runs leave it;
- the traceback of an error goes to the log file;
- data loader workers end before the interpreter does.
"""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.runner import BaseLoop, Runner

from .config import apply_work_dir
from .distributed import init_distributed, leave_process_group, lost_process_error
from .screen import QuietRunner, ScreenHook, ignore_harmless_warnings, is_verbose


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
        if runner.rank != 0:
            _leave_metrics_to_main_process(runner)
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


def _leave_metrics_to_main_process(runner: Runner) -> None:
    """Keep other processes from writing the metrics of a test into the same file."""
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook):
            vars(hook)['after_test_epoch'] = lambda *_, **__: None


def _log_traceback(runner: Runner, error: Exception) -> None:
    """Write the traceback of an error to the log file, not to the terminal."""
    logger = runner.logger
    exc_info = (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, 'The run failed', (), exc_info
    )
    for handler in logger.handlers:
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
