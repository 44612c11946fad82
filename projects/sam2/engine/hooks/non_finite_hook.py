"""Writes down batches whose loss is not finite, and stops when they are too many."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...structures import ClipSample
from ..files import SAM2AtomicBackend
from ..optim import NonFiniteLossError

FOLDER = 'non_finite'
COUNT = 'num_non_finite'  # in the message hub, hence in checkpoints

__all__ = ['ClipNonFiniteHook']


@runtime_checkable
class PlansPrompts(Protocol):
    """What the hook asks of a model's prompt simulator."""

    def plan(self, num_frames: int, step: int, seed: int) -> Any:
        """Say which frames are prompted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBatch:
    """A batch whose loss or gradient was not finite.

    Attributes:
        clips: As the loader gave them.
        losses: Terms of the loss, by name.
    """

    clips: tuple[ClipSample, ...]
    losses: dict[str, float]


@HOOKS.register_module()
class ClipNonFiniteHook(Hook):
    """Lets a run survive a few losses that are not finite.

    With this hook ``ClipTrainLoop`` takes no step with such a batch, on any process.
    Each process whose own loss was bad, and each one where the gradient was, writes
    ``<work_dir>/non_finite/iter_<n>_rank_<r>.json``: the terms of the loss, and
    videos, frames, objects, seeds and prompts of the batch.

    Args:
        max_consecutive: Bad batches in a row after which the run stops: the weights
            themselves are then at fault.
        max_total: Bad batches of a whole run, resumed or not, after which it stops.
    """

    # Before the hook that writes checkpoints.
    priority = 'NORMAL'

    def __init__(self, *, max_consecutive: int = 5, max_total: int = 100) -> None:
        if min(max_consecutive, max_total) < 1:
            msg = (
                f'max_consecutive={max_consecutive} and max_total={max_total}: give '
                f'positive numbers, 1 to stop at the first bad batch'
            )
            raise ValueError(msg)
        self.max_consecutive = max_consecutive
        self.max_total = max_total
        self._in_a_row = 0
        self._last = -1

    def after_bad_batch(
        self,
        runner: Runner,
        data_batch: Any,
        outputs: dict[str, Any],
        *,
        is_own: bool,
    ) -> None:
        """Write a bad batch down and count it; called on all processes alike."""
        hub = runner.message_hub
        total = int(hub.get_info(COUNT, 0)) + 1
        hub.update_info(COUNT, total)
        self._in_a_row = self._in_a_row + 1 if self._last == runner.iter - 1 else 1
        self._last = runner.iter
        folder = Path(runner.work_dir) / FOLDER
        if is_own:
            batch = BadBatch(
                clips=tuple(_clips(data_batch)),
                losses={
                    name: torch.as_tensor(value).detach().item()
                    for name, value in outputs.items()
                },
            )
            _write(runner, batch, folder)
        # One text for each: MMEngine's logger drops warnings with a format that it saw.
        warning = (
            f'The loss or gradient of iteration {runner.iter + 1} is not finite: no '
            f'step was taken ({self._in_a_row} in a row, {total} in all). The batch is '
            f'written down in {folder}'
        )
        runner.logger.warning(warning)
        if self._in_a_row >= self.max_consecutive or total >= self.max_total:
            msg = (
                f'{self._in_a_row} losses in a row and {total} in all were not finite, '
                f'the last one at iteration {runner.iter + 1}; the limits are '
                f'max_consecutive={self.max_consecutive} and '
                f'max_total={self.max_total} of ClipNonFiniteHook. Look at the batches '
                f'in {folder}; go on from an earlier checkpoint, or start a new run '
                f'with a lower learning rate from its weights (load_from=<checkpoint>)'
            )
            raise NonFiniteLossError(msg)


def _clips(data_batch: object) -> list[ClipSample]:
    """The clips of a batch; none where it is of another kind."""
    samples = data_batch if isinstance(data_batch, list | tuple) else ()
    return [sample for sample in samples if isinstance(sample, ClipSample)]


def _write(runner: Runner, batch: BadBatch, folder: Path) -> None:
    """Write what is known of a bad batch."""
    record = {
        'iteration': runner.iter + 1,
        'epoch': runner.epoch + 1,
        'rank': get_rank(),
        # JSON has no number for these.
        'losses': {name: repr(value) for name, value in batch.losses.items()},
        'clips': [_description(clip) for clip in batch.clips],
        'prompts': _prompts(runner, batch.clips),
    }
    path = folder / f'iter_{runner.iter + 1}_rank_{get_rank()}.json'
    try:
        SAM2AtomicBackend().put_text(json.dumps(record, indent=2), path)
    except OSError as error:
        # Other processes go on; this one must, too.
        runner.logger.error('%s could not be written: %s', path, error)  # noqa: TRY400


def _description(clip: ClipSample) -> dict[str, Any]:
    """Which clip it is."""
    return {
        'video': clip.video_name,
        'sample_index': int(clip.sample_index),
        'frames': [int(index) for index in clip.frame_indices],
        'annotated': clip.annotated.tolist(),
        'object_ids': clip.object_ids.tolist(),
        'seed_of_clicks': int(clip.seed),
    }


def _prompts(runner: Runner, clips: tuple[ClipSample, ...]) -> dict[str, Any]:
    """Which frames of the clips were prompted, and how."""
    model: Any = runner.model
    bare = model.module if is_model_wrapper(model) else model
    simulator = getattr(bare, 'prompt_simulator', None)
    if not clips or not isinstance(simulator, PlansPrompts):
        return {}
    hub = runner.message_hub
    # As the model asked.
    plan = simulator.plan(
        len(clips[0].frames), step=hub.get_info('iter', 0), seed=hub.get_info('seed', 0)
    )
    plan = plan.where_annotated(ClipSample.frames_annotated_in_all(clips))
    return {
        'first': {str(frame): kind.value for frame, kind in plan.prompts.items()},
        'corrected_frames': sorted(plan.correction_frames),
        'conditioning_frames': sorted(plan.conditioning_frames),
    }
