"""A small trained model, and its export to ONNX, which all processes share."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from mmengine.config import Config

from projects.sam2.apis.building import build_for_export
from projects.sam2.deployment import export_onnx
from projects.sam2.installation import WEIGHTS
from projects.sam2.models import SAM2
from untraced import untraced

MINI_CONFIG = '_base_/models/sam2_1_mini.py'
MINI_WEIGHTS = WEIGHTS / 'sam2_mini.pth'


def build_mini() -> tuple[SAM2, Config]:
    """The model that comes with the package, and its config."""
    return build_for_export(MINI_CONFIG, MINI_WEIGHTS)


def exported_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, made by the first process that needs it; to be left as it is."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent  # shared by the processes
    folder /= 'mini_onnx'
    with FileLock(f'{folder}.lock'):
        if not (folder / 'sam2.json').is_file():  # written last
            model, config = build_mini()
            with untraced():
                export_onnx(
                    model,
                    folder,
                    config=config,
                    checkpoint=MINI_WEIGHTS,
                    check=False,
                    report=lambda report: None,
                )
    return folder
