"""Weights of a plain model find their places in one with adapters."""

import pytest
import torch
from torch import Tensor

from projects.sam2.checkpoints import (
    ADAPTER_FIELD,
    CheckpointMismatchError,
    adapter_weights_of,
    fit_adapters,
    is_adapter_key,
    to_plain_key,
    weights_of,
)

PLAIN: dict[str, Tensor] = {
    'a.weight': torch.tensor([[3.0, 4.0], [0.0, 2.0]]),
    'a.bias': torch.ones(2),
    'b.weight': torch.ones(1),
}
ADAPTED: dict[str, Tensor] = {
    'a.base_layer.weight': torch.zeros(2, 2),
    'a.base_layer.bias': torch.zeros(2),
    'a.lora_A.default.weight': torch.full((1, 2), 7.0),
    'a.lora_magnitude_vector.default.weight': torch.zeros(2),
    'b.weight': torch.zeros(1),
}


def test_plain_weights_go_to_base_layers_and_adapters_begin_anew() -> None:
    fitted = fit_adapters(PLAIN, ADAPTED)
    assert fitted.keys() == ADAPTED.keys()
    assert fitted['a.base_layer.weight'] is PLAIN['a.weight']
    assert fitted['b.weight'] is PLAIN['b.weight']
    assert fitted['a.lora_A.default.weight'].tolist() == [[7.0, 7.0]]
    # The lengths of the rows, which DoRA trains.
    assert fitted['a.lora_magnitude_vector.default.weight'].tolist() == [5.0, 2.0]


def test_weights_that_fit_already_are_left_alone() -> None:
    assert fit_adapters(ADAPTED, ADAPTED) == ADAPTED
    assert fit_adapters(PLAIN, PLAIN) == PLAIN


def test_names_of_adapters_and_of_what_they_adapt_are_told_apart() -> None:
    plain = [to_plain_key(key) for key in ADAPTED if not is_adapter_key(key)]
    assert plain == list(PLAIN)


def test_other_file_than_one_of_adapters_is_named() -> None:
    assert adapter_weights_of({ADAPTER_FIELD: PLAIN}, source='x') == PLAIN
    with pytest.raises(ValueError, match=r"x.pth is no file of adapters.*'state_dict'"):
        adapter_weights_of({'state_dict': PLAIN}, source='x.pth')


def test_file_of_what_was_trained_is_not_taken_for_a_checkpoint() -> None:
    message = r'part\.pth .* not the rest; .*--base.*adapters'
    with pytest.raises(CheckpointMismatchError, match=message):
        weights_of({ADAPTER_FIELD: PLAIN}, source='part.pth')
