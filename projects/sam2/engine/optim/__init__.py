"""Rates for each layer, and bfloat16 on any device."""

from projects.sam2.engine.optim.bfloat16_wrapper import SAM2BFloat16OptimWrapper
from projects.sam2.engine.optim.optim_constructor import SAM2OptimWrapperConstructor

__all__ = ['SAM2BFloat16OptimWrapper', 'SAM2OptimWrapperConstructor']
