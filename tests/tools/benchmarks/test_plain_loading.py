"""The plain ways to load a clip."""

from types import ModuleType

import numpy as np
import pytest

from projects.sam2.datasets.transforms.augmentation import Affine
from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/plain_loading')


def test_generated_video_is_the_same_each_time(tool: ModuleType) -> None:
    first, second = tool.make_source(), tool.make_source()
    np.testing.assert_array_equal(first.frame, second.frame)
    assert first.masks.masks.any(axis=(1, 2)).all()
    state = tool.make_state(first)
    assert len(state.frames) == len(state.masklets) == tool.NUM_FRAMES
    assert state.source.frame_name(3) == '00003'


def test_plain_mask_is_mirrored_and_turned(tool: ModuleType) -> None:
    mask = np.zeros(tool.SIZE, bool)
    mask[300:420, :200] = True  # on the left
    straight = Affine(angle=0.0, shear=0.0, scale=1.0, shift=(0.0, 0.0))
    moved = tool.plain_mask(mask, straight)
    assert moved.shape == tool.NEW_SIZE
    assert moved[:, 900:].any()
    assert not moved[:, :800].any()
    upright = Affine(angle=90.0, shear=0.0, scale=1.0, shift=(0.0, 0.0))
    assert not tool.plain_mask(mask, upright)[:, 900:].any()
