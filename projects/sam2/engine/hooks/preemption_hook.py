"""Saves and ends when the cluster asks for the machine, or the user presses Ctrl-C."""

import multiprocessing
import os
import signal
import threading
import time
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

from ..distributed import part_from_processes
from ..loops import ClipTrainLoop

# EX_TEMPFAIL of sysexits.h: not done, but a later attempt will get further.
EXIT_CODE = 75
# What shells report of a program that Ctrl-C ended. Not 75: job scripts start a run
# anew after that, and a user who interrupts it wants it to end.
INTERRUPT_EXIT_CODE = 128 + signal.SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# The terminal sends SIGINT to all processes of a job, and a launcher may hand it on to
# them as well: what comes within so many seconds is the same key press.
SAME_KEY_PRESS = 0.5

__all__ = ['EXIT_CODE', 'INTERRUPT_EXIT_CODE', 'ClipPreemptionHook']


@HOOKS.register_module()
class ClipPreemptionHook(Hook):
    """Stops training on SIGTERM, SIGUSR1 and Ctrl-C, with a checkpoint.

    The checkpoint is written at the next optimizer step, then the program ends: with
    exit code 75 after SIGTERM and SIGUSR1, with 130 after Ctrl-C (SIGINT), and with 0
    where the run was at its end anyway. ``--resume`` continues as if nothing had
    happened. A second Ctrl-C ends the process at once, without a checkpoint.

    One process that gets the signal is enough: ``ClipTrainLoop`` stops all of them at
    the same step, and ``SAM2CheckpointHook`` writes the checkpoint. Workers of the data
    loaders ignore these signals, which clusters and terminals send to all processes of
    a job. A program that catches the ``SystemExit`` continues without the process
    group, and ignores SIGTERM and SIGUSR1.

    A signal during validation ends the process at once if the checkpoint of this
    iteration is there; the resumed run validates first. Otherwise the process ends
    after the validation.
    """

    # After the hook that writes checkpoints.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received = 0
        self._is_preempted = False
        self._former: dict[int, Any] = {}
        self._listener: _InterruptListener | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to listen."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'Signals reach the main thread alone, and training runs in another: '
                'SIGTERM and SIGUSR1 will not save'
            )
            return
        self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        # MMEngine's loop of epochs would go on to the end of the epoch.
        if isinstance(runner.train_loop, ClipTrainLoop):
            self._former[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)
            self._listener = _InterruptListener(runner)
            self._listener.start()
        val_loop = runner.val_loop
        for loader in (runner.train_dataloader, val_loop and val_loop.dataloader):
            if loader is not None and loader.num_workers:
                _have_deaf_workers(loader)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Ask the loop to stop; it does so after the next optimizer step."""
        self._ask(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Ask the loop to stop, if the signal came since."""
        self._ask(runner)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
    ) -> None:
        """End at once where nothing would be lost."""
        saved = runner.message_hub.get_info('last_ckpt_iter', None)
        if self._received and saved == runner.iter:
            self._say(runner, 'in mid-validation')
            self._stop_listening(is_ending=True)
            raise SystemExit(self._exit_code)

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Ask the loop to stop, if the signal came since."""
        self._ask(runner)

    def after_train(self, runner: Runner) -> None:
        """Learn whether the run ends here because any process got a signal."""
        number = torch.tensor(self._received)
        all_reduce(number, op='max')
        self._received = int(number.item())
        self._is_preempted = bool(self._received) and runner.epoch < runner.max_epochs

    def after_run(self, runner: Runner) -> None:
        """End the program, once all other hooks are done."""
        if self._is_preempted:
            self._say(runner, f'after iteration {runner.iter}')
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            part_from_processes()  # may wait: a second Ctrl-C still ends the process
            self._stop_listening(is_ending=True)
            raise SystemExit(self._exit_code)
        self._stop_listening()

    def after_train_failure(self, runner: Runner) -> None:
        """Stop listening, since nothing stops at a signal any more."""
        self._stop_listening()

    def _stop_listening(self, *, is_ending: bool = False) -> None:
        """Give the signals their former handlers back."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        for number, handler in self._former.items():
            ignores = is_ending and number in SIGNALS
            signal.signal(number, signal.SIG_IGN if ignores else handler)
        self._former = {}

    @property
    def _exit_code(self) -> int:
        """Exit code that tells what stopped the run."""
        is_interrupt = self._received == signal.SIGINT
        return INTERRUPT_EXIT_CODE if is_interrupt else EXIT_CODE

    def _note(self, number: int, frame: FrameType | None) -> None:
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
            self._exit_code,
        )


class _InterruptListener(threading.Thread):
    """Ends the process at the second Ctrl-C.

    Python calls a signal's handler between two instructions of the main thread, which
    may wait for a GPU or for another process in a single one. This thread reads the
    numbers of the signals that Python writes to a pipe in the meantime.
    """

    STOP = 0  # the number of no signal

    def __init__(self, runner: Runner) -> None:
        super().__init__(name='interrupt_listener', daemon=True)
        self._runner = runner
        self._receiver, self._sender = os.pipe()
        os.set_blocking(self._sender, False)
        self._former = signal.set_wakeup_fd(self._sender, warn_on_full_buffer=False)

    def run(self) -> None:
        """Wait for signals, until told to stop."""
        first: float | None = None
        while (number := os.read(self._receiver, 1)[0]) != self.STOP:
            if number != signal.SIGINT:
                continue
            now = time.monotonic()
            if first is None:
                first = now
                self._runner.logger.warning(
                    'Ctrl-C: a checkpoint is written at the next optimizer step, then '
                    'the run ends. A second Ctrl-C ends it at once, without one'
                )
            elif now - first > SAME_KEY_PRESS:
                for worker in multiprocessing.active_children():
                    worker.kill()
                os._exit(INTERRUPT_EXIT_CODE)

    def stop(self) -> None:
        """Stop listening."""
        signal.set_wakeup_fd(self._former)
        # Closing the pipe would not end the thread: forked workers hold it, too.
        os.write(self._sender, bytes([self.STOP]))
        self.join()
        os.close(self._sender)
        os.close(self._receiver)


class _DeafProcess(ForkProcess):
    """A process whose first thread never gets the signals that stop a run."""

    def start(self) -> None:
        """Block them before the process is there: it inherits what is blocked."""
        former = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGINT))
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
    """Have a loader start workers that the signals which stop a run do not end.

    Workers that are not forked are deaf only once they have begun.
    """
    loader.worker_init_fn = partial(_begin_deaf, os.getpid(), loader.worker_init_fn)
    chosen = loader.multiprocessing_context or multiprocessing.get_context()
    if isinstance(chosen, ForkContext):
        loader.multiprocessing_context = _DeafContext()


def _begin_deaf(trainer: int, begin: Callable[[int], None] | None, worker: int) -> None:
    """Begin a loader's worker that the signals which stop a run do not end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGINT))
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
