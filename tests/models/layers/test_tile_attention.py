"""Attention in tiles against torch's."""

import pytest
import torch
from torch.nn import functional

from projects.sam2.models.layers import cpu as module
from projects.sam2.models.layers.cpu import tile_attention


@pytest.mark.parametrize(('rows', 'columns'), [(3, 4), (7, 11), (100, 5)])
def test_values_equal_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int
) -> None:
    monkeypatch.setattr(module, 'TILE_ROWS', rows)
    monkeypatch.setattr(module, 'TILE_COLUMNS', columns)
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


@pytest.mark.parametrize('order', [1, -1])
@pytest.mark.parametrize('scale', [88.0, 1e4, 1e30])
def test_extreme_logits_are_summed_up_against_the_highest_of_all_tiles(
    monkeypatch: pytest.MonkeyPatch, scale: float, order: int
) -> None:
    monkeypatch.setattr(module, 'TILE_ROWS', 3)
    monkeypatch.setattr(module, 'TILE_COLUMNS', 4)
    torch.manual_seed(0)
    # Logits of every row from -scale to scale, tile after tile higher or lower. Rows
    # of the same sign as the query, of the other sign, and of equal logits.
    query = torch.tensor([1.0, -1.0, 0.0, 0.5, -0.5]).view(1, -1, 1)
    key = order * torch.linspace(-scale, scale, 22).view(1, -1, 1)
    value = torch.randn(1, 22, 3)
    logits = (query.double() @ key.double().mT).softmax(dim=-1)
    torch.testing.assert_close(
        tile_attention(query, key, value), (logits @ value.double()).float()
    )


def test_inputs_stay_as_they_are() -> None:
    given = torch.randn(3, 1, 5, 4).unbind()
    before = [tensor.clone() for tensor in given]
    tile_attention(*given)
    torch.testing.assert_close(list(given), before)
