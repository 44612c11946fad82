"""What training logs: losses by kind of step, gradients by part, speed and memory.

Nothing is read from the device between two logs, so training does not wait for a GPU.
"""

import math
import resource
from collections.abc import Mapping, Sequence, Sized
from time import perf_counter
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...structures import DecoderStep, FrameOutput
from ..distributed import unwrap_model

# Modules of SAM 2 whose gradients are measured separately; the rest is `other`.
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
    """Logs details of the loss, the gradients and the speed when ``LoggerHook`` logs.

    - ``step_<kind>``: mean loss of a decoder step per object since the last log, by the
      prompt of the step: ``mask``, ``points``, ``tracked`` (none) or ``corrected``.
    - ``gradient_<part>``: norms of the gradients by part, before they are clipped.
    - ``samples_per_second``, of all processes; ``data_share``, the fraction of the time
      spent waiting for data; ``peak_megabytes`` of the GPU, or else of the process.

    The visualizer's backends (TensorBoard, ``scalars.json``) also get the terms of the
    loss for each kind of step and each frame. All numbers but the speed are those of
    the first process.
    """

    priority = 'NORMAL'  # before the hook that logs

    def __init__(self) -> None:
        self._losses = LossParts()
        self._norms: dict[str, Tensor] = {}
        self._batch = 0
        self._num_clips = 0
        self._since = 0.0

    def before_train(self, runner: Runner) -> None:
        """Observe the loss and the optimizer."""
        model = unwrap_model(runner.model)
        _log_trained_parameters(runner, model)
        loss: Any = getattr(model, 'loss_module', None)
        if hasattr(loss, 'observer'):
            loss.observer = self._losses.add
        wrapper: Any = runner.optim_wrapper
        num_accumulated = getattr(wrapper, '_accumulative_counts', 1)

        def before_step(*_: object) -> None:
            batches = range(self._batch, self._batch + num_accumulated)
            if any(logs_after(runner, batch) for batch in batches):
                self._norms = gradient_norms(model)

        if isinstance(getattr(wrapper, 'optimizer', None), torch.optim.Optimizer):
            wrapper.optimizer.register_step_pre_hook(before_step)

    def before_train_epoch(self, runner: Runner) -> None:
        """Restart the clock: validation does not count as training time."""
        self._num_clips, self._since = 0, perf_counter()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Count the clips."""
        self._batch = batch_idx
        # Batches of mmdetection and mmsegmentation are dicts.
        if isinstance(data_batch, Mapping):
            data_batch = data_batch.get('inputs')
        self._num_clips += len(data_batch) if isinstance(data_batch, Sized) else 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Log, if ``LoggerHook`` does."""
        if not logs_after(runner, batch_idx):
            return
        hub = runner.message_hub
        details = self._losses.take()
        for name in [*hub.log_scalars]:
            # Kinds that did not occur since the last log must not be logged again.
            if name.startswith('train/step_'):
                hub.log_scalars.pop(name)
        brief = _totals(details) | self._gradients(runner) | self._costs(runner)
        for name, value in brief.items():
            hub.update_scalar(f'train/{name}', value)
        if details:
            runner.visualizer.add_scalars(details, step=runner.iter + 1)

    def _gradients(self, runner: Runner) -> dict[str, float]:
        """Norms of the last step's gradients, as they were before clipping."""
        norms, self._norms = self._norms, {}
        if not norms:
            return {}
        values = torch.stack(list(norms.values())).tolist()
        scalars, wrapper = runner.message_hub.log_scalars, runner.optim_wrapper
        scale, clipped = 1.0, sum(value**2 for value in values) ** 0.5
        if getattr(wrapper, 'clip_grad_kwargs', None) and 'train/grad_norm' in scalars:
            # Clipping has scaled all gradients by one factor.
            scale = scalars['train/grad_norm'].current() / max(clipped, 1e-30)
        return {
            # MMEngine would average what is called grad_norm over many logs.
            f'gradient_{part}': scale * value
            for part, value in zip(norms, values, strict=True)
        }

    def _costs(self, runner: Runner) -> dict[str, float]:
        """Speed and memory since the last log."""
        now = perf_counter()
        num_clips, self._num_clips = self._num_clips, 0
        seconds, self._since = now - self._since, now
        costs = {
            'samples_per_second': get_world_size() * num_clips / seconds,
            'peak_megabytes': _peak_megabytes(),
        }
        scalars = runner.message_hub.log_scalars
        if 'train/data_time' in scalars and 'train/time' in scalars:
            data_time, whole_time = (
                scalars[f'train/{name}'].mean(_logger(runner).interval)
                for name in ('data_time', 'time')
            )
            costs['data_share'] = float(data_time / whole_time)
        return costs


@HOOKS.register_module()
class SAM2RuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's hook, which reads the losses of a GPU only when they are logged.

    MMEngine reads each term in each iteration, and the host waits each time. The logged
    values are the same. With ``ClipNonFiniteHook`` batches that are not finite are
    left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unread: list[dict[str, Tensor]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Keep the terms of the loss until ``LoggerHook`` logs."""
        terms = {
            name: torch.as_tensor(value) for name, value in (outputs or {}).items()
        }
        self._unread.append(terms)
        on_cpu = all(value.device.type == 'cpu' for value in terms.values())
        if on_cpu or logs_after(runner, batch_idx):
            self._read(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Read what is left."""
        self._read(runner)

    def _read(self, runner: Runner) -> None:
        unread, self._unread = self._unread, []
        tensors = [
            value.detach().float() for terms in unread for value in terms.values()
        ]
        values = iter(torch.stack(tensors).tolist() if tensors else [])
        is_guarded = getattr(runner.train_loop, 'guard', None) is not None
        for terms in unread:
            scalars = dict(zip(terms, values, strict=False))
            if not is_guarded or all(map(math.isfinite, scalars.values())):
                for name, value in scalars.items():
                    runner.message_hub.update_scalar(f'train/{name}', value)


class LossParts:
    """Mean losses per object of :class:`SAM2MultiStepLoss`, by kind of step and frame.

    The sums stay on the device until they are read.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._terms: tuple[str, ...] = ()

    def add(self, output: FrameOutput, steps: Sequence[Mapping[str, Tensor]]) -> None:
        """Add the losses of the steps of a frame."""
        for index, (step, terms) in enumerate(zip(output.steps, steps, strict=True)):
            self._terms = tuple(terms)
            values = torch.stack([terms[name].detach() for name in self._terms])
            kind = kind_of_step(step, index)
            for key in (('step', kind), ('frame', f'{output.frame_index:02}')):
                total = self._sums.get(key)
                self._sums[key] = values if total is None else total + values
                # Clips and groups differ in their number of objects.
                num_objects = len(step.mask_logits)
                self._counts[key] = self._counts.get(key, 0) + num_objects

    def take(self) -> dict[str, float]:
        """Read the means and reset the sums; the device is read once.

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


def kind_of_step(step: DecoderStep, index: int) -> str:
    """Name the prompt of a decoder step.

    Returns:
        ``'mask'``, ``'points'`` (or a box), ``'tracked'`` (none), or ``'corrected'`` by
        a click after the first step.
    """
    if index:
        return 'corrected'
    if step.full_logits is not None:
        return 'mask'
    return 'tracked' if step.points is None else 'points'


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """Norms of the gradients by part, scalars on the device.

    The parts of a model that is no SAM 2 are its own modules: ``backbone``, ``neck``, …
    """
    children = dict(model.named_children())
    is_sam2 = any(part.partition('.')[0] in children for part in PARTS)
    parts = PARTS if is_sam2 else tuple(children)
    norms: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = next((part for part in parts if name.startswith(f'{part}.')), OTHER)
            norm = torch.linalg.vector_norm(parameter.grad.detach())
            norms.setdefault(part.rpartition('.')[2], []).append(norm)
    return {
        part: torch.linalg.vector_norm(torch.stack(of_part))
        for part, of_part in norms.items()
    }


def logs_after(runner: Runner, batch_idx: int, num_batches: int | None = None) -> bool:
    """Whether ``LoggerHook`` logs after a batch; only then is the device read.

    Args:
        num_batches: Length of the loader; by default that of the training loader, which
            a config that only tests does not have.
    """
    logger = _logger(runner)
    if num_batches is None:
        num_batches = len(runner.train_dataloader)
    if logger.every_n_inner_iters(batch_idx, logger.interval):
        return True
    logs_rest = not logger.ignore_last or num_batches <= logger.interval
    return logs_rest and batch_idx + 1 == num_batches


def _logger(runner: Runner) -> LoggerHook:
    loggers = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
    return next(loggers, None) or LoggerHook()


def _log_trained_parameters(runner: Runner, model: nn.Module) -> None:
    """Log how many parameters are not frozen."""
    parameters = [*model.parameters()]
    trained = sum(part.numel() for part in parameters if part.requires_grad)
    total = sum(part.numel() for part in parameters)
    runner.logger.info(
        'Training %.3f of %.3f million parameters', trained / 1e6, total / 1e6
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
    """The largest memory use so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTE
