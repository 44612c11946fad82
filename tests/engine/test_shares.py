"""Shares of tensors and the modules that they are in."""

import copy

import pytest
import torch
from torch import nn

from projects.sam2.engine.shares import (
    leaves_of,
    outer_modules,
    refuse_copy,
    share,
    whole,
)


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict(
        {'blocks': nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))}
    )


def test_modules_within_a_chosen_one_are_not_chosen(model: nn.Module) -> None:
    blocks = model.get_submodule('blocks')
    assert outer_modules(model, ['blocks.*']) == list(blocks.children())
    with pytest.raises(ValueError, match=r"'block' fits none .*blocks.0.0"):
        outer_modules(model, ['block'])


def test_parameters_that_a_loss_needs_are_found_through_recomputed_parts(
    model: nn.Module,
) -> None:
    first, second = model.get_submodule('blocks').children()
    hidden = first(torch.ones(1, 2))
    total = torch.utils.checkpoint.checkpoint(second, hidden, use_reentrant=False)
    assert leaves_of(total.sum()) == {id(one) for one in model.parameters()}
    assert leaves_of(hidden.sum()) == {id(one) for one in first.parameters()}
    assert leaves_of(torch.zeros(())) == set()


def test_what_is_not_shared_out_is_left_alone() -> None:
    tensor, own = torch.ones(2), torch.zeros(2)
    assert whole(tensor) is tensor
    assert share(tensor, own) is tensor
    assert share(3, own) == 3


def test_copy_is_refused_with_the_remedy(model: nn.Module) -> None:
    vars(model)['__deepcopy__'] = refuse_copy
    with pytest.raises(TypeError, match='leave that hook out'):
        copy.deepcopy(model)
