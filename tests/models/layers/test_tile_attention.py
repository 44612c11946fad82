"""Attention in tiles against torch's."""

import pytest
import torch
from torch.nn import functional

from projects.sam2.models.layers import tile_attention as module
from projects.sam2.models.layers.tile_attention import tile_attention


@pytest.mark.parametrize(('rows', 'columns'), [(3, 4), (7, 11), (100, 5)])
def test_values_equal_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int
) -> None:
    monkeypatch.setattr(module, 'NUM_ROWS', rows)
    monkeypatch.setattr(module, 'NUM_COLUMNS', columns)
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 7, 4).double(), torch.randn(2, 3, 11, 4).double()
    value = torch.randn(2, 3, 11, 5).double()
    torch.testing.assert_close(
        tile_attention(query, key, value),
        functional.scaled_dot_product_attention(query, key, value),
    )


def test_logits_beyond_the_range_of_exponents_are_harmless() -> None:
    query, value = torch.full((1, 2, 4), 1e3), torch.arange(2048.0).view(1, -1, 1)
    key = torch.linspace(-1, 1, 2048).view(1, -1, 1).expand(-1, -1, 4)
    torch.testing.assert_close(
        tile_attention(query, key, value),
        functional.scaled_dot_product_attention(query, key, value),
    )


def test_inputs_stay_as_they_are() -> None:
    given = torch.randn(3, 1, 5, 4).unbind()
    before = [tensor.clone() for tensor in given]
    tile_attention(*given)
    torch.testing.assert_close(list(given), before)
