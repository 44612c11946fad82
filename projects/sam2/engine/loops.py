"""Epochs that resume where they were left and stop when they are told to."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner, TestLoop, ValLoop
from torch import nn
from torch.utils.data import DataLoader

from .config import carry_data_root
from .optim import FiniteGuard

# Noted in the message hub, hence in checkpoints: what a position depends on.
NUM_BATCHES = 'epoch_num_batches'
NUM_PROCESSES = 'num_processes'
STEP_SIZES = 'clips_per_step'
REMEDY = (
    'Resume with the clips of the first run and as many of them in a step (batch size '
    'times number of processes), or start a new run from the weights, without '
    '--resume, with --cfg-options load_from=<checkpoint>'
)


@LOOPS.register_module()
class ClipTrainLoop(EpochBasedTrainLoop):
    """MMEngine's epochs, with six things that they lack.

    - A run that resumes from a checkpoint of mid-epoch goes on with the next batch;
      what was seen is skipped by number and not decoded. This needs
      ``batch_sampler=dict(type='ClipBatchSampler')``.
    - Checkpoints know how many batches an epoch had on how many processes; a run that
      resumes with others is stopped: it would skip or repeat clips. Other processes
      are fine where they see, step by step, the same clips together.
    - A run that was killed between the last batch of an epoch and the end of its
      validation validates first when it resumes.
    - ``stop_training`` is obeyed after each optimizer step, on all processes as soon
      as one of them asks for it.
    - A changed ``data_root`` of the config reaches its datasets, here as in
      ``ClipValLoop`` and ``ClipTestLoop``.
    - With ``ClipNonFiniteHook`` no step is taken with a loss that is not finite.

    Hooks may define ``after_build_iterator(runner)``: it is called in each epoch once
    the loader's iterator exists and before the first batch is asked for;
    ``after_bad_batch(runner, data_batch, outputs, is_own)``, see that hook; and
    ``after_train_failure(runner)``, called where training ends with an error.
    """

    _guard: FiniteGuard | None = None

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: DataLoader[Any] | dict[str, Any],
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        carry_data_root(runner)
        super().__init__(
            runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals
        )

    def run(self) -> nn.Module:
        """Train until the last epoch, or until a hook asks to stop.

        Raises:
            ValueError: If the run resumes with another number of batches or of
                processes, or from a position that this loader does not have.
        """
        self.runner.call_hook('before_train')
        try:
            self._train()
            self.runner.call_hook('after_train')
        except Exception:
            self.runner.call_hook('after_train_failure')
            raise
        model: nn.Module = self.runner.model
        return model

    def run_epoch(self) -> None:
        """Train for what is left of the epoch, unless told to stop before its end."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._batches_done
        if first:
            self._skip_batches(first)
        iterator = iter(self.dataloader)
        self.runner.call_hook('after_build_iterator')
        for index, data_batch in enumerate(iterator, first):
            self.run_iter(index, data_batch)
            if self.runner.optim_wrapper.should_update() and self._stop_requested():
                break
        if self._batches_done < len(self.dataloader):
            return
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[Any]) -> None:
        """Train on a batch."""
        runner, guard = self.runner, self._guard
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(
            data_batch, optim_wrapper=guard or runner.optim_wrapper
        )
        if guard is not None and guard.is_bad:
            runner.call_hook(
                'after_bad_batch',
                data_batch=data_batch,
                outputs=outputs,
                is_own=guard.is_own,
            )
            # A mean over the latest losses would be spoilt for as long as it lasts.
            outputs = {}
        runner.call_hook(
            'after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs
        )
        self._iter += 1

    def _train(self) -> None:
        """Train until the last epoch, or until a hook asks to stop."""
        self._check_record()
        self._check_position()
        is_guarded = any(hasattr(hook, 'after_bad_batch') for hook in self.runner.hooks)
        if is_guarded and isinstance(self.runner.optim_wrapper, OptimWrapper):
            self._guard = FiniteGuard(self.runner.optim_wrapper)
        if self._epoch >= self._max_epochs:
            self.runner.logger.warning(
                'The checkpoint is of epoch %d of %d: nothing is left to train. A new '
                'run begins with its weights by load_from',
                self._epoch,
                self._max_epochs,
            )
        if self._epoch and self._batches_done == 0:
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self._stop_requested():
            self.run_epoch()
            if self._batches_done == 0:
                self._validate_if_due()

    @property
    def _batches_done(self) -> int:
        """Batches of the current epoch that were trained on."""
        return int(self._iter - self._epoch * len(self.dataloader))

    def _check_record(self) -> None:
        """Compare the epoch with that of the checkpoint, then note it for the next."""
        hub = self.runner.message_hub
        num_batches, num_processes = len(self.dataloader), get_world_size()
        sizes = getattr(self.dataloader.batch_sampler, 'clips_per_step', None)
        # Older checkpoints have none.
        old_batches = hub.get_info(NUM_BATCHES, num_batches)
        old_processes = hub.get_info(NUM_PROCESSES, num_processes)
        old_sizes = hub.get_info(STEP_SIZES)
        if sizes is None or old_sizes is None:
            is_same_step = old_processes == num_processes
        else:
            is_same_step = old_sizes == sizes
        if self._iter and (old_batches != num_batches or not is_same_step):
            msg = (
                f'The checkpoint was written after iteration {self._iter}, when an '
                f'epoch had {old_batches} iterations on {old_processes} processes'
                f'{_of_clips(old_sizes)}, but it has {num_batches} iterations now on '
                f'{num_processes} processes{_of_clips(sizes)}. {REMEDY}'
            )
            raise ValueError(msg)
        if self._iter and old_processes != num_processes:
            self.runner.logger.warning(
                'Going on with %d processes in place of %d: the clips of each step are '
                'the same, dropout and the rounding of sums are not',
                num_processes,
                old_processes,
            )
        info = {NUM_BATCHES: num_batches, NUM_PROCESSES: num_processes}
        hub.update_info_dict({**info, STEP_SIZES: sizes} if sizes else info)

    def _check_position(self) -> None:
        """Raise where the checkpoint's position is none of this loader."""
        if not 0 <= self._batches_done <= len(self.dataloader):
            msg = (
                f'The checkpoint was written after iteration {self._iter}, in epoch '
                f'{self._epoch}, but an epoch has {len(self.dataloader)} iterations '
                f'now. {REMEDY}'
            )
            raise ValueError(msg)

    def _skip_batches(self, number: int) -> None:
        """Let the next iterator begin later."""
        batch_sampler = self.dataloader.batch_sampler
        if not hasattr(batch_sampler, 'start_at'):
            msg = (
                f'Resuming at batch {number} of an epoch needs a batch sampler that '
                f'can start there, but got {type(batch_sampler).__name__}; set '
                f"train_dataloader.batch_sampler=dict(type='ClipBatchSampler')"
            )
            raise TypeError(msg)
        batch_sampler.start_at(number)

    def _stop_requested(self) -> bool:
        """Whether any process was asked to stop; all get the same answer."""
        flag = torch.tensor(int(self.stop_training))
        all_reduce(flag, op='max')
        self.stop_training = bool(flag.item())
        return self.stop_training

    def _validate_if_due(self) -> None:
        """Validate, unless the epoch asks for no validation or had it already."""
        self._decide_current_val_interval()
        val_loop, hub = self.runner.val_loop, self.runner.message_hub
        if val_loop is None or self._epoch < self.val_begin:
            return
        is_last = self._epoch == self._max_epochs
        is_done = hub.get_info('epochs_validated', 0) == self._epoch
        if is_done or not (is_last or self._epoch % self.val_interval == 0):
            return
        # Before the run, so that checkpoints written at its end know of it.
        hub.update_info('epochs_validated', self._epoch)
        val_loop.run()


def _of_clips(sizes: list[int] | None) -> str:
    """Say how many clips a step has, where that is known."""
    if sizes is None:
        return ''
    return f', {" or ".join(map(str, sizes))} clips to a step'


Loader = DataLoader[Any] | dict[str, Any]
Metrics = Evaluator | dict[str, Any] | list[Any]


@LOOPS.register_module()
class ClipValLoop(ValLoop):
    """MMEngine's validation; a changed ``data_root`` reaches its datasets.

    Args:
        runner: Of the run.
        dataloader: Of the validation, or its config.
        evaluator: Of the validation, or its config.
        fp16: See MMEngine's ``ValLoop``.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        evaluator: Metrics,
        fp16: bool = False,
    ) -> None:
        carry_data_root(runner)
        super().__init__(runner, dataloader, evaluator, fp16)


@LOOPS.register_module()
class ClipTestLoop(TestLoop):
    """MMEngine's test; a changed ``data_root`` reaches its datasets.

    Args:
        runner: Of the run.
        dataloader: Of the test, or its config.
        evaluator: Of the test, or its config.
        fp16: See MMEngine's ``TestLoop``.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        evaluator: Metrics,
        fp16: bool = False,
    ) -> None:
        carry_data_root(runner)
        super().__init__(runner, dataloader, evaluator, fp16)
