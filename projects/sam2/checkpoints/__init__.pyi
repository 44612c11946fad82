from .adapters import (
    ADAPTER_FIELD,
    adapter_weights_of,
    fit_adapters,
    is_adapter_key,
    to_plain_key,
)
from .checking import (
    CheckpointMismatchError,
    ModelKind,
    check_weights,
    list_keys,
    part_weights,
    recognise_model,
    weights_below,
    weights_of,
)
from .files import CheckpointFileError, load_file
from .key_map import (
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
from .reading import (
    SOURCE_FIELD,
    TRAINED_FIELD,
    read_checkpoint,
    read_checkpoint_url,
)
from .writing import (
    CheckpointKind,
    huggingface_config,
    write_checkpoint,
)

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
    'list_keys',
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
    'weights_below',
    'weights_of',
    'write_checkpoint',
]
