"""The plain way to train gives the same losses, and is switched back."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from projects.sam2.models.layers import Dropout, attention
from projects.sam2.models.layers.mlp import ReLUDropout
from tool_modules import load_tool


@pytest.mark.parametrize('changes', [{}, {'class_focal': None}])
@pytest.mark.parametrize('prompt', ['mask', 'points'])
def test_losses_equal_ours(setting: Any, prompt: str, changes: dict[str, None]) -> None:
    setting = replace(setting, prompt=prompt, dropout=False)
    measurement = load_tool('benchmarks/step_measurement')
    clip = measurement.make_clip(setting)
    found = []
    for way in ('ours', 'plain'):
        model = measurement.build(setting, way)
        for name, value in {**changes, 'supervise_all_ious': not changes}.items():
            setattr(model.loss_module, name, value)
        with measurement.plain_way() if way == 'plain' else nullcontext():
            found.append(model.loss(clip))
    ours, plain = found
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-5, atol=1e-6)


def test_the_plain_way_ends_with_its_block() -> None:
    plain_training = load_tool('benchmarks/plain_training')
    before = attention.attend, Dropout.forward
    with plain_training.plain_way():
        assert attention.attend is not before[0]
        assert Dropout.forward is not before[1]
    assert before == (attention.attend, Dropout.forward)


def test_plain_attention_equals_that_of_torch() -> None:
    plain_training = load_tool('benchmarks/plain_training')
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    torch.testing.assert_close(
        plain_training.plain_attention(query, key, value),
        functional.scaled_dot_product_attention(query, key, value),
    )


@pytest.mark.parametrize('kind', [Dropout, ReLUDropout])
def test_plain_dropout_drops_at_the_same_rate(kind: type[nn.Module]) -> None:
    plain_training = load_tool('benchmarks/plain_training')
    with plain_training.plain_way():
        dropped = kind(0.3)(torch.ones(100_000))
    assert abs(float((dropped > 0).float().mean()) - 0.7) < 0.01
    assert abs(float(dropped.max()) - 1 / 0.7) < 1e-6
