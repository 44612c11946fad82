"""Sums up the terms of the loss by kind of step and by frame, on the device."""

import resource
from collections.abc import Mapping, Sequence, Sized
from time import perf_counter
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...structures import DecoderStep, FrameOutput


def kind_of_step(step: DecoderStep, index: int) -> str:
    """Name what led to an answer of the model.

    Returns:
        ``'mask'``, ``'points'`` (a box among them), ``'tracked'``, or ``'corrected'``
        by a click on an answer before.
    """
    if index:
        return 'corrected'
    if step.full_logits is not None:
        return 'mask'
    return 'tracked' if step.points is None else 'points'


class LossParts:
    """Means of what :class:`SAM2MultiStepLoss` tells of its steps, per object."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._terms: tuple[str, ...] = ()

    def add(self, output: FrameOutput, steps: Sequence[Mapping[str, Tensor]]) -> None:
        """Take note of a frame; nothing is waited for."""
        for index, (step, terms) in enumerate(zip(output.steps, steps, strict=True)):
            self._terms = tuple(terms)
            values = torch.stack([terms[name].detach() for name in self._terms])
            kind = kind_of_step(step, index)
            for key in (('step', kind), ('frame', f'{output.frame_index:02}')):
                earlier = self._sums.get(key)
                self._sums[key] = values if earlier is None else earlier + values
                # Groups of objects differ in size, as clips do.
                number = len(step.mask_logits)
                self._counts[key] = self._counts.get(key, 0) + number

    def take(self) -> dict[str, float]:
        """Read the means and begin anew; the device is waited for once.

        Returns:
            ``step/<kind>/<term>`` and ``frame/<index>/<term>``.
        """
        keys = list(self._sums)
        if not keys:
            return {}
        sums = torch.stack([self._sums[key] for key in keys]).tolist()
        means = {
            f'{by}/{which}/{name}': value / self._counts[by, which]
            for (by, which), row in zip(keys, sums, strict=True)
            for name, value in zip(self._terms, row, strict=True)
        }
        self._sums, self._counts = {}, {}
        return means


# Parts whose gradients are measured apart; all else is `other`.
PARTS = (
    'image_encoder.backbone',
    'image_encoder.neck',
    'tracker.memory_attention',
    'tracker.memory_encoder',
    'prompt_encoder',
    'mask_decoder',
)
OTHER = 'other'
MEGABYTE = 2**20
KILOBYTE = 2**10


@HOOKS.register_module()
class ClipDiagnosticsHook(Hook):
    """Logs what is behind the loss and the time of a step.

    - ``step_<kind>``: the loss of a step per object since the last log, by what led to
      it: ``mask``, ``points``, ``tracked`` and ``corrected``, as far as they occurred.
    - ``gradient_<part>``: norms of the gradients by part, before they are clipped.
    - ``samples_per_second``, of all processes; ``data_share`` of the time that is spent
      waiting for data; ``peak_megabytes`` of the GPU, or else of the process.

    The visualizer's backends (TensorBoard, ``scalars.json``) get the terms of the loss
    for each kind of step and each frame as well. All is of the first process. It is
    logged whenever ``LoggerHook`` logs; in between nothing waits for the device.
    """

    priority = 'NORMAL'  # before the hook that logs

    def __init__(self) -> None:
        self._logger = LoggerHook()
        self._losses = LossParts()
        self._norms: dict[str, Tensor] = {}
        self._batch = 0
        self._num_clips = 0
        self._since = 0.0

    def before_train(self, runner: Runner) -> None:
        """Begin to listen to the loss and to the optimizer."""
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                self._logger = hook
        bare: Any = runner.model
        bare = bare.module if is_model_wrapper(bare) else bare
        _say_what_is_trained(runner, bare)
        loss: Any = getattr(bare, 'loss_module', None)
        if hasattr(loss, 'observer'):
            loss.observer = self._losses.add
        wrapper: Any = runner.optim_wrapper
        counts = getattr(wrapper, '_accumulative_counts', 1)

        def before_step(*_: object) -> None:
            batches = range(self._batch, self._batch + counts)
            if any(self._is_logged(runner, batch) for batch in batches):
                self._norms = gradient_norms(bare)

        if isinstance(getattr(wrapper, 'optimizer', None), torch.optim.Optimizer):
            wrapper.optimizer.register_step_pre_hook(before_step)

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin to count anew: speed is that of training, without validation."""
        self._num_clips, self._since = 0, perf_counter()

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
    ) -> None:
        """Count the clips."""
        self._batch = batch_idx
        self._num_clips += len(data_batch) if isinstance(data_batch, Sized) else 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Log, when it is time."""
        if not self._is_logged(runner, batch_idx):
            return
        details = self._losses.take()
        for name in [*runner.message_hub.log_scalars]:
            # Or the last one would be shown until such a step comes again.
            if name.startswith('train/step_'):
                runner.message_hub.log_scalars.pop(name)
        brief = _totals(details) | self._gradients(runner) | self._costs(runner)
        for name, value in brief.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        if details:
            runner.visualizer.add_scalars(details, step=runner.iter + 1)

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether ``LoggerHook`` logs after this batch."""
        logger, num_batches = self._logger, len(runner.train_dataloader)
        if self.every_n_inner_iters(batch_idx, logger.interval):
            return True
        shows_rest = not logger.ignore_last or num_batches <= logger.interval
        return shows_rest and batch_idx + 1 == num_batches

    def _gradients(self, runner: Runner) -> dict[str, float]:
        """Norms of the last step's gradients, as they were before clipping."""
        norms, self._norms = self._norms, {}
        if not norms:
            return {}
        values = torch.stack(list(norms.values())).tolist()
        scalars, wrapper = runner.message_hub.log_scalars, runner.optim_wrapper
        scale, after = 1.0, sum(value**2 for value in values) ** 0.5
        if getattr(wrapper, 'clip_grad_kwargs', None) and 'train/grad_norm' in scalars:
            # Clipping shortens all by one factor.
            scale = scalars['train/grad_norm'].current() / max(after, 1e-30)
        return {
            # MMEngine would average what is called grad_norm over many logs.
            f'gradient_{part}': scale * value
            for part, value in zip(norms, values, strict=True)
        }

    def _costs(self, runner: Runner) -> dict[str, float]:
        """Speed and memory since the last log."""
        now = perf_counter()
        clips, self._num_clips = self._num_clips, 0
        passed, self._since = now - self._since, now
        found = {
            'samples_per_second': get_world_size() * clips / passed,
            'peak_megabytes': _peak_megabytes(),
        }
        scalars = runner.message_hub.log_scalars
        if 'train/data_time' in scalars and 'train/time' in scalars:
            waiting, whole_time = (
                scalars[f'train/{name}'].mean(self._logger.interval)
                for name in ('data_time', 'time')
            )
            found['data_share'] = float(waiting / whole_time)
        return found


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """Measure gradients by part."""
    found: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = next((one for one in PARTS if name.startswith(f'{one}.')), OTHER)
            norm = torch.linalg.vector_norm(parameter.grad.detach())
            found.setdefault(part.rpartition('.')[2], []).append(norm)
    return {
        part: torch.linalg.vector_norm(torch.stack(norms))
        for part, norms in found.items()
    }


def _say_what_is_trained(runner: Runner, model: nn.Module) -> None:
    """Log how much of a model is not frozen."""
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    whole_size = sum(size for size, _ in sizes)
    runner.logger.info(
        'Trained are %.3f of %.3f million parameters', trained / 1e6, whole_size / 1e6
    )


def _totals(details: dict[str, float]) -> dict[str, float]:
    """The loss of each kind of step, all terms together."""
    totals: dict[str, float] = {}
    for name, value in details.items():
        by, which, _ = name.split('/')
        if by == 'step':
            totals[f'step_{which}'] = totals.get(f'step_{which}', 0.0) + value
    return totals


def _peak_megabytes() -> float:
    """The most memory that was in use so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTE
