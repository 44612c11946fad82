"""Attention with dropout against one that writes its weights out."""

import pytest
import torch
from torch import Tensor

from kept_memory import kept_storages
from projects.sam2.models.layers import dropout_attention as module
from projects.sam2.models.layers.attention import Attention
from projects.sam2.models.layers.dropout import KeepMasks
from projects.sam2.models.layers.dropout_attention import dropout_attention

RATE = 0.25
SHAPES = {'query': (2, 3, 7, 4), 'key': (2, 3, 11, 4), 'value': (2, 3, 11, 5)}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a head take several turns, the last of them fewer."""
    torch.manual_seed(0)
    monkeypatch.setattr(module, 'NUM_ROWS', 3)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in SHAPES.values()
    )
    return query, key, value


def literal(query: Tensor, key: Tensor, value: Tensor, seed: int) -> Tensor:
    """The formula, with the weights that the seed drops."""
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    masks = KeepMasks(seed, RATE)
    rows = [
        torch.from_numpy(masks.draw(count * weights.shape[-1])).view(count, -1)
        for _ in range(6)
        for count in (3, 3, 1)
    ]
    kept = torch.cat(rows).view(weights.shape)
    assert not kept.all()
    gathered: Tensor = (weights * kept / (1 - RATE)) @ value
    return gathered


def test_values_and_gradients_equal_the_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, 'draw_seed', lambda: 3)
    given = inputs()
    found, expected = dropout_attention(*given, RATE), literal(*given, 3)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, given, upstream),
        torch.autograd.grad(expected, given, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_no_weights_are_kept() -> None:
    query, key, value = (
        torch.randn(1, 64, 4, requires_grad=True) * 1 for _ in range(3)
    )
    sizes = kept_storages(lambda: dropout_attention(query, key, value, RATE))
    assert sizes
    assert max(sizes) < 4 * 64 * 64


def test_attention_takes_this_way_in_training_alone() -> None:
    attention = Attention(embed_dims=8, num_heads=2, dropout=RATE)
    tokens = torch.randn(1, 6, 8)
    names = {type(node).__name__ for node in graph(attention(tokens, tokens, tokens))}
    assert '_DropoutAttentionBackward' in names
    attention.eval()
    names = {type(node).__name__ for node in graph(attention(tokens, tokens, tokens))}
    assert '_DropoutAttentionBackward' not in names


def graph(tensor: Tensor) -> list[object]:
    """All nodes that a tensor comes from."""
    nodes: list[object] = [tensor.grad_fn]
    for node in nodes:
        nodes += [n for n, _ in getattr(node, 'next_functions', ()) if n is not None]
    return nodes
