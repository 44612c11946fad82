"""The measured step trains, and all ways train the same model."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tool_modules import load_tool


@pytest.fixture(scope='module')
def measurement() -> Any:
    return load_tool('benchmarks/step_measurement')


def test_all_ways_start_from_the_same_weights(measurement: Any, setting: Any) -> None:
    models = [measurement.build(setting, way) for way in measurement.WAYS]
    states = [model.state_dict() for model in models]
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])
    recompute = [model.image_encoder.backbone.with_cp for model in models]
    assert recompute == [False, False, True]


def test_the_clip_shows_its_objects_on_every_frame(
    measurement: Any,
    setting: Any,
) -> None:
    clip = measurement.make_clip(setting)
    assert clip.frames.shape == (2, 3, 64, 64)
    assert clip.targets.masks.flatten(2).any(dim=2).all()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_step_leaves_gradients_and_times(
    measurement: Any,
    setting: Any,
    dtype: str,
) -> None:
    setting = replace(setting, dtype=dtype)
    model = measurement.build(setting, 'ours')
    clip = measurement.make_clip(setting)
    whole, forward = measurement.run_step(model, clip, setting, 'ours')
    assert whole > forward > 0
    gradient = model.tracker.memory_attention.norm.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_peak_is_measured_in_a_new_process(
    measurement: Any,
    setting: Any,
) -> None:
    peak = measurement.peak_in_child(setting, 'ours', 1)
    assert peak.megabytes > 1
    assert peak.seconds > peak.forward_seconds > 0
    assert peak.trained_parameters > 0
    assert measurement.resident('VmHWM') >= measurement.resident('VmRSS') > 0
