"""Memory attention against the released one."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover_arrays
from golden_models import fill_released
from projects.sam2.models.layers import checkpointing, cpu
from projects.sam2.models.memory_attention import MemoryAttention, MemoryAttentionLayer

SIZE = (2, 3)


def inputs(
    num_objects: int = 2, num_maps: int = 2, num_pointer_tokens: int = 2
) -> dict[str, Any]:
    num_cells = SIZE[0] * SIZE[1]
    length = num_maps * num_cells + num_pointer_tokens
    return {
        'tokens': torch.randn(num_objects, num_cells, 8),
        'position': torch.randn(1, num_cells, 8),
        'memory': torch.randn(num_objects, length, 4),
        'memory_position': torch.randn(1, length, 4),
        'num_pointer_tokens': num_pointer_tokens,
        'feature_size': SIZE,
    }


@pytest.fixture
def attention() -> MemoryAttention:
    torch.manual_seed(0)
    return MemoryAttention(
        embed_dims=8, memory_dims=4, num_layers=2, feedforward_dims=16
    ).eval()


def stated_sizes(case: GoldenCase, name: str) -> tuple[int, int, int]:
    """Objects, maps and pointer tokens of an array, as the file's note says them."""
    note = case.spec.get('note2', '')
    found = re.search(rf'\b{name}\((\d+), ?(\d+), ?(\d+)\)', note)
    if found is None:
        return pytest.skip(f'{case.name} does not state the sizes of {name}')
    num_objects, num_maps, num_pointer_tokens = map(int, found.groups())
    return num_objects, num_maps, num_pointer_tokens


@pytest.mark.golden
@pytest.mark.parametrize(('case', 'name'), discover_arrays('memattn_*', r'\w+'))
@torch.no_grad()
def test_conditioned_features_equal_released(case: GoldenCase, name: str) -> None:
    num_objects, num_maps, num_pointer_tokens = stated_sizes(case, name)
    attention = MemoryAttention(
        embed_dims=64, memory_dims=16, num_layers=2, feedforward_dims=128
    )
    fill_released(attention, case.spec['salt'], 'tracker.memory_attention.')
    length = num_maps * 256 + num_pointer_tokens
    shapes = {
        'cur': (256, num_objects, 64),
        'curpos': (256, num_objects, 64),
        'mem': (length, num_objects, 16),
        'mempos': (length, num_objects, 16),
    }
    tokens, position, memory, memory_position = (
        # (N, O, C) -> (O, N, C)
        case.input(f'{tag}_{name}', shape, 0.5 if 'pos' in tag else 1).transpose(0, 1)
        for tag, shape in shapes.items()
    )
    attended = attention(
        tokens=tokens,
        position=position,
        memory=memory,
        memory_position=memory_position,
        num_pointer_tokens=num_pointer_tokens,
        feature_size=(16, 16),
    )
    assert_close(attended.transpose(0, 1), case.arrays[name], 1e-4, name)


@torch.no_grad()
def test_objects_do_not_see_each_other(attention: MemoryAttention) -> None:
    given = inputs(num_objects=3)
    together = attention(**given)
    for index in range(3):
        one = slice(index, index + 1)
        alone = {
            **given,
            'tokens': given['tokens'][one],
            'memory': given['memory'][one],
        }
        torch.testing.assert_close(attention(**alone), together[one])


@torch.no_grad()
def test_shared_features_equal_repeated_ones(attention: MemoryAttention) -> None:
    given = inputs(num_objects=3)
    shared = given['tokens'][:1]
    repeated = attention(**{**given, 'tokens': shared.expand(3, -1, -1)})
    torch.testing.assert_close(attention(**{**given, 'tokens': shared}), repeated)


@pytest.mark.parametrize(('num_bytes', 'sizes'), [(1, [1] * 3), (1000, [2, 1])])
def test_objects_are_taken_apart_where_memories_are_large(
    attention: MemoryAttention,
    monkeypatch: pytest.MonkeyPatch,
    num_bytes: int,
    sizes: list[int],
) -> None:
    given = inputs(num_objects=3)  # 14 tokens of 8 channels: 448 bytes an object
    with torch.no_grad():
        whole = attention(**given)
    monkeypatch.setattr(cpu, 'MAX_TENSOR_BYTES', num_bytes)
    seen: list[int] = []
    attention.get_submodule('layers.1.cross_attention').register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0]))
    )
    with torch.no_grad():
        torch.testing.assert_close(attention(**given), whole)
    assert seen == sizes
    attention(**given)  # with a graph: as it was trained
    assert seen == [*sizes, 3]


def change(attention: MemoryAttention, given: dict[str, Any], **new: Tensor) -> float:
    """Largest change of the result when some inputs are replaced."""
    difference = attention(**given) - attention(**{**given, **new})
    return float(difference.abs().max())


@torch.no_grad()
def test_pointers_have_no_place_and_maps_have(attention: MemoryAttention) -> None:
    given = inputs(num_maps=1, num_pointer_tokens=3)
    orders = {'pointers': [0, 1, 2, 3, 4, 5, 8, 6, 7], 'cells': [1, 0, *range(2, 9)]}
    moved = {
        name: {key: given[key][:, order] for key in ('memory', 'memory_position')}
        for name, order in orders.items()
    }
    assert change(attention, given, **moved['pointers']) < 1e-5
    assert change(attention, given, **moved['cells']) > 1e-4


@torch.no_grad()
def test_memory_position_moves_keys_and_not_values(attention: MemoryAttention) -> None:
    given = inputs()
    shifted = given['memory_position'].clone()
    shifted[:, 0] += 1
    assert change(attention, given, memory_position=shifted) > 1e-4
    # One token gets the whole attention, whatever its key.
    single = inputs(num_maps=0, num_pointer_tokens=1)
    moved = single['memory_position'] + 1
    assert change(attention, single, memory_position=moved) == 0
    assert change(attention, single, memory=single['memory'] + 1) > 1e-4


def test_every_parameter_gets_a_gradient(attention: MemoryAttention) -> None:
    attention(**inputs()).square().sum().backward()
    assert all(p.grad is not None for p in attention.parameters())


@torch.no_grad()
def test_dropout_acts_in_training_alone(attention: MemoryAttention) -> None:
    given = inputs()
    assert change(attention, given) == 0
    assert change(attention.train(), given) > 0


@torch.no_grad()
@pytest.mark.parametrize('place', ['self_attention', 'cross_attention', 'mlp', 'rest'])
def test_each_kind_of_dropout_is_there(place: str) -> None:
    layer = MemoryAttentionLayer(
        embed_dims=8, memory_dims=4, feedforward_dims=16, num_heads=1, dropout=0.5
    ).eval()
    layer.get_submodule('dropout' if place == 'rest' else place).train()
    given = inputs()
    first, second = (
        layer(
            given['tokens'],
            memory_keys=given['memory'] + given['memory_position'],
            memory=given['memory'],
            num_pointer_tokens=given['num_pointer_tokens'],
            feature_size=SIZE,
        )
        for _ in range(2)
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize(('num_maps', 'calls'), [(3, 1), (4, 2)])
def test_hidden_units_of_frames_with_many_memories_are_recomputed(
    attention: MemoryAttention,
    monkeypatch: pytest.MonkeyPatch,
    num_maps: int,
    calls: int,
) -> None:
    monkeypatch.setattr(checkpointing, 'SMALLEST_BYTES', 0)
    seen: list[int] = []
    attention.get_submodule('layers.1.mlp.layers.0').register_forward_hook(
        lambda *_: seen.append(1)
    )
    with checkpointing.recompute_cheap_results():
        output = attention(**inputs(num_maps=num_maps))
    output.square().sum().backward()
    assert len(seen) == calls
