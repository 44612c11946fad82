"""A small trained model and its export."""

from pathlib import Path

import pytest
from mmengine.config import Config

from exported_models import build_mini, exported_mini
from projects.sam2.models import SAM2


@pytest.fixture(scope='session')
def mini() -> tuple[SAM2, Config]:
    """The model that comes with the package, and its config."""
    return build_mini()


@pytest.fixture(scope='session')
def mini_model(mini: tuple[SAM2, Config]) -> SAM2:
    """The model that comes with the package."""
    return mini[0]


@pytest.fixture(scope='session')
def mini_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, to be left as it is."""
    return exported_mini(tmp_path_factory)
