"""SAM 2 and SAM 2.1 for MMEngine; importing it registers every part."""

from .installation import install_other_name

install_other_name()

from . import (  # noqa: E402  the modules may be imported by either name
    apis,
    checkpoints,
    datasets,
    engine,
    evaluation,
    losses,
    models,
    registration,
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
    'registration',
    'visualization',
]
