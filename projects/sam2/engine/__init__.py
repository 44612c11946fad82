"""How training runs: samplers, loop, hooks, optimizer, launching."""

from projects.sam2.engine import hooks, loops, optim, samplers
from projects.sam2.engine.file_backend import SAM2AtomicBackend

__all__ = [
    'SAM2AtomicBackend',
    'hooks',
    'loops',
    'optim',
    'samplers',
]
