"""Attention with dropout against one that writes its weights out."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from projects.sam2.models.layers import RotaryAttention
from projects.sam2.models.layers import cpu as module
from projects.sam2.models.layers.attention import Attention
from projects.sam2.models.layers.cpu import KeepMasks, Keys, row_attention

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


def literal(
    query: Tensor, key: Tensor, value: Tensor, seed: int, rate: float
) -> tuple[Tensor, Tensor]:
    """The formula, with the weights that the seed drops."""
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    if rate:
        masks = KeepMasks(seed, rate)
        rows = [
            torch.from_numpy(masks.draw(count * weights.shape[-1])).view(count, -1)
            for _ in range(6)
            for count in (3, 3, 1)
        ]
        kept = torch.cat(rows).view(weights.shape)
        assert not kept.all()
        weights = weights * kept / (1 - rate)
    return weights @ value, weights.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize('rate', [0.0, RATE])
@pytest.mark.parametrize('kept_bytes', [0, 2**20])
def test_values_and_gradients_equal_the_formula(
    monkeypatch: pytest.MonkeyPatch, rate: float, kept_bytes: int
) -> None:
    monkeypatch.setattr(module, 'draw_seed', lambda: 3)
    monkeypatch.setattr(module, 'KEPT_BYTES', kept_bytes)
    given = inputs()
    query, key, value = given
    found = row_attention(query, Keys((key,), lambda one: one * 1), value, rate)
    expected = literal(*given, 3, rate)
    torch.testing.assert_close(found, expected)
    upstream = [torch.randn_like(one) for one in expected]
    theirs = torch.autograd.grad(expected, given, upstream)
    # Twice: what is kept is not written into.
    for retain in (True, False):
        ours = torch.autograd.grad(found, given, upstream, retain_graph=retain)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('kept_bytes', [0, 4 * 64 * 64])
def test_weights_are_kept_once_where_they_are_small(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(module, 'KEPT_BYTES', kept_bytes)
    query, key, value = (
        torch.randn(1, 64, 4, requires_grad=True) * 1 for _ in range(3)
    )
    shapes: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        row_attention(query, Keys((key,), lambda one: one), value, RATE)
    assert shapes
    assert shapes.count(torch.Size([1, 64, 64])) == bool(kept_bytes)


@pytest.mark.parametrize('adapted', [False, True])
def test_keys_that_a_linear_layer_makes_are_made_again(*, adapted: bool) -> None:
    attention = RotaryAttention(embed_dims=8, num_heads=1, kv_dims=4, dropout=RATE)
    if adapted:
        attention.key = nn.Sequential(attention.key)  # type: ignore[assignment]
    tokens, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 4, requires_grad=True)
    kept: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attention(tokens, memory, memory.detach(), num_unrotated=2)
    # Channels of all heads for the keys, before or after they are taken apart.
    assert kept.count(torch.Size([1, 1, 6, 8])) == adapted


def gradients(attention: RotaryAttention, *, functionally: bool) -> list[Tensor]:
    """Of what goes in and of all weights, with the same dropout each time."""
    torch.manual_seed(2)
    tokens, memory = (
        torch.randn(2, length, channels, dtype=torch.float64, requires_grad=True)
        for length, channels in ((4, 8), (6, 4))
    )
    weights: dict[str, Tensor] = dict(attention.named_parameters())
    options = {'num_unrotated': 2}
    if functionally:
        other = RotaryAttention(embed_dims=8, num_heads=1, kv_dims=4, dropout=RATE)
        given = tokens, memory, memory
        torch.manual_seed(3)
        attended = functional_call(other.double(), weights, given, options)
    else:
        torch.manual_seed(3)
        attended = attention(tokens, memory, memory, **options)
    wanted = (tokens, memory, *weights.values())
    return list(torch.autograd.grad(attended.square().sum(), wanted))


@pytest.mark.parametrize('functionally', [False, True])
def test_keys_made_again_have_the_gradients_of_kept_ones(
    monkeypatch: pytest.MonkeyPatch, *, functionally: bool
) -> None:
    attention = RotaryAttention(
        embed_dims=8, num_heads=1, kv_dims=4, dropout=RATE
    ).double()
    found = gradients(attention, functionally=functionally)
    monkeypatch.setattr(
        Attention,
        '_keys',
        lambda self, place, tokens: Keys((place(self.key(tokens)),), lambda one: one),
    )
    torch.testing.assert_close(found, gradients(attention, functionally=False))


def test_weights_that_change_before_the_backward_pass_are_noticed() -> None:
    attention = RotaryAttention(embed_dims=8, num_heads=1, kv_dims=4, dropout=RATE)
    tokens, memory = torch.randn(1, 4, 8), torch.randn(1, 6, 4)
    attended = attention(tokens, memory, memory, num_unrotated=2)
    with torch.no_grad():
        attention.key.weight.mul_(2)
    with pytest.raises(RuntimeError, match='inplace'):
        attended.sum().backward()


def test_attention_takes_this_way_in_training_alone() -> None:
    attention = Attention(embed_dims=8, num_heads=2, dropout=RATE)
    tokens = torch.randn(1, 6, 8)
    names = {type(node).__name__ for node in graph(attention(tokens, tokens, tokens))}
    assert '_RowAttentionBackward' in names
    attention.eval()
    names = {type(node).__name__ for node in graph(attention(tokens, tokens, tokens))}
    assert '_RowAttentionBackward' not in names


def graph(tensor: Tensor) -> list[object]:
    """All nodes that a tensor comes from."""
    nodes: list[object] = [tensor.grad_fn]
    for node in nodes:
        nodes += [n for n, _ in getattr(node, 'next_functions', ()) if n is not None]
    return nodes
