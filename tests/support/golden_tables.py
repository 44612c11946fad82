"""Golden tables of optimizers, and the models that they were made of."""

from functools import lru_cache

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bridge_models import BEFORE_2_1, SIZES, VERSIONS, meta_model
from golden_cases import GoldenCase
from golden_models import MEMORY_DIMS, tiny_config
from projects.sam2.checkpoints import to_released

# The recipe's, where a table does not name its own.
BASE_LR, VISION_LR = 5e-6, 3e-6


@lru_cache(maxsize=1)
def known_models() -> list[nn.Module]:
    """The golden model and those of all released sizes, without storage."""
    before = BEFORE_2_1 | {
        'tracker__object_pointer': {
            'memory_dims': MEMORY_DIMS,
            'time_encoding': 'none',
        }
    }
    with torch.device('meta'):
        golden = [MODELS.build(tiny_config(**changes)) for changes in ({}, before)]
    released = [
        meta_model(f'_base_/models/sam{version.replace(".", "_")}_{size}.py')
        for version in VERSIONS
        for size in SIZES
    ]
    return [*golden, *released]


def model_of(case: GoldenCase) -> nn.Module:
    """The model that has exactly the parameters of a table; the test skips without one.

    Args:
        case: Its ``table`` has a row for each parameter, by its released name.
    """
    rows = set(case.spec['table'])
    for model in known_models():
        if {to_released(name) for name, _ in model.named_parameters()} == rows:
            return model
    return pytest.skip(
        f'{case.name} names {len(rows)} parameters; no model here has just these'
    )


def rates_of(case: GoldenCase) -> tuple[float, float]:
    """Learning rates of the model and of its image encoder."""
    return case.spec.get('base_lr', BASE_LR), case.spec.get('vision_lr', VISION_LR)
