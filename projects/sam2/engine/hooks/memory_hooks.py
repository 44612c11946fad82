"""Trades time for memory in training (Chen et al., 2016)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
)
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

RECOMPUTES = 'with_cp'
ENCODER = 'image_encoder'


@HOOKS.register_module()
class SAM2LowMemoryHook(Hook):
    """Switches activation checkpointing on, part by part.

    A part then keeps its inputs for the backward pass, and what it computed from them
    is computed again there. Results and gradients are the same.

    Args:
        parts: Names of modules of the model that know ``with_cp``, such as
            ``image_encoder.backbone``, ``tracker.memory_attention``,
            ``tracker.memory_encoder`` and ``mask_decoder``.
        frames_at_once: How many frames the image encoder takes at a time; None for
            all. With the backbone among the parts, its memory grows with these alone.
        objects_at_once: How many objects of a batch are tracked at a time; None for
            all. Each group is differentiated before the next one begins, so what the
            tracker keeps does not grow with the objects, at the cost of smaller
            batches alone. Not for sharded models, nor for float16.

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
        """Switch it on."""
        model = runner.model
        if self.objects_at_once is not None and _scales_losses(runner.optim_wrapper):
            msg = (
                'objects_at_once does not work with float16; set '
                "optim_wrapper.type='SAM2BFloat16OptimWrapper'"
            )
            raise ValueError(msg)
        self.apply(model.get_submodule('module') if is_model_wrapper(model) else model)

    def apply(self, model: nn.Module) -> None:
        """Switch it on in a model that no runner holds.

        Raises:
            ValueError: If the model has no such part.
        """
        able = {name: part for name, part in model.named_modules() if _can(part)}
        for name in self.parts:
            if name not in able:
                msg = f'{name!r} cannot compute twice; parts take some of {list(able)}'
                raise ValueError(msg)
            setattr(able[name], RECOMPUTES, True)
        # Attributes of ours, which torch's typing takes for modules.
        if self.frames_at_once is not None:
            model.get_submodule(ENCODER).frames_at_once = self.frames_at_once  # type: ignore[assignment]
        if self.objects_at_once is not None:
            model.objects_at_once = self.objects_at_once  # type: ignore[assignment]


def _can(part: nn.Module) -> bool:
    """Whether a module knows how to compute twice."""
    return hasattr(part, RECOMPUTES)


def _scales_losses(wrapper: object) -> bool:
    """Whether a wrapper scales losses for gradients in float16."""
    precision = getattr(wrapper, 'cast_dtype', None)
    # Without a type AmpOptimWrapper takes a GPU's own, which is float16.
    return hasattr(wrapper, 'loss_scaler') and precision in (None, torch.float16)


@HOOKS.register_module()
class SAM2GradientCompressionHook(Hook):
    """Has DDP exchange gradients in bfloat16; weights and steps stay in float32.

    A run of one process exchanges nothing and is left alone.
    """

    def before_train(self, runner: Runner) -> None:
        """Switch it on."""
        if not runner.distributed:
            return
        if not isinstance(runner.model, DistributedDataParallel):
            msg = (
                f'Gradients are compressed under MMDistributedDataParallel, but the '
                f'model is in {type(runner.model).__name__}; leave '
                f'SAM2GradientCompressionHook out'
            )
            raise TypeError(msg)
        runner.model.register_comm_hook(None, _exchange)


# DDP refuses torch's hook by its name where there is no NCCL; gloo knows bfloat16, too.
def _exchange(
    _: object,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # torch has it
) -> Future[Tensor]:
    """Average a bucket of gradients over all processes."""
    everybody: Any = None
    averaged: Future[Tensor] = bf16_compress_hook(everybody, bucket)
    return averaged
