"""A small training step for the benchmarks."""

from dataclasses import asdict
from types import ModuleType
from typing import Any

import pytest

from tool_modules import ROOT, load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/train_step')


@pytest.fixture
def setting(tool: ModuleType) -> Any:
    return tool.Setting(
        config=str(ROOT / 'configs/_base_/models/sam2_1_mini.py'),
        image_size=64,
        num_frames=2,
        num_objects=2,
        prompt='points',
        device='cpu',
        dtype='float32',
        dropout=True,
        num_threads=1,
    )


@pytest.fixture
def job(setting: Any) -> dict[str, Any]:
    return {'setting': asdict(setting), 'way': 'ours', 'num_steps': 2}
