"""Keeps constant tensors from one call to the next."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch

__all__ = ['cached_constant']

P = ParamSpec('P')
R = TypeVar('R')

CACHE_SIZE = 16  # sizes and devices in use at a time; the oldest one makes room


def cached_constant(build: Callable[P, R]) -> Callable[P, R]:
    """Remember what a function of hashable arguments builds.

    Kept outside the modules, the tensors are in no state dict, no copy of a module
    and no broadcast between ranks. Callers must not write into them.

    Args:
        build: Makes constant tensors without a graph.

    Returns:
        A function that builds once for the same arguments.
    """
    remembered = cast('Callable[P, R]', lru_cache(maxsize=CACHE_SIZE)(build))

    @wraps(build)
    def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            # A traced tensor must not outlive its trace.
            return build(*args, **kwargs)
        # A tensor made in inference mode could never be part of a later graph.
        with torch.inference_mode(mode=False), torch.no_grad():
            return remembered(*args, **kwargs)

    return look_up
