"""What the golden cases of the predictors have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.registry import MODELS
from numpy.typing import NDArray
from PIL import Image

from golden_cases import GoldenCase, fill
from golden_models import golden_model
from projects.sam2.apis import load_model_config
from projects.sam2.checkpoints import to_released
from projects.sam2.models import SAM2


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
