"""Kernels for a CPU against those of torch and literal ones."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from projects.sam2.models.layers import Attention, cpu, map_in_chunks
from projects.sam2.models.layers.cpu import DropoutMasks

RATE = 0.25
SHAPES = {'query': (2, 3, 7, 4), 'key': (2, 3, 11, 4), 'value': (2, 3, 11, 5)}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a head take several turns, the last of them fewer."""
    torch.manual_seed(0)
    monkeypatch.setattr(cpu, 'NUM_ROWS', 3)


def literal(
    query: Tensor, key: Tensor, value: Tensor, seed: int, rate: float
) -> Tensor:
    """The formula, with the weights that the seed drops."""
    weights: Tensor = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    if rate:
        masks = DropoutMasks(seed, rate)
        rows = [
            torch.from_numpy(masks.draw(count * weights.shape[-1])).view(count, -1)
            for _ in range(6)
            for count in (3, 3, 1)
        ]
        remains = torch.cat(rows).view(weights.shape)
        assert not remains.all()
        weights = weights * remains / (1 - rate)
    return weights @ value


@pytest.mark.parametrize('rate', [0.0, RATE])
@pytest.mark.parametrize('kept_bytes', [0, 2**20])
def test_attention_in_rows_has_the_values_and_gradients_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, rate: float, kept_bytes: int
) -> None:
    monkeypatch.setattr(cpu, 'draw_seed', lambda: 3)
    monkeypatch.setattr(cpu, 'KEPT_BYTES', kept_bytes)
    query, key, value = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in SHAPES.values()
    )
    output = cpu.attention(query, key, value, rate)
    expected = literal(query, key, value, 3, rate)
    torch.testing.assert_close(output, expected)
    upstream, inputs = torch.randn_like(expected), (query, key, value)
    theirs = torch.autograd.grad(expected, inputs, upstream)
    # Twice: what is kept is not written into.
    for retain in (True, False):
        ours = torch.autograd.grad(output, inputs, upstream, retain_graph=retain)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('kept_bytes', [0, 4 * 64 * 64])
def test_attention_weights_are_kept_once_where_they_are_small(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(cpu, 'KEPT_BYTES', kept_bytes)
    query, key, value = torch.randn(3, 1, 1, 64, 4, requires_grad=True)
    shapes: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cpu.attention(query, key, value, RATE)
    assert shapes
    assert shapes.count(torch.Size([1, 64, 64])) == bool(kept_bytes)


@torch.no_grad()
@pytest.mark.parametrize(('rows', 'keys'), [(3, 4), (7, 11), (100, 100)])
def test_attention_without_a_graph_equals_that_of_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, keys: int
) -> None:
    monkeypatch.setattr(cpu, 'ROWS_AT_ONCE', rows)
    monkeypatch.setattr(cpu, 'KEYS_AT_ONCE', keys)
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 7, 4).double(), torch.randn(2, 3, 11, 4).double()
    value = torch.randn(2, 3, 11, 5).double()
    torch.testing.assert_close(
        cpu.attention(query, key, value, 0.0),
        functional.scaled_dot_product_attention(query, key, value),
    )


@torch.no_grad()
@pytest.mark.skipif(
    not cpu.supports_bfloat16(), reason='needs a CPU with AVX512-BF16 or AMX'
)
def test_windows_in_bfloat16_equal_those_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, 'MAX_CACHED_BYTES', 2 * 4 * 7 * 11 * 2 + 1)  # 2 windows
    query, key, value = (torch.randn(5, 4, n, 8).bfloat16() for n in (7, 11, 11))
    attended = cpu.attention(query, key, value, 0.0)
    expected = functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double()
    )
    assert attended.dtype is torch.bfloat16
    torch.testing.assert_close(attended.double(), expected, atol=0.02, rtol=0.02)


@torch.no_grad()
@pytest.mark.parametrize('keys_at_once', [100, 4096])
def test_logits_beyond_the_range_of_exponents_are_harmless(
    monkeypatch: pytest.MonkeyPatch, keys_at_once: int
) -> None:
    monkeypatch.setattr(cpu, 'FEW_WEIGHTS', 0)
    monkeypatch.setattr(cpu, 'KEYS_AT_ONCE', keys_at_once)
    query, value = torch.full((1, 1, 2, 4), 1e3), torch.arange(2048.0).view(1, 1, -1, 1)
    key = torch.linspace(-1, 1, 2048).view(1, 1, -1, 1).expand(-1, -1, -1, 4)
    torch.testing.assert_close(
        cpu.attention(query, key, value, 0.0),
        functional.scaled_dot_product_attention(query, key, value),
    )


@torch.no_grad()
@pytest.mark.parametrize('scale', [88.0, 1e4, 1e30])
def test_extreme_logits_are_summed_up_against_the_highest(scale: float) -> None:
    # Logits of every row from -scale to scale. Rows of the same sign as the query, of
    # the other sign, and of equal logits.
    query = torch.tensor([1.0, -1.0, 0.0, 0.5, -0.5]).view(1, 1, -1, 1)
    key = torch.linspace(-scale, scale, 22).view(1, 1, -1, 1)
    value = torch.randn(1, 1, 22, 3)
    logits = (query.double() @ key.double().mT).softmax(dim=-1)
    torch.testing.assert_close(
        cpu.attention(query, key, value, 0.0), (logits @ value.double()).float()
    )


def test_dropout_of_attention_is_for_training_alone() -> None:
    attention = Attention(embed_dims=8, num_heads=2, dropout=RATE)
    tokens = torch.randn(1, 6, 8)
    assert '_RowAttentionBackward' in names(attention(tokens, tokens, tokens))
    attention.eval()
    assert '_RowAttentionBackward' not in names(attention(tokens, tokens, tokens))


def names(tensor: Tensor) -> Iterable[str]:
    """All operations that a tensor comes from."""
    nodes: list[object] = [tensor.grad_fn]
    for node in nodes:
        nodes += [n for n, _ in getattr(node, 'next_functions', ()) if n is not None]
    return {type(node).__name__ for node in nodes}


@pytest.mark.parametrize(
    ('object_size', 'dtype', 'expected'),
    [
        (2**20, torch.float32, [7, 7, 6]),  # eight of 4 MB are 32 MB: too large
        (2**20, torch.bfloat16, [15, 5]),
        (99 * 2**20, torch.float32, [1] * 20),
        (10, torch.float32, [20]),
    ],
)
def test_the_largest_tensor_stays_below_32_megabytes(
    object_size: int, dtype: torch.dtype, expected: list[int]
) -> None:
    sizes = []

    def double(batch: Tensor, other: Tensor) -> Tensor:
        sizes.append(len(batch))
        return batch + other

    batch = torch.arange(20.0)[:, None].to(dtype)
    with torch.no_grad():
        doubled = map_in_chunks(double, batch, batch, object_size=object_size)
    assert torch.equal(doubled, 2 * batch)
    assert sizes == expected


def test_a_batch_stays_whole_with_a_graph_and_on_other_devices() -> None:
    def size(batch: Tensor) -> Tensor:
        return torch.tensor(len(batch))

    assert map_in_chunks(size, torch.zeros(20, 1), object_size=99 * 2**20) == 20
    with torch.no_grad():
        elsewhere = torch.zeros(20, 1, device='meta')
        assert map_in_chunks(size, elsewhere, object_size=99 * 2**20) == 20
