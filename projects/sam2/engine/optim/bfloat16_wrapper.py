"""Mixed precision that needs neither a GPU nor a scaled loss."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn

__all__ = ['SAM2BFloat16OptimWrapper']


@OPTIM_WRAPPERS.register_module()
class SAM2BFloat16OptimWrapper(OptimWrapper):
    """An ``OptimWrapper`` whose forward pass runs in bfloat16 autocast.

    bfloat16 has the range of float32: gradients need no loss scaling. Accumulation
    and clipping are the parent's, and so are the arguments.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Cast operations to bfloat16, and reduce gradients only before a step.

        Args:
            model: The model that is trained, wrapped or not.

        Yields:
            Nothing; the forward pass runs inside.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
