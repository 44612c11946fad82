"""Checkpoints: names of weights, reading them, checking them against a model.

Importing this package makes MMEngine read all checkpoints through
:func:`read_checkpoint`.
"""

from projects.sam2.checkpoints.checking import (
    CheckpointMismatchError,
    ModelKind,
    check_weights,
    recognise_model,
)
from projects.sam2.checkpoints.key_map import (
    UnknownKeyError,
    from_released,
    map_from_released,
    map_to_released,
    to_released,
)
from projects.sam2.checkpoints.reading import (
    SOURCE_FIELD,
    read_checkpoint,
    read_checkpoint_url,
)

__all__ = [
    'SOURCE_FIELD',
    'CheckpointMismatchError',
    'ModelKind',
    'UnknownKeyError',
    'check_weights',
    'from_released',
    'map_from_released',
    'map_to_released',
    'read_checkpoint',
    'read_checkpoint_url',
    'recognise_model',
    'to_released',
]
