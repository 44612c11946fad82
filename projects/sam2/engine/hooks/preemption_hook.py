"""Stops a run with a checkpoint on SIGTERM, SIGUSR1 or Ctrl-C.

MMEngine does not handle signals: SIGTERM kills the process, and Ctrl-C raises
``KeyboardInterrupt`` at any point; both lose the work since the last checkpoint.
Three parts work together:

- :class:`ClipPreemptionHook` notes the signal, asks ``ClipTrainLoop`` to stop at the
  next optimizer step, and exits once ``SAM2CheckpointHook`` has written the checkpoint.
- A listener thread ends the process at the second Ctrl-C, even while the main thread
  waits for a GPU or for another process.
- Data loader workers ignore the signals, which clusters and terminals send to all
  processes of a job. The run needs its workers until it stops.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkContext, ForkProcess
from types import FrameType
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..distributed import leave_process_group
from ..loops import ClipTrainLoop

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a later attempt may succeed
# What shells report after Ctrl-C. Not 75: job scripts restart a run that exits with 75,
# and a user who presses Ctrl-C wants it to end.
INTERRUPT_EXIT_CODE = 128 + signal.SIGINT
PREEMPTION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Both the terminal and a launcher may deliver one key press. A SIGINT within this many
# seconds of the first is not a second one.
SAME_KEY_PRESS_SECONDS = 0.5


@HOOKS.register_module()
class ClipPreemptionHook(Hook):
    """Stops training with a checkpoint on SIGTERM, SIGUSR1 and Ctrl-C.

    The checkpoint is written after the next optimizer step; then the program exits:

    - with 75 after SIGTERM or SIGUSR1,
    - with 130 after Ctrl-C (SIGINT),
    - with 0 if the run had just finished.

    ``--resume`` continues the run as if it had not been stopped. A second Ctrl-C ends
    the process at once, without a checkpoint.

    It is enough that one process receives the signal: ``ClipTrainLoop`` stops all of
    them at the same step. A signal during validation ends the process at once if this
    iteration is already saved, and the resumed run validates first; otherwise the
    process ends after the validation.

    A program that catches the ``SystemExit`` goes on without a process group and
    ignores SIGTERM and SIGUSR1.
    """

    priority = 'LOWEST'  # after the hook that writes checkpoints

    def __init__(self) -> None:
        self._signal = 0  # the last one received; 0 for none
        self._is_preempted = False
        self._old_handlers: dict[int, Any] = {}
        self._listener: _InterruptListener | None = None

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'Training does not run in the main thread, the only one that receives '
                'signals: SIGTERM and SIGUSR1 will not save a checkpoint'
            )
            return
        signals: tuple[int, ...] = PREEMPTION_SIGNALS
        if isinstance(runner.train_loop, ClipTrainLoop):
            # MMEngine's loop would not stop before the end of the epoch.
            signals = (*signals, signal.SIGINT)
            self._listener = _InterruptListener(runner)
            self._listener.start()
        self._old_handlers = {
            number: signal.signal(number, self._on_signal) for number in signals
        }
        val_loop = runner.val_loop
        for loader in (runner.train_dataloader, val_loop and val_loop.dataloader):
            if loader is not None and loader.num_workers:
                _ignore_signals_in_workers(loader)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Ask the loop to stop after the next optimizer step."""
        self._request_stop(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Ask the loop to stop before the next epoch."""
        self._request_stop(runner)

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Ask the loop to stop before the next epoch."""
        self._request_stop(runner)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: object = None,
    ) -> None:
        """Exit at once if this iteration is already saved."""
        saved_iteration = runner.message_hub.get_info('last_ckpt_iter', None)
        if self._signal and saved_iteration == runner.iter:
            # Other processes may be elsewhere: leaving the group would wait for them.
            self._exit(runner, 'during validation', leaves_group=False)

    def after_train(self, runner: Runner) -> None:
        """Agree with the other processes on whether the run was stopped by a signal."""
        number = torch.tensor(self._signal)
        all_reduce(number, op='max')
        self._signal = int(number.item())
        self._is_preempted = bool(self._signal) and runner.epoch < runner.max_epochs

    def after_run(self, runner: Runner) -> None:
        """Exit, now that all other hooks are done."""
        if self._is_preempted:
            self._exit(runner, f'after iteration {runner.iter}', leaves_group=True)
        self._restore_handlers()

    def after_train_failure(self, runner: Runner) -> None:
        """Restore the handlers: no loop is left that a signal could stop."""
        self._restore_handlers()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Note the signal. Python calls this between any two instructions."""
        self._signal = number

    def _request_stop(self, runner: Runner) -> None:
        """Ask the loop to stop if a signal was received."""
        if self._signal:
            runner.train_loop.stop_training = True

    def _restore_handlers(self) -> None:
        """Restore the signal handlers from before training."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}

    def _exit(self, runner: Runner, when: str, *, leaves_group: bool) -> NoReturn:
        """Log why the program exits, and exit."""
        is_interrupt = self._signal == signal.SIGINT
        exit_code = INTERRUPT_EXIT_CODE if is_interrupt else EXIT_CODE
        runner.logger.warning(
            'Stopped by %s %s. The checkpoint is saved; run the same command with '
            '--resume to continue. Exit code %d',
            signal.Signals(self._signal).name,
            when,
            exit_code,
        )
        for number in PREEMPTION_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
            self._old_handlers.pop(number, None)
        if leaves_group:
            leave_process_group()  # may block: a second Ctrl-C still ends the process
        self._restore_handlers()
        raise SystemExit(exit_code)


class _InterruptListener(threading.Thread):
    """Ends the process at the second Ctrl-C.

    Python runs signal handlers between two instructions of the main thread, and one
    instruction may wait for a GPU or for another process. But Python writes the number
    of each signal to a pipe right away: this thread reads it.
    """

    STOP = 0  # no signal has this number

    def __init__(self, runner: Runner) -> None:
        super().__init__(name='interrupt_listener', daemon=True)
        self._runner = runner
        self._receiver, self._sender = os.pipe()
        os.set_blocking(self._sender, False)
        self._old_fd = signal.set_wakeup_fd(self._sender, warn_on_full_buffer=False)

    def run(self) -> None:
        """Read signal numbers until :meth:`stop` is called."""
        first_time: float | None = None
        while (number := os.read(self._receiver, 1)[0]) != self.STOP:
            if number != signal.SIGINT:
                continue
            now = time.monotonic()
            if first_time is None:
                first_time = now
                self._runner.logger.warning(
                    'Ctrl-C: a checkpoint is written at the next optimizer step, then '
                    'the run ends. A second Ctrl-C ends it at once, without one'
                )
            elif now - first_time > SAME_KEY_PRESS_SECONDS:
                for worker in multiprocessing.active_children():
                    worker.kill()
                os._exit(INTERRUPT_EXIT_CODE)

    def stop(self) -> None:
        """End the thread."""
        signal.set_wakeup_fd(self._old_fd)
        # Closing the pipe would not end the thread: forked workers hold it as well.
        os.write(self._sender, bytes([self.STOP]))
        self.join()
        os.close(self._sender)
        os.close(self._receiver)


def _ignore_signals_in_workers(loader: DataLoader[Any]) -> None:
    """Let a data loader's workers ignore the signals that stop a run."""
    loader.worker_init_fn = partial(_init_worker, os.getpid(), loader.worker_init_fn)
    context = loader.multiprocessing_context or multiprocessing.get_context()
    if isinstance(context, ForkContext):
        loader.multiprocessing_context = _SignalBlockingContext()


class _SignalBlockingProcess(ForkProcess):
    """A forked process in which the signals are blocked from its first instruction."""

    def start(self) -> None:
        """Block the signals before the fork: a child inherits the mask."""
        blocked = (*PREEMPTION_SIGNALS, signal.SIGINT)
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)

    def terminate(self) -> None:
        """Kill: a worker that hangs before ``_init_worker`` does not see SIGTERM."""
        self.kill()


class _SignalBlockingContext(ForkContext):
    Process = _SignalBlockingProcess


def _init_worker(
    trainer_pid: int, worker_init_fn: Callable[[int], None] | None, worker_id: int
) -> None:
    """Start a data loader worker that SIGTERM ends only if the trainer sent it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*PREEMPTION_SIGNALS, signal.SIGINT))
    threading.Thread(
        target=_exit_if_trainer_signals,
        args=(trainer_pid,),
        name='signal_filter',
        daemon=True,
    ).start()
    if worker_init_fn is not None:
        worker_init_fn(worker_id)


def _exit_if_trainer_signals(trainer_pid: int) -> None:
    """End the worker once the training process, which waits for it, says so."""
    while signal.sigwaitinfo(PREEMPTION_SIGNALS).si_pid != trainer_pid:
        pass
    os._exit(0)
