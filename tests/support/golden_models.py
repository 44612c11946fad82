"""The small model that the golden data was made with, in our config's words."""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS

from golden_cases import fill
from projects.sam2 import models  # noqa: F401  registers the parts
from projects.sam2.checkpoints.key_map import to_released
from projects.sam2.models import SAM2

IMAGE_SIZE = 256
EMBED_DIMS = 64
MEMORY_DIMS = 16

TINY: dict[str, Any] = {
    'type': 'SAM2',
    'data_preprocessor': {
        'type': 'ClipDataPreprocessor',
        'image_size': (IMAGE_SIZE, IMAGE_SIZE),
    },
    'image_encoder': {
        'type': 'SAM2ImageEncoder',
        'backbone': {
            'type': 'Hiera',
            'embed_dims': 16,
            'num_heads': 1,
            'stages': (1, 2, 3, 2),
            'global_attention_blocks': (5,),
            'window_sizes': (8, 4, 14, 7),
            'position_embedding_size': (7, 7),
        },
        'neck': {
            'type': 'HieraFPN',
            'in_channels': (16, 32, 64, 128),
            'out_channels': EMBED_DIMS,
        },
    },
    'tracker': {
        'type': 'SAM2Tracker',
        'memory_attention': {
            'type': 'MemoryAttention',
            'embed_dims': EMBED_DIMS,
            'memory_dims': MEMORY_DIMS,
            'num_layers': 2,
            'feedforward_dims': 128,
            'dropout': 0.0,
        },
        'memory_encoder': {
            'type': 'MemoryEncoder',
            'embed_dims': EMBED_DIMS,
            'memory_dims': MEMORY_DIMS,
        },
        'memory_bank': {'type': 'MemoryBank'},
        'object_pointer': {
            'type': 'SAM2ObjectPointer',
            'embed_dims': EMBED_DIMS,
            'memory_dims': MEMORY_DIMS,
        },
    },
    'prompt_encoder': {'type': 'SAM2PromptEncoder', 'embed_dims': EMBED_DIMS},
    'mask_decoder': {'type': 'SAM2MaskDecoder', 'embed_dims': EMBED_DIMS},
    'prompt_simulator': {'type': 'SAM2PromptSimulator'},
    'loss': {'type': 'SAM2MultiStepLoss'},
}


def tiny_config(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """Config of the small model.

    Args:
        changes: For a part, by its dotted path with ``__``, arguments to set.
    """
    config = copy.deepcopy(TINY)
    for path, arguments in changes.items():
        part = config
        for name in path.split('__'):
            part = part.setdefault(name, {})
        part.update(arguments)
    return config


def golden_model(salt: str, **changes: Mapping[str, Any]) -> SAM2:
    """The small model with golden weights, in evaluation mode."""
    model: SAM2 = MODELS.build(tiny_config(**changes)).eval()
    fill(model, salt, {key: to_released(key) for key in model.state_dict()})
    return model
