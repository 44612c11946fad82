"""Rotary attention against the released one and complex numbers."""

import copy

import pytest
import torch
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_close,
    discover,
    discover_arrays,
    fill,
    numbers_in,
)
from projects.sam2.checkpoints.key_map import ALTERNATIVES
from projects.sam2.models.layers import RotaryAttention
from projects.sam2.models.layers.attention import rotary_table, rotate

CPU = torch.device('cpu')
golden = pytest.mark.golden
cases = pytest.mark.parametrize('case', discover('posenc_*'))


def literal_rotation(tokens: Tensor, height: int, width: int) -> Tensor:
    """Pairs of channels as complex numbers, turned token by token."""
    quarter = tokens.shape[-1] // 4
    turned = torch.view_as_complex(tokens.unflatten(-1, (-1, 2))).clone()
    for index in range(tokens.shape[-2]):
        y, x = divmod(index % (height * width), width)
        for pair in range(2 * quarter):
            angle = (x if pair < quarter else y) / 10000 ** (pair % quarter / quarter)
            turn = torch.polar(torch.ones(()), torch.tensor(angle))
            turned[..., index, pair] *= turn
    return torch.view_as_real(turned).flatten(-2)


@pytest.fixture
def attention() -> RotaryAttention:
    torch.manual_seed(0)
    return RotaryAttention(embed_dims=16, num_heads=2, kv_dims=6, dropout=0.5).eval()


@golden
@pytest.mark.parametrize(
    ('case', 'name'), discover_arrays('posenc_*', r'axial_cis_\d+x\d+_d\d+')
)
def test_table_equals_released(case: GoldenCase, name: str) -> None:
    width, height, channels = numbers_in(name)
    cosines, sines = rotary_table(height, width, channels, CPU)
    for first_of_pair, sign in ((0, -1), (1, 1)):
        pair = slice(first_of_pair, None, 2)
        table = torch.stack([cosines[:, pair], sign * sines[:, pair]], dim=-1)
        assert_close(table, case.arrays[name], 1e-4, name)


@golden
@cases
@pytest.mark.parametrize(('tag', 'name'), [('rq', 'rot_q'), ('rk', 'rot_k')])
def test_rotation_equals_released(case: GoldenCase, tag: str, name: str) -> None:
    tokens = case.input(tag, case.arrays[name].shape)
    rotated = rotate(tokens, rotary_table(4, 6, 32, CPU))
    assert_close(rotated, case.arrays[name], 1e-4, name)


@golden
@cases
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


@pytest.mark.parametrize('num_maps', [1, 3])
def test_rotation_equals_complex_numbers_in_every_map(num_maps: int) -> None:
    tokens = torch.randn(2, num_maps * 6, 8)
    rotated = rotate(tokens, rotary_table(2, 3, 8, CPU))
    torch.testing.assert_close(rotated, literal_rotation(tokens, 2, 3))


def test_rotation_keeps_the_type() -> None:
    tokens = torch.randn(1, 4, 8, dtype=torch.bfloat16)
    assert rotate(tokens, rotary_table(2, 2, 8, CPU)).dtype == torch.bfloat16


def test_scores_depend_on_the_displacement_alone() -> None:
    query, key = torch.randn(2, 8)
    table = rotary_table(5, 7, 8, CPU)
    queries, keys = (rotate(t.expand(35, 8), table) for t in (query, key))
    scores = (queries @ keys.T).view(5, 7, 5, 7)
    torch.testing.assert_close(scores[0, 0, 2, 3], scores[2, 1, 4, 4])
    assert (scores[0, 0, 2, 3] - scores[0, 0, 3, 2]).abs() > 1e-4


def test_tokens_without_a_place_may_come_in_any_order(
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


def test_norm_of_the_query_is_applied_and_not_kept() -> None:
    torch.manual_seed(0)
    attention = RotaryAttention(embed_dims=256, num_heads=1, kv_dims=64)
    norm = torch.nn.LayerNorm(256)
    tokens, memory = torch.randn(1, 1024, 256), torch.randn(1, 1024, 64)
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attended = attention(tokens, memory, memory, norm=norm)
    normed = norm(tokens)
    torch.testing.assert_close(attended, attention(normed, memory, memory))
    assert any(torch.equal(one, tokens) for one in kept)
    rows = [one for one in kept if one.numel() == normed.numel()]
    assert not any(torch.allclose(one.view_as(normed), normed) for one in rows)
