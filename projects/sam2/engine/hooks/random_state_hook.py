"""Saves and restores random states, so that a resumed run draws the same numbers."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

RandomState = dict[str, Any]
CHECKPOINT_KEY = 'random_states'


@HOOKS.register_module()
class ClipRandomStateHook(Hook):
    """Makes training independent of interruptions.

    - Checkpoints contain the random states of all processes. ``SAM2CheckpointHook``
      collects them (``before_gather_checkpoint``), since MMEngine calls
      ``before_save_checkpoint`` on the first process only.
    - Building a loader's iterator draws a number. Once ``ClipTrainLoop`` has built it,
      the states are set to those of the checkpoint, or to those from before.
    - In a new run each process seeds torch differently, so that dropout differs between
      processes. All other numbers of training come from generators that depend on the
      clip and not on the process.
    - Validation does not change the states.
    """

    # Before hooks that may draw numbers, and before the one that writes checkpoints.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._pending: RandomState | None = None  # set once the iterator is built
        self._before_validation: RandomState | None = None
        self._gathered: list[RandomState] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read this process's states from the checkpoint of a resumed run."""
        if not runner._resume:  # noqa: SLF001  it has no public name
            return
        states = checkpoint.get(CHECKPOINT_KEY, [])
        if len(states) > get_rank():
            self._pending = states[get_rank()]
            return
        runner.logger.warning(
            'The checkpoint contains random states of %d processes and none for '
            'process %d: random numbers will differ from those of an unbroken run',
            len(states),
            get_rank(),
        )

    def before_train(self, runner: Runner) -> None:
        """Seed the processes of a new run differently."""
        if self._pending is None:
            torch.manual_seed(runner.seed + get_rank())

    def before_train_epoch(self, runner: Runner) -> None:
        """Capture the states before the loader's iterator is built."""
        if self._pending is None:
            self._pending = capture_random_state()

    def after_build_iterator(self, runner: Runner) -> None:
        """Set the states with which the epoch starts."""
        self._restore_pending()

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
    ) -> None:
        """Set them here for loops that do not call ``after_build_iterator``."""
        self._restore_pending()

    def _restore_pending(self) -> None:
        if self._pending is not None:
            restore_random_state(self._pending)
            self._pending = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Capture the states."""
        self._before_validation = capture_random_state()

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Restore the states from before the validation."""
        if self._before_validation is not None:
            restore_random_state(self._before_validation)
            self._before_validation = None

    def before_gather_checkpoint(self, runner: Runner) -> None:
        """Collect the states of all processes."""
        state = self._pending
        if state is None:
            state = capture_random_state()
        self._gathered = all_gather_object(state)

    def before_save_checkpoint(
        self,
        runner: Runner,
        checkpoint: dict[str, Any],
    ) -> None:
        """Add the collected states to a checkpoint."""
        if self._gathered is not None:
            checkpoint[CHECKPOINT_KEY] = self._gathered
            self._gathered = None


def capture_random_state() -> RandomState:
    """Read the random states of Python, NumPy, torch and the current CUDA device.

    Returns:
        Plain types and tensors only, so that ``torch.load(weights_only=True)`` reads
        them.
    """
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  the global stream
    inner = numpy_state['state']
    state: RandomState = {
        'python': random.getstate(),
        'numpy': {
            **numpy_state,
            'state': {'key': inner['key'].tolist(), 'pos': int(inner['pos'])},
        },
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: RandomState) -> None:
    """Set the states of :func:`capture_random_state`.

    The state of a CUDA device is ignored on a machine without one.
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])  # noqa: NPY002  the global stream
    # Resuming may have moved the tensors to a GPU; torch wants them on the CPU.
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
