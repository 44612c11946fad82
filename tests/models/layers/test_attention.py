"""Attention against a literal loop over heads and queries."""

import pytest
import torch
from torch import Tensor

from projects.sam2.models.layers.attention import Attention


def _literal(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The textbook formula, one head at a time."""
    q, k, v = attention.query(query), attention.key(key), attention.value(value)
    width = attention.internal_dims // attention.num_heads
    heads = []
    for start in range(0, attention.internal_dims, width):
        part = slice(start, start + width)
        scores = q[..., part] @ k[..., part].mT / width**0.5
        heads.append(scores.softmax(dim=-1) @ v[..., part])
    answer: Tensor = attention.output(torch.cat(heads, dim=-1))
    return answer


@pytest.mark.parametrize(
    ('num_heads', 'internal_dims', 'kv_dims'),
    [(1, None, None), (4, None, None), (2, 8, None), (1, 16, 6)],
)
def test_attention_equals_the_textbook_formula(
    num_heads: int, internal_dims: int | None, kv_dims: int | None
) -> None:
    torch.manual_seed(0)
    attention = Attention(
        embed_dims=16, num_heads=num_heads, internal_dims=internal_dims, kv_dims=kv_dims
    )
    query = torch.randn(2, 5, 16)
    key, value = torch.randn(2, 2, 7, kv_dims or 16)
    expected = _literal(attention, query, key, value)
    torch.testing.assert_close(attention(query, key, value), expected)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    attention = Attention(embed_dims=8, num_heads=1, dropout=0.5)
    tokens = torch.randn(1, 6, 8)
    expected = _literal(attention, tokens, tokens, tokens)
    assert not torch.allclose(attention(tokens, tokens, tokens), expected)
    attention.eval()
    torch.testing.assert_close(attention(tokens, tokens, tokens), expected)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r'internal_dims 10 .* num_heads 4'):
        Attention(embed_dims=16, num_heads=4, internal_dims=10)
