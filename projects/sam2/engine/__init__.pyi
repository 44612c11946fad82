from . import hooks, loops, optim, samplers
from .files import SAM2AtomicBackend

__all__ = [
    'SAM2AtomicBackend',
    'hooks',
    'loops',
    'optim',
    'samplers',
]
