"""Rates for each layer, bfloat16 on any device, and no step without a finite loss."""

from projects.sam2.engine.optim.bfloat16_wrapper import SAM2BFloat16OptimWrapper
from projects.sam2.engine.optim.finite_guard import FiniteGuard, NonFiniteLossError
from projects.sam2.engine.optim.optim_constructor import SAM2OptimWrapperConstructor

__all__ = [
    'FiniteGuard',
    'NonFiniteLossError',
    'SAM2BFloat16OptimWrapper',
    'SAM2OptimWrapperConstructor',
]
