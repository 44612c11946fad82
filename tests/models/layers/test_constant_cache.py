"""What is remembered, and when it is not."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from projects.sam2.models.layers.position_encoding import CACHE_SIZE, cached_constant

BUILT: list[int] = []


@pytest.fixture(autouse=True)
def forget_built() -> None:
    BUILT.clear()


def build(length: int) -> Tensor:
    BUILT.append(length)
    return torch.arange(length, dtype=torch.float32)


def test_equal_arguments_are_built_once() -> None:
    look_up = cached_constant(build)
    assert look_up(3) is look_up(3)
    assert look_up(4).shape == (4,)
    assert BUILT == [3, 4]


def test_old_constants_make_room() -> None:
    look_up = cached_constant(build)
    for length in [*range(CACHE_SIZE + 1), 0]:
        look_up(length)
    assert BUILT[-1] == 0
    assert len(BUILT) == CACHE_SIZE + 2


def test_constant_made_in_inference_mode_can_join_a_later_graph() -> None:
    look_up = cached_constant(build)
    with torch.inference_mode():
        look_up(3)
    weight = torch.ones(3, requires_grad=True)
    (weight * look_up(3)).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(3.0))
    assert BUILT == [3]


def test_nothing_is_remembered_while_a_graph_is_traced() -> None:
    look_up = cached_constant(build)
    with patch('torch.compiler.is_compiling', return_value=True):
        look_up(3)
    look_up(3)
    assert BUILT == [3, 3]
