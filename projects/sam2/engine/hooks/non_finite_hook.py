"""Records batches whose loss or gradient is not finite, and stops after too many."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ...structures import ClipSample
from ..distributed import unwrap_model
from ..files import SAM2AtomicBackend
from ..optim import FiniteGuard, NonFiniteLossError
from .diagnostics_hook import logs_after

FOLDER = 'non_finite'
COUNT = 'num_non_finite'  # in the message hub, hence in checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class UncheckedBatch:
    """A batch whose flags were not read from the device yet.

    Attributes:
        iteration: Index of the training iteration.
        record: What is written if the batch is bad, without the losses.
        losses: Terms of the loss, scalars on the device.
        flags: Whether it was bad on any process and on this one, (2,), bool.
    """

    iteration: int
    record: dict[str, Any]
    losses: dict[str, Tensor]
    flags: Tensor


@HOOKS.register_module()
class ClipNonFiniteHook(Hook):
    """Lets a run survive a few losses that are not finite.

    With this hook ``ClipTrainLoop`` takes no optimizer step with such a batch, on any
    process. Each process with such a loss, and all of them if it is the gradient, write
    ``<work_dir>/non_finite/iter_<n>_rank_<r>.json``: the terms of the loss, and
    videos, frames, objects, seeds and prompts of the batch (of a model of mmdetection
    or mmsegmentation, the paths of its images). A GPU is read only when the
    losses are logged, so a record, or the end of the run, may be delayed until then.

    Args:
        max_consecutive: Bad batches in a row after which the run stops: then the
            weights themselves are at fault.
        max_total: Bad batches of a whole run, resumed or not, after which it stops.
    """

    priority = 'NORMAL'  # before the hook that writes checkpoints

    def __init__(self, *, max_consecutive: int = 5, max_total: int = 100) -> None:
        if min(max_consecutive, max_total) < 1:
            msg = (
                f'max_consecutive={max_consecutive} and max_total={max_total}: give '
                f'positive numbers, 1 to stop at the first bad batch'
            )
            raise ValueError(msg)
        self.max_consecutive = max_consecutive
        self.max_total = max_total
        self._num_consecutive = 0
        self._last_iteration = -1
        self._unchecked: list[UncheckedBatch] = []

    def after_guarded_batch(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any,
        outputs: dict[str, Any],
        guard: FiniteGuard,
    ) -> None:
        """Check the batch: at once on a CPU, when losses are logged on a GPU."""
        on_cpu = guard.is_bad.device.type == 'cpu'
        if on_cpu and not guard.is_bad:
            return
        self._unchecked.append(
            UncheckedBatch(
                iteration=runner.iter,
                record=_describe(runner, data_batch),
                losses={
                    name: torch.as_tensor(value).detach()
                    for name, value in outputs.items()
                },
                flags=torch.stack([guard.is_bad, guard.is_own]),
            )
        )
        if on_cpu or logs_after(runner, batch_idx):
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check what is left, before a checkpoint is written."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        """Read the flags, and record and count the batches that were bad."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked:
            return
        flags = torch.stack([batch.flags for batch in unchecked]).tolist()
        for batch, (is_bad, is_own) in zip(unchecked, flags, strict=True):
            if is_own:
                _write(runner, batch)
            if is_bad:
                self._count(runner, batch.iteration)

    def _count(self, runner: Runner, iteration: int) -> None:
        hub, folder = runner.message_hub, Path(runner.work_dir) / FOLDER
        total = int(hub.get_info(COUNT, 0)) + 1
        hub.update_info(COUNT, total)
        is_next = self._last_iteration == iteration - 1
        self._num_consecutive = self._num_consecutive + 1 if is_next else 1
        self._last_iteration = iteration
        # Formatted here: MMEngine's logger drops warnings with a known format string.
        warning = (
            f'The loss or gradient of iteration {iteration + 1} is not finite: the '
            f'step was skipped ({self._num_consecutive} in a row, {total} in all). The '
            f'batch is recorded in {folder}'
        )
        runner.logger.warning(warning)
        if self._num_consecutive >= self.max_consecutive or total >= self.max_total:
            msg = (
                f'{self._num_consecutive} losses in a row and {total} in all were not '
                f'finite, the last one at iteration {iteration + 1}; the limits are '
                f'max_consecutive={self.max_consecutive} and '
                f'max_total={self.max_total} of ClipNonFiniteHook. Look at the batches '
                f'in {folder}; resume from an earlier checkpoint, or start a new run '
                f'with a lower learning rate from its weights (load_from=<checkpoint>)'
            )
            raise NonFiniteLossError(msg)


def _write(runner: Runner, batch: UncheckedBatch) -> None:
    """Write the record of a bad batch."""
    # As text: JSON has no number for NaN and infinity.
    losses = {name: repr(value.item()) for name, value in batch.losses.items()}
    name = f'iter_{batch.iteration + 1}_rank_{get_rank()}.json'
    path = Path(runner.work_dir) / FOLDER / name
    try:
        text = json.dumps({**batch.record, 'losses': losses}, indent=2)
        SAM2AtomicBackend().put_text(text, path)
    except OSError as error:
        # This process must go on, as the others do.
        runner.logger.error('%s could not be written: %s', path, error)  # noqa: TRY400


def _describe(runner: Runner, data_batch: object) -> dict[str, Any]:
    """Describe a batch; clips and prompts are empty if it contains no clips."""
    samples = data_batch if isinstance(data_batch, list | tuple) else ()
    # Of mmdetection and mmsegmentation.
    images = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else ()
    clips = [sample for sample in samples if isinstance(sample, ClipSample)]
    return {
        'iteration': runner.iter + 1,
        'epoch': runner.epoch + 1,
        'rank': get_rank(),
        'clips': [
            {
                'video': clip.video_name,
                'sample_index': int(clip.sample_index),
                'frames': [int(index) for index in clip.frame_indices],
                'annotated': clip.annotated.tolist(),
                'object_ids': clip.object_ids.tolist(),
                'seed_of_clicks': int(clip.seed),
            }
            for clip in clips
        ],
        'prompts': _prompts(runner, clips),
        'images': [str(getattr(each, 'img_path', '')) for each in images or ()],
    }


def _prompts(runner: Runner, clips: list[ClipSample]) -> dict[str, Any]:
    """Which frames of the clips were prompted, and how."""
    simulator: Any = getattr(unwrap_model(runner.model), 'prompt_simulator', None)
    if not clips or not hasattr(simulator, 'plan'):
        return {}
    hub = runner.message_hub
    step, seed = hub.get_info('iter', 0), hub.get_info('seed', 0)  # as in SAM2.loss
    plan = simulator.plan(len(clips[0].frames), step=step, seed=seed)
    plan = plan.where_annotated(ClipSample.frames_annotated_in_all(clips))
    return {
        'first': {str(frame): kind.value for frame, kind in plan.prompts.items()},
        'corrected_frames': sorted(plan.correction_frames),
        'conditioning_frames': sorted(plan.conditioning_frames),
    }
