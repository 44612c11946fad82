"""Global random states of a process, in types that any checkpoint may hold."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

RandomState = dict[str, Any]


def capture_random_state() -> RandomState:
    """Read the states of Python, NumPy, torch and of the current CUDA device.

    Returns:
        Numbers, strings, tuples, lists and tensors alone, so that ``torch.load``
        reads them with ``weights_only=True``.
    """
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  what others draw from
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
    """Set the states that :func:`capture_random_state` read.

    A state of a CUDA device is left alone on a machine without one.

    Args:
        state: What was captured; its tensors may lie on any device.
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])  # noqa: NPY002  as above
    torch.set_rng_state(_on_cpu(state['torch']))
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_on_cpu(state['cuda']))


def _on_cpu(state: Tensor) -> Tensor:
    """A generator's state where torch wants it; resuming moves tensors to the GPU."""
    return state.cpu()


CHECKPOINT_KEY = 'random_states'


@HOOKS.register_module()
class ClipRandomStateHook(Hook):
    """Makes training draw the same numbers whether it was interrupted or not.

    - Checkpoints hold the random states of all processes. ``SAM2CheckpointHook``
      asks for them on every process (``before_gather_checkpoint``), since MMEngine
      calls ``before_save_checkpoint`` on the first process alone.
    - Building a loader's iterator draws a number. The states are therefore set once
      ``ClipTrainLoop`` has built it: to those of the checkpoint, or to what they were
      before it was built.
    - A new run gives each process a torch stream of its own: dropout differs between
      processes that were seeded alike. All else that is drawn while training comes
      from generators that know the clip and not the process.
    - Validation leaves the states as it found them.
    """

    # Before hooks that may draw numbers, and before the one that writes checkpoints.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._held: RandomState | None = None
        self._before_validation: RandomState | None = None
        self._gathered: list[RandomState] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take this process's states out of a checkpoint that a run resumes from."""
        if not runner._resume:  # noqa: SLF001  it has no public name
            return
        states = checkpoint.get(CHECKPOINT_KEY, [])
        if len(states) > get_rank():
            self._held = states[get_rank()]
            return
        runner.logger.warning(
            'The checkpoint holds random states of %d processes and none for process '
            '%d: what training draws at random will differ from the run that wrote it',
            len(states),
            get_rank(),
        )

    def before_train(self, runner: Runner) -> None:
        """Tell the processes of a new run apart."""
        if self._held is None:
            torch.manual_seed(runner.seed + get_rank())

    def before_train_epoch(self, runner: Runner) -> None:
        """Remember the states until the loader's iterator is there."""
        if self._held is None:
            self._held = capture_random_state()

    def after_build_iterator(self, runner: Runner) -> None:
        """Set the states with which the epoch begins or goes on."""
        self._release()

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
    ) -> None:
        """Set them late where the loop does not tell when the iterator is there."""
        self._release()

    def before_val_epoch(self, runner: Runner) -> None:
        """Remember the states."""
        self._before_validation = capture_random_state()

    def after_val_epoch(
        self,
        runner: Runner,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Set the states as they were before validation."""
        if self._before_validation is not None:
            restore_random_state(self._before_validation)
            self._before_validation = None

    def before_gather_checkpoint(self, runner: Runner) -> None:
        """Collect the states of all processes; called on all of them."""
        own = self._held if self._held is not None else capture_random_state()
        self._gathered = all_gather_object(own)

    def before_save_checkpoint(
        self,
        runner: Runner,
        checkpoint: dict[str, Any],
    ) -> None:
        """Put the collected states into a checkpoint."""
        if self._gathered is not None:
            checkpoint[CHECKPOINT_KEY] = self._gathered
            self._gathered = None

    def _release(self) -> None:
        """Set the remembered states, once."""
        if self._held is not None:
            restore_random_state(self._held)
            self._held = None
