"""What may happen to a run of the toys: signals, and losses that are no numbers."""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner


class ToySignalHook(Hook):
    """Sends its own process a signal, and the workers of its loaders, too.

    It does so after an iteration of training, or after the first one of the
    validation that follows ``iteration`` iterations.
    """

    def __init__(
        self, *, iteration: int, number: int, rank: int = 0, in_validation: bool = False
    ) -> None:
        self.iteration = iteration
        self.number = number
        self.rank = rank
        self.in_validation = in_validation

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Send, when it is time."""
        if not self.in_validation and runner.iter + 1 == self.iteration:
            self._send(runner)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, *_: object, **__: object
    ) -> None:
        """Send, when it is time."""
        if self.in_validation and (runner.iter, batch_idx) == (self.iteration, 0):
            self._send(runner)

    def _send(self, runner: Runner) -> None:
        """Send, on one process alone, and from outside, as a cluster does."""
        if runner.rank == self.rank:
            pids = [worker.pid for worker in multiprocessing.active_children()]
            line = ' '.join(map(str, ['kill', f'-{self.number}', *pids, os.getpid()]))
            subprocess.run(['sh', '-c', line], check=True)


class ToySlowHook(Hook):
    """Waits after an iteration, and marks in the work directory that it does."""

    def __init__(self, *, iteration: int, seconds: float) -> None:
        self.iteration = iteration
        self.seconds = seconds

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Wait, when it is time."""
        if runner.iter + 1 == self.iteration:
            Path(runner.work_dir, f'waits_{runner.rank}').touch()
            time.sleep(self.seconds)


class ToyNanHook(Hook):
    """Spoils some batches of one process."""

    def __init__(self, *, iterations: Sequence[int], rank: int = 0) -> None:
        self.iterations = iterations
        self.rank = rank

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
    ) -> None:
        """Spoil one clip of the batch."""
        del batch_idx
        if runner.iter + 1 in self.iterations and runner.rank == self.rank:
            data_batch['features'][0].fill_(torch.nan)
