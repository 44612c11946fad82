"""The models that the golden data was made with, in our config, and their weights."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from mmengine.registry import MODELS
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from golden_cases import GoldenCase, fill, variant_weights
from projects.sam2 import models  # noqa: F401  registers the parts
from projects.sam2.apis import load_model_config
from projects.sam2.checkpoints import to_released
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


def released_keys(module: nn.Module, prefix: str) -> dict[str, str]:
    """For each key of a part's state dict, the released key.

    Args:
        prefix: Place of the part in the model, ``tracker.memory_encoder.``, say.
    """
    return {key: to_released(prefix + key) for key in module.state_dict()}


def fill_released(module: nn.Module, salt: str, prefix: str) -> None:
    """Fill a part of the model with golden weights and put it to evaluation mode."""
    fill(module.eval(), salt, released_keys(module, prefix))


def fill_variant(module: nn.Module, salt: str, prefix: str = '') -> None:
    """Fill a part of EdgeTAM or EfficientTAM likewise."""
    keys = released_keys(module, prefix)
    fill(module.eval(), salt, keys, generator=variant_weights())


def released_shapes(case: GoldenCase, prefix: str) -> dict[str, list[int]]:
    """Shapes of the weights of a released part; the test skips without them."""
    if 'state_dict' not in case.spec:
        pytest.skip(f'{case.name} lists no weights')
    return {
        key: entry['shape']
        for key, entry in case.spec['state_dict'].items()
        if key.startswith(prefix)
    }


def case_model(case: GoldenCase, **changes: Mapping[str, Any]) -> SAM2:
    """The model of a case: the small one, or the released size at 1024 px.

    Args:
        changes: As for ``tiny_config``, of the small model.
    """
    if not case.name.startswith('full_'):
        return golden_model(case.spec['salt'], **changes)
    model: SAM2 = MODELS.build(load_model_config('sam2.1_hiera_t').model).eval()
    keys = {key: to_released(key) for key in model.state_dict()}
    fill(model, case.spec['salt'], keys)
    return model


def case_image(case: GoldenCase, name: str) -> NDArray[np.uint8]:
    """An image beside a case."""
    with Image.open(case.path.with_name(f'{case.name}_{name}.png')) as image:
        return np.asarray(image.convert('RGB'))
