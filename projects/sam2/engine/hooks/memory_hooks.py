"""Reduces the memory and the traffic of training, at the cost of time or precision."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
)
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from ..distributed import unwrap_model


@HOOKS.register_module()
class SAM2LowMemoryHook(Hook):
    """Turns on activation checkpointing of parts (Chen et al., 2016), and chunking.

    A checkpointed part keeps only its inputs for the backward pass and recomputes the
    rest there. Results and gradients do not change.

    Args:
        parts: Parts that are checkpointed as a whole, such as
            ``image_encoder.backbone``, ``tracker.memory_attention``,
            ``tracker.memory_encoder`` and ``mask_decoder``. They become the
            ``activation_checkpointing`` of the model. Without parts, the model keeps
            its own setting.
        frames_at_once: Number of frames that the image encoder processes at a time;
            None for all. If the backbone is checkpointed, its peak memory depends on
            this number only.
        objects_at_once: Number of objects of a batch that are tracked at a time; None
            for all. The backward pass of a group runs before the next group starts, so
            the memory of the tracker does not grow with the number of objects. Not for
            float16.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        *,
        parts: Sequence[str] = (),
        frames_at_once: int | None = None,
        objects_at_once: int | None = None,
    ) -> None:
        for name, number in (
            ('frames_at_once', frames_at_once),
            ('objects_at_once', objects_at_once),
        ):
            if number is not None and (not isinstance(number, int) or number < 1):
                msg = f'{name} is {number!r}; give a number of at least 1, or None'
                raise ValueError(msg)
        self.parts = tuple(parts)
        self.frames_at_once = frames_at_once
        self.objects_at_once = objects_at_once

    def before_train(self, runner: Runner) -> None:
        """Apply the settings to the model."""
        if self.objects_at_once is not None and _scales_losses(runner.optim_wrapper):
            msg = (
                'objects_at_once does not work with float16; set '
                "optim_wrapper.type='SAM2BFloat16OptimWrapper'"
            )
            raise ValueError(msg)
        self.apply(unwrap_model(runner.model))

    def apply(self, model: nn.Module) -> None:
        """Apply the settings to a model without a runner.

        Raises:
            ValueError: If the model has no such part, or is no SAM 2.
        """
        if self.parts and not hasattr(model, 'set_activation_checkpointing'):
            msg = (
                f'{type(model).__name__} cannot recompute {", ".join(self.parts)}: '
                f'parts of SAM2LowMemoryHook are those of a SAM2; set with_cp=True of '
                f'the backbone in the config of the model'
            )
            raise ValueError(msg)
        if self.parts:
            model.set_activation_checkpointing(self.parts)  # type: ignore[operator]
        # torch's typing takes these attributes for modules.
        if self.frames_at_once is not None:
            model.get_submodule('image_encoder').frames_at_once = self.frames_at_once  # type: ignore[assignment]
        if self.objects_at_once is not None:
            model.objects_at_once = self.objects_at_once  # type: ignore[assignment]


def _scales_losses(wrapper: object) -> bool:
    """Whether a wrapper scales losses for gradients in float16."""
    dtype = getattr(wrapper, 'cast_dtype', None)
    # The default of AmpOptimWrapper on a GPU is float16.
    return hasattr(wrapper, 'loss_scaler') and dtype in (None, torch.float16)


@HOOKS.register_module()
class SAM2GradientCompressionHook(Hook):
    """Lets DDP exchange gradients in bfloat16; weights and steps stay in float32.

    It has no effect on a run of one process.
    """

    def before_train(self, runner: Runner) -> None:
        """Register the compression."""
        if not runner.distributed:
            return
        if not isinstance(runner.model, DistributedDataParallel):
            msg = (
                f'SAM2GradientCompressionHook needs MMDistributedDataParallel, but the '
                f'model is in {type(runner.model).__name__}; remove the hook'
            )
            raise TypeError(msg)
        runner.model.register_comm_hook(None, _average)


# Without NCCL, DDP refuses torch's hook by its name, although gloo supports bfloat16.
def _average(
    _: object,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # torch has it
) -> Future[Tensor]:
    """Average a bucket of gradients over all processes."""
    all_processes: Any = None
    averaged: Future[Tensor] = bf16_compress_hook(all_processes, bucket)
    return averaged
