"""Attention against the textbook formula, rotary attention against the released one."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover, fill
from projects.sam2.checkpoints.key_map import ALTERNATIVES
from projects.sam2.models.layers import Attention, RotaryAttention, cpu

RATE = 0.25


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


@pytest.mark.parametrize('with_graph', [True, False])
@pytest.mark.parametrize('num_heads', [1, 2])
def test_narrow_values_of_many_weights_are_projected_last_to_the_same_result(
    monkeypatch: pytest.MonkeyPatch, num_heads: int, *, with_graph: bool
) -> None:
    monkeypatch.setattr(cpu, 'FEW_WEIGHTS', 0)
    torch.manual_seed(0)
    attention = Attention(embed_dims=16, num_heads=num_heads, kv_dims=6).eval()
    query, (key, value) = torch.randn(2, 5, 16), torch.randn(2, 2, 7, 6)
    calls: list[tuple[int, ...]] = []
    attention.value.register_forward_hook(
        lambda _, given, __: calls.append(tuple(given[0].shape))
    )
    with torch.set_grad_enabled(with_graph):
        found = attention(query, key, value)
    assert calls == [(2, 5, 6) if num_heads == 1 else (2, 7, 6)]
    torch.testing.assert_close(found, _literal(attention, query, key, value))


@pytest.mark.parametrize('adapted', [False, True])
def test_the_order_of_gathering_and_projection_changes_nothing_under_dropout(
    *, adapted: bool
) -> None:
    torch.manual_seed(0)
    attention = Attention(embed_dims=16, num_heads=1, kv_dims=6, dropout=RATE).double()
    if adapted:
        config = LoraConfig(target_modules=['value'], init_lora_weights=False)
        inject_adapter_in_model(config, attention)
    query, key, value = (
        torch.randn(2, length, channels).double().requires_grad_()
        for length, channels in ((5, 16), (7, 6), (7, 6))
    )
    differentiated = [query, key, value]
    differentiated += [p for p in attention.parameters() if p.requires_grad]
    results = []
    for narrow in (True, False):
        attention.has_narrow_values = narrow
        torch.manual_seed(1)
        found = attention(query, key, value)
        gradients = torch.autograd.grad(found.square().sum(), differentiated)
        results.append((found, gradients))
    torch.testing.assert_close(*results)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r'internal_dims 10 .* num_heads 4'):
        Attention(embed_dims=16, num_heads=4, internal_dims=10)


@pytest.fixture
def attention() -> RotaryAttention:
    torch.manual_seed(0)
    return RotaryAttention(embed_dims=16, num_heads=2, kv_dims=6, dropout=0.5).eval()


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('posenc_*'))
def test_attention_equals_released(case: GoldenCase) -> None:
    module = RotaryAttention(embed_dims=32, num_heads=2, kv_dims=12).eval()
    released = {
        f'{ours}.{kind}': f'rope.{theirs}.{kind}'
        for ours, theirs, _ in ALTERNATIVES['@']
        for kind in ('weight', 'bias')
    }
    fill(module, case.spec['salt'], released)
    key, value = (case.input(tag, (2, 53, 12)) for tag in ('ak', 'av'))
    attended = module(case.input('aq', (2, 25, 32)), key, value, num_unrotated=3)
    assert_close(attended, case.arrays['rope_attn'], 1e-4, 'attention')


def test_tokens_without_a_position_may_come_in_any_order(
    attention: RotaryAttention,
) -> None:
    query, memory = torch.randn(2, 6, 16), torch.randn(2, 6 + 4, 6)
    moved = memory[:, [0, 1, 2, 3, 4, 5, 9, 7, 6, 8]]

    def attend(keys: Tensor) -> Tensor:
        result: Tensor = attention(
            query, keys, keys, feature_size=(2, 3), num_unrotated=4
        )
        return result

    torch.testing.assert_close(attend(memory), attend(moved))
    swapped = memory[:, [1, 0, *range(2, 10)]]
    assert (attend(memory) - attend(swapped)).abs().max() > 1e-4


def test_shape_of_the_map_matters(attention: RotaryAttention) -> None:
    query, memory = torch.randn(1, 6, 16), torch.randn(1, 12, 6)
    wide = attention(query, memory, memory, feature_size=(2, 3))
    tall = attention(query, memory, memory, feature_size=(3, 2))
    assert (wide - tall).abs().max() > 1e-4


def test_table_is_no_part_of_state_or_copies(attention: RotaryAttention) -> None:
    query, memory = torch.randn(1, 4, 16), torch.randn(1, 4, 6)
    before = attention(query, memory, memory)
    assert not list(attention.buffers())
    copied = copy.deepcopy(attention)
    assert torch.equal(copied(query, memory, memory), before)


@pytest.mark.parametrize(
    ('num_keys', 'num_unrotated', 'size'),
    [(7, 0, (2, 3)), (12, 0, (3, 3)), (6, 0, None), (6, 8, (2, 3))],
)
def test_tokens_that_do_not_fit_the_map_are_refused(
    attention: RotaryAttention,
    num_keys: int,
    num_unrotated: int,
    size: tuple[int, int] | None,
) -> None:
    memory = torch.randn(1, num_keys, 6)
    with pytest.raises(ValueError, match='feature_size'):
        attention(
            torch.randn(1, 6, 16),
            memory,
            memory,
            feature_size=size,
            num_unrotated=num_unrotated,
        )


def test_odd_pairs_per_head_are_refused() -> None:
    with pytest.raises(ValueError, match='12 channels in 2 heads'):
        RotaryAttention(embed_dims=12, num_heads=2)
