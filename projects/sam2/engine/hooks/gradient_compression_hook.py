"""Halves what processes tell each other of their gradients."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
)
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

__all__ = ['SAM2GradientCompressionHook']


@HOOKS.register_module()
class SAM2GradientCompressionHook(Hook):
    """Has DDP exchange gradients in bfloat16; weights and steps stay in float32.

    A run of one process exchanges nothing and is left alone.
    """

    def before_train(self, runner: Runner) -> None:
        """Switch it on.

        Args:
            runner: Holds the model.

        Raises:
            TypeError: If another wrapper than DDP exchanges the gradients.
        """
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
