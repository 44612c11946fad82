"""The registered loops: training that resumes in mid-epoch, validation, test."""

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

from .config import apply_runner_data_root
from .optim import FiniteGuard

# Keys of the message hub, which checkpoints contain. The position in an epoch, from
# which a run resumes, is valid only while these values stay the same.
NUM_BATCHES = 'epoch_num_batches'
NUM_PROCESSES = 'num_processes'
CLIPS_PER_STEP = 'clips_per_step'
REMEDY = (
    'Resume with the same clips and as many of them per step (batch size times number '
    'of processes) as before, or start a new run from the weights: without --resume, '
    'with --cfg-options load_from=<checkpoint>'
)

Loader = DataLoader[Any] | dict[str, Any]


@LOOPS.register_module()
class ClipTrainLoop(EpochBasedTrainLoop):
    """MMEngine's epoch loop, extended by exact resuming and stopping.

    - Resuming in mid-epoch continues with the next batch; earlier clips are not loaded.
      This needs ``batch_sampler=dict(type='ClipBatchSampler')``.
    - Resuming is refused if it would skip or repeat clips, because the number of
      batches in an epoch or the clips of a step have changed. The number of processes
      may change as long as they see the same clips together in each step.
    - A run that was stopped before the end of an epoch's validation validates first.
    - ``stop_training`` takes effect after the next optimizer step, on all processes as
      soon as it is set on one of them.
    - A changed top-level ``data_root`` reaches the datasets (as in ``ClipValLoop`` and
      ``ClipTestLoop``).
    - With ``ClipNonFiniteHook`` no optimizer step is taken with a non-finite loss.

    It calls three more methods of hooks: ``after_build_iterator(runner)`` in each epoch
    between building the loader's iterator and the first batch,
    ``after_guarded_batch(runner, batch_idx, data_batch, outputs, guard)`` after each
    batch whose step a :class:`FiniteGuard` may have skipped, and
    ``after_train_failure(runner)`` if training ends with an error.

    Raises:
        ValueError: If ``max_epochs`` or ``val_interval`` is below 1.
    """

    guard: FiniteGuard | None = None

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        for name, value in (('max_epochs', max_epochs), ('val_interval', val_interval)):
            if not isinstance(value, int) or value < 1:
                msg = f'train_cfg.{name} is {value!r}; give a whole number from 1 on'
                raise ValueError(msg)
        apply_runner_data_root(runner)
        super().__init__(
            runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals
        )

    def run(self) -> nn.Module:
        """Train until the last epoch, or until a hook sets ``stop_training``.

        Raises:
            ValueError: If the run resumes with another number of batches per epoch or
                clips per step, or from a position that this loader does not have.
        """
        self.runner.call_hook('before_train')
        try:
            self._check_epoch()
            self._train()
            self.runner.call_hook('after_train')
        except Exception:
            self.runner.call_hook('after_train_failure')
            raise
        model: nn.Module = self.runner.model
        return model

    def _train(self) -> None:
        """Run the remaining epochs and their validation."""
        is_guarded = any(
            hasattr(hook, 'after_guarded_batch') for hook in self.runner.hooks
        )
        if is_guarded and isinstance(self.runner.optim_wrapper, OptimWrapper):
            self.guard = FiniteGuard(self.runner.optim_wrapper)
        if self._epoch >= self._max_epochs:
            self.runner.logger.warning(
                'The checkpoint is of epoch %d of %d: nothing is left to train. To '
                'start a new run from its weights, use load_from',
                self._epoch,
                self._max_epochs,
            )
        if self._epoch and self._num_batches_done == 0:
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self._stop_requested():
            self.run_epoch()
            if self._num_batches_done == 0:
                self._validate_if_due()

    def run_epoch(self) -> None:
        """Train for the rest of the epoch, or until a stop is requested."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self._num_batches_done
        if first:
            self._skip_batches(first)
        iterator = iter(self.dataloader)
        self.runner.call_hook('after_build_iterator')
        for index, data_batch in enumerate(iterator, first):
            self.run_iter(index, data_batch)
            if self.runner.optim_wrapper.should_update() and self._stop_requested():
                break
        if self._num_batches_done == len(self.dataloader):
            self.runner.call_hook('after_train_epoch')
            self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[Any]) -> None:
        """Train on a batch."""
        runner, guard = self.runner, self.guard
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(
            data_batch, optim_wrapper=guard or runner.optim_wrapper
        )
        if guard is not None:
            runner.call_hook(
                'after_guarded_batch',
                batch_idx=idx,
                data_batch=data_batch,
                outputs=outputs,
                guard=guard,
            )
            if guard.grad_norm is not None:
                outputs = {runner.optim_wrapper.grad_name: guard.grad_norm, **outputs}
            if guard.is_bad.device.type == 'cpu' and guard.is_bad:
                outputs = {}  # NaN would spoil the logged running mean
        runner.call_hook(
            'after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs
        )
        self._iter += 1

    @property
    def _num_batches_done(self) -> int:
        """Number of batches of the current epoch that were trained on."""
        return int(self._iter - self._epoch * len(self.dataloader))

    def _check_epoch(self) -> None:
        """Compare the epoch with the checkpoint's record, and update the record."""
        hub = self.runner.message_hub
        num_batches, num_processes = len(self.dataloader), get_world_size()
        clips = getattr(self.dataloader.batch_sampler, CLIPS_PER_STEP, None)
        # Checkpoints of early versions have no such record.
        old_num_batches = hub.get_info(NUM_BATCHES, num_batches)
        old_num_processes = hub.get_info(NUM_PROCESSES, num_processes)
        old_clips = hub.get_info(CLIPS_PER_STEP)
        if clips is None or old_clips is None:
            is_same_step = old_num_processes == num_processes
        else:
            is_same_step = old_clips == clips
        if self._iter and (old_num_batches != num_batches or not is_same_step):
            msg = (
                f'The checkpoint was written after iteration {self._iter}, when an '
                f'epoch had {old_num_batches} iterations on {old_num_processes} '
                f'processes{_per_step(old_clips)}, but it has {num_batches} iterations '
                f'now on {num_processes} processes{_per_step(clips)}. {REMEDY}'
            )
            raise ValueError(msg)
        if not 0 <= self._num_batches_done <= num_batches:
            msg = (
                f'The checkpoint was written after iteration {self._iter}, in epoch '
                f'{self._epoch}, but an epoch has {num_batches} iterations now. '
                f'{REMEDY}'
            )
            raise ValueError(msg)
        if self._iter and old_num_processes != num_processes:
            self.runner.logger.warning(
                'Resuming with %d processes instead of %d: the clips of each step are '
                'the same; dropout and the rounding of sums differ',
                num_processes,
                old_num_processes,
            )
        hub.update_info_dict({NUM_BATCHES: num_batches, NUM_PROCESSES: num_processes})
        if clips:
            hub.update_info(CLIPS_PER_STEP, clips)

    def _skip_batches(self, num_batches: int) -> None:
        """Let the loader's next iterator start later."""
        batch_sampler = self.dataloader.batch_sampler
        if not hasattr(batch_sampler, 'start_at'):
            msg = (
                f'Resuming at batch {num_batches} of an epoch needs a batch sampler '
                f'that can start there, but got {type(batch_sampler).__name__}; set '
                f"train_dataloader.batch_sampler=dict(type='ClipBatchSampler')"
            )
            raise TypeError(msg)
        batch_sampler.start_at(num_batches)

    def _stop_requested(self) -> bool:
        """Whether a stop was requested on any process; the same on all processes."""
        flag = torch.tensor(int(self.stop_training))
        all_reduce(flag, op='max')
        self.stop_training = bool(flag.item())
        return self.stop_training

    def _validate_if_due(self) -> None:
        """Validate after an epoch, unless it is not due or was already done."""
        self._decide_current_val_interval()
        val_loop, hub = self.runner.val_loop, self.runner.message_hub
        if val_loop is None or self._epoch < self.val_begin:
            return
        is_last = self._epoch == self._max_epochs
        is_done = hub.get_info('epochs_validated', 0) == self._epoch
        if is_done or not (is_last or self._epoch % self.val_interval == 0):
            return
        # Before the validation, so that checkpoints written at its end contain it.
        hub.update_info('epochs_validated', self._epoch)
        val_loop.run()


def _per_step(clips: list[int] | None) -> str:
    """Number of clips per step for a message, if it is known."""
    return f', {" or ".join(map(str, clips))} clips to a step' if clips else ''


class _EvaluationLoop:
    """Carries a changed ``data_root`` to the datasets of an evaluation loop."""

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        evaluator: Evaluator | dict[str, Any] | list[Any],
        fp16: bool = False,
    ) -> None:
        apply_runner_data_root(runner)
        super().__init__(runner, dataloader, evaluator, fp16)  # type: ignore[call-arg]  # MMEngine's


@LOOPS.register_module()
class ClipValLoop(_EvaluationLoop, ValLoop):
    """MMEngine's ``ValLoop``; a changed ``data_root`` reaches its datasets."""


@LOOPS.register_module()
class ClipTestLoop(_EvaluationLoop, TestLoop):
    """MMEngine's ``TestLoop``; a changed ``data_root`` reaches its datasets."""
