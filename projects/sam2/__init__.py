"""SAM 2 and SAM 2.1 for MMEngine; importing it registers every part."""

from . import (
    apis,
    checkpoints,
    datasets,
    engine,
    evaluation,
    losses,
    models,
    visualization,
)

__all__ = [
    'apis',
    'checkpoints',
    'datasets',
    'engine',
    'evaluation',
    'losses',
    'models',
    'visualization',
]
