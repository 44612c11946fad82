"""Golden weights for one part of the model."""

from torch import nn

from golden_cases import fill
from projects.sam2.checkpoints.key_map import to_released


def released_keys(module: nn.Module, prefix: str) -> dict[str, str]:
    """For each key of a part's state dict, the released key.

    Args:
        module: A part of the model.
        prefix: Place of the part in the model, ``tracker.memory_encoder.``, say.
    """
    return {key: to_released(prefix + key) for key in module.state_dict()}


def fill_released(module: nn.Module, salt: str, prefix: str) -> None:
    """Fill a part of the model with golden weights and put it to evaluation mode.

    Args:
        module: A part of the model.
        salt: Salt of the golden case.
        prefix: Place of the part in the model.
    """
    fill(module.eval(), salt, released_keys(module, prefix))
