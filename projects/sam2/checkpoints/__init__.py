"""Checkpoints: names of weights, reading, checking and writing them.

Importing this package puts our readers in place of MMEngine's own: they read the same
addresses and files, further kinds of checkpoints, and run nothing that a file holds.
"""

from projects.sam2.checkpoints.adapters import (
    ADAPTER_FIELD,
    adapter_weights_of,
    fit_adapters,
    is_adapter_key,
    to_plain_key,
)
from projects.sam2.checkpoints.checking import (
    CheckpointMismatchError,
    ModelKind,
    check_weights,
    recognise_model,
    weights_of,
)
from projects.sam2.checkpoints.files import load_file
from projects.sam2.checkpoints.foreign_files import CheckpointFileError
from projects.sam2.checkpoints.huggingface_config import huggingface_config
from projects.sam2.checkpoints.key_map import (
    UnknownKeyError,
    from_huggingface,
    from_released,
    map_from_huggingface,
    map_from_released,
    map_to_huggingface,
    map_to_released,
    to_huggingface,
    to_released,
)
from projects.sam2.checkpoints.parts import part_weights
from projects.sam2.checkpoints.reading import (
    SOURCE_FIELD,
    TRAINED_FIELD,
    read_checkpoint,
    read_checkpoint_url,
)
from projects.sam2.checkpoints.writing import CheckpointKind, write_checkpoint

__all__ = [
    'ADAPTER_FIELD',
    'SOURCE_FIELD',
    'TRAINED_FIELD',
    'CheckpointFileError',
    'CheckpointKind',
    'CheckpointMismatchError',
    'ModelKind',
    'UnknownKeyError',
    'adapter_weights_of',
    'check_weights',
    'fit_adapters',
    'from_huggingface',
    'from_released',
    'huggingface_config',
    'is_adapter_key',
    'load_file',
    'map_from_huggingface',
    'map_from_released',
    'map_to_huggingface',
    'map_to_released',
    'part_weights',
    'read_checkpoint',
    'read_checkpoint_url',
    'recognise_model',
    'to_huggingface',
    'to_plain_key',
    'to_released',
    'weights_of',
    'write_checkpoint',
]
