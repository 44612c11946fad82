"""Golden weights for one part of the model."""

import pytest
from torch import nn

from golden_cases import GoldenCase, fill
from projects.sam2.checkpoints.key_map import to_released


def released_keys(module: nn.Module, prefix: str) -> dict[str, str]:
    """For each key of a part's state dict, the released key.

    Args:
        prefix: Place of the part in the model, ``tracker.memory_encoder.``, say.
    """
    return {key: to_released(prefix + key) for key in module.state_dict()}


def fill_released(module: nn.Module, salt: str, prefix: str) -> None:
    """Fill a part of the model with golden weights and put it to evaluation mode."""
    fill(module.eval(), salt, released_keys(module, prefix))


def released_shapes(case: GoldenCase, prefix: str) -> dict[str, list[int]]:
    """Shapes of the weights of a released part; the test skips without them."""
    if 'state_dict' not in case.spec:
        pytest.skip(f'{case.name} lists no weights')
    return {
        key: entry['shape']
        for key, entry in case.spec['state_dict'].items()
        if key.startswith(prefix)
    }
