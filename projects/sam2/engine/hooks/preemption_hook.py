"""Saves and ends when the cluster asks for the machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkContext, ForkProcess
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from projects.sam2.engine.distributed import part_from_processes

# EX_TEMPFAIL of sysexits.h: not done, but a later attempt will get further.
EXIT_CODE = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

__all__ = ['EXIT_CODE', 'ClipPreemptionHook']


@HOOKS.register_module()
class ClipPreemptionHook(Hook):
    """Obeys SIGTERM and SIGUSR1: a checkpoint at the next optimizer step, then the end.

    One process that gets the signal is enough: ``ClipTrainLoop`` stops all of them at
    the same step, and ``SAM2CheckpointHook`` writes where they stand. The program then
    ends with exit code 75 (a run that was at its end anyway, with 0), and ``--resume``
    goes on as if nothing had happened. Workers of the data loaders do not heed these
    signals, which clusters send to all processes of a job. A program that catches the
    end goes on without the process group, and deaf to both signals.

    A signal during validation ends the process at once where a checkpoint of here is
    there; the resumed run validates first. Else it ends after the validation.
    """

    # After the hook that writes checkpoints.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received = 0
        self._is_preempted = False
        self._former: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Begin to listen.

        Args:
            runner: Of the run.
        """
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'Signals reach the main thread alone, and training runs in another: '
                'SIGTERM and SIGUSR1 will not save'
            )
            return
        self._former = {one: signal.signal(one, self._note) for one in SIGNALS}
        val_loop = runner.val_loop
        for loader in (runner.train_dataloader, val_loop and val_loop.dataloader):
            if loader is not None and loader.num_workers:
                _have_deaf_workers(loader)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,  # noqa: ARG002  the interface
        data_batch: object = None,  # noqa: ARG002
        outputs: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> None:
        """Ask the loop to stop; it does so after the next optimizer step."""
        self._ask(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Ask the loop to stop, if the signal came since."""
        self._ask(runner)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,  # noqa: ARG002
        data_batch: object = None,  # noqa: ARG002
        outputs: object = None,  # noqa: ARG002
    ) -> None:
        """End at once where nothing would be lost.

        Args:
            runner: Of the run.
            batch_idx: Not used.
            data_batch: Not used.
            outputs: Not used.

        Raises:
            SystemExit: With code 75.
        """
        saved = runner.message_hub.get_info('last_ckpt_iter', None)
        if self._received and saved == runner.iter:
            self._say(runner, 'in mid-validation')
            _hear_no_more()
            raise SystemExit(EXIT_CODE)

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,  # noqa: ARG002
    ) -> None:
        """Ask the loop to stop, if the signal came since."""
        self._ask(runner)

    def after_train(self, runner: Runner) -> None:
        """Learn whether the run ends here because any process got a signal.

        Args:
            runner: Of the run.
        """
        number = torch.tensor(self._received)
        all_reduce(number, op='max')
        self._received = int(number.item())
        self._is_preempted = bool(self._received) and runner.epoch < runner.max_epochs

    def after_run(self, runner: Runner) -> None:
        """End the program, once all other hooks are done.

        Args:
            runner: Of the run.

        Raises:
            SystemExit: With code 75, if a signal stopped the run.
        """
        if self._is_preempted:
            self._say(runner, f'after iteration {runner.iter}')
            _hear_no_more()
            part_from_processes()
            raise SystemExit(EXIT_CODE)
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Called by Python between any two instructions: no more than this."""
        self._received = number

    def _ask(self, runner: Runner) -> None:
        """Ask the loop to stop."""
        if self._received:
            runner.train_loop.stop_training = True

    def _say(self, runner: Runner, where: str) -> None:
        """Say why the program ends."""
        runner.logger.warning(
            'Stopped by %s %s. The checkpoint is written; the same command with '
            '--resume goes on. Exit code %d',
            signal.Signals(self._received).name,
            where,
            EXIT_CODE,
        )


def _hear_no_more() -> None:
    """Ignore the signals until the process has ended.

    Launchers send SIGTERM to all others as soon as one process has ended, and Python
    stops listening before its own end.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _DeafProcess(ForkProcess):
    """A process whose first thread never hears the cluster's signals."""

    def start(self) -> None:
        """Block them before the process is there: it inherits what is blocked."""
        former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def terminate(self) -> None:
        """End it; one that hangs before it listens would not hear SIGTERM."""
        self.kill()


class _DeafContext(ForkContext):
    """Starts such processes."""

    Process = _DeafProcess


def _have_deaf_workers(loader: DataLoader[Any]) -> None:
    """Have a loader start workers that the cluster's signals do not end.

    Workers that are not forked are deaf only once they have begun.
    """
    loader.worker_init_fn = partial(_begin_deaf, os.getpid(), loader.worker_init_fn)
    chosen = loader.multiprocessing_context or multiprocessing.get_context()
    if isinstance(chosen, ForkContext):
        loader.multiprocessing_context = _DeafContext()


def _begin_deaf(trainer: int, begin: Callable[[int], None] | None, worker: int) -> None:
    """Begin a loader's worker that the cluster's signals do not end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    listener = threading.Thread(
        target=_heed_trainer, args=(trainer,), name='heed_trainer', daemon=True
    )
    listener.start()
    if begin is not None:
        begin(worker)


def _heed_trainer(trainer: int) -> None:
    """End a worker if the process that trains says so, which waits for that."""
    while signal.sigwaitinfo(SIGNALS).si_pid != trainer:
        pass
    os._exit(0)
