"""Models and checkpoints for the tests of the way from and to other projects."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from golden_models import golden_model, tiny_config
from projects.sam2.checkpoints import CheckpointKind, write_checkpoint
from projects.sam2.models import SAM2

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SIZES = ('tiny', 'small', 'bplus', 'large')
VERSIONS = ('2.0', '2.1')
RELEASED_MODELS = [
    pytest.param(f'_base_/models/sam{version.replace(".", "_")}_{size}.py', id=name)
    for version in VERSIONS
    for size in SIZES
    for name in [f'{version}-{size}']
]
SALT = 'v17'
# transformers has 64 channels of memory written in; pointers are two tokens then.
EMBED_DIMS = 128
MEMORY_DIMS = 64
DIMS = {'embed_dims': EMBED_DIMS, 'memory_dims': MEMORY_DIMS}
SMALL: dict[str, dict[str, Any]] = {
    'image_encoder__neck': {'out_channels': EMBED_DIMS},
    'tracker__memory_attention': DIMS,
    'tracker__memory_encoder': DIMS,
    'tracker__object_pointer': DIMS,
    'prompt_encoder': {'embed_dims': EMBED_DIMS},
    'mask_decoder': {'embed_dims': EMBED_DIMS, 'mlp_dims': 256},
}
BEFORE_2_1: dict[str, dict[str, Any]] = {
    'tracker': {'no_object_embedding': False},
    'tracker__object_pointer': {**DIMS, 'time_encoding': 'none'},
}


def released_config(name: str) -> ConfigDict:
    """Config of a released model, by its path within ``configs/``."""
    model: ConfigDict = Config.fromfile(CONFIGS / name).model
    return model


def meta_model(name: str) -> nn.Module:
    """A released model without memory for its weights.

    Losses and accumulators hold no weights, so they are left out.
    """
    config = released_config(name)
    config.update(loss=None, accumulators=[])
    with torch.device('meta'):
        built: nn.Module = MODELS.build(config)
    return built


def shapes_of(state: nn.Module | dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each weight."""
    weights = state.state_dict() if isinstance(state, nn.Module) else state
    return {key: tuple(value.shape) for key, value in weights.items()}


def small_changes(version: str) -> dict[str, dict[str, Any]]:
    """What makes the golden model one that transformers can build."""
    return SMALL | (BEFORE_2_1 if version == '2.0' else {})


def small_config(version: str = '2.1') -> dict[str, Any]:
    """Config of a small model that transformers can build."""
    return tiny_config(**small_changes(version))


def small_model(version: str = '2.1', object_score: float = 0.0) -> SAM2:
    """A small model with golden weights.

    Args:
        version: ``'2.0'`` or ``'2.1'``.
    """
    model = golden_model(SALT, **small_changes(version))
    with torch.no_grad():
        last = model.mask_decoder.object_score_head.layers[-1]
        last.bias += object_score
    return model


def config_file(folder: Path, model: dict[str, Any]) -> str:
    """Write a config with a model alone."""
    path = folder / 'model_config.py'
    Config({'model': model}).dump(path)
    return str(path)


def write_small(target: Path, kind: str, model: SAM2) -> None:
    """Write a small model of 2.1."""
    write_checkpoint(
        target, model.state_dict(), CheckpointKind(kind), small_config('2.1')
    )


def assert_same_weights(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Fail where weights differ in name, type or any bit."""
    assert given.keys() == wanted.keys()
    for key, value in wanted.items():
        assert given[key].dtype == value.dtype, key
        assert torch.equal(given[key], value), key
