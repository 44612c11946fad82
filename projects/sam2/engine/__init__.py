"""How training runs: samplers, loop, hooks, optimizer, launching."""

from projects.sam2.engine import hooks, loops, optim, samplers
from projects.sam2.engine.file_backend import SAM2AtomicBackend
from projects.sam2.engine.sharding import SAM2FullySharded

__all__ = [
    'SAM2AtomicBackend',
    'SAM2FullySharded',
    'hooks',
    'loops',
    'optim',
    'samplers',
]
