"""Settings for speed: pooled memories, and products in bfloat16."""

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.fast import set_cpu_precision
from projects.sam2.models.layers import (
    MLP,
    Linear,
    RotaryAttention,
    cpu,
    sine_encoding_2d,
)
from toy_videos import toy_model

SIZE = (5, 6)  # of a map: an odd side leaves smaller squares at the edge
HAS_BFLOAT16 = pytest.mark.skipif(
    not cpu.supports_bfloat16(), reason='needs a CPU with AVX512-BF16 or AMX'
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def squares() -> Iterator[tuple[slice, slice]]:
    """The squares of 2 x 2 cells of a map, in the order of the pooled tokens."""
    for top in range(0, SIZE[0], 2):
        for left in range(0, SIZE[1], 2):
            yield slice(top, min(top + 2, SIZE[0])), slice(left, min(left + 2, SIZE[1]))


def rotate_literally(tokens: Tensor, positions: Tensor) -> Tensor:
    """Turn pairs of channels (N, C), as complex numbers, by positions (N, 2)."""
    count = tokens.shape[1] // 4
    frequencies = 10000.0 ** -(torch.arange(count) / count)
    angles = torch.cat([p[:, None] * frequencies for p in positions.unbind(1)], dim=1)
    numbers = torch.view_as_complex(tokens.unflatten(1, (-1, 2)).contiguous())
    turned = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(1)


@torch.no_grad()
def test_queries_see_pooled_cells_at_the_centres_of_their_squares() -> None:
    attention = RotaryAttention(embed_dims=16, num_heads=1, kv_dims=8)
    height, width = SIZE
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing='ij'
    )
    grid = torch.stack([columns, rows], dim=-1).float()  # (h, w, 2): x, y
    centres = torch.stack([grid[square].flatten(0, 1).mean(0) for square in squares()])
    query = torch.randn(1, height * width, 16)
    memory = torch.randn(1, 2 * len(centres) + 3, 8)  # two maps and three pointers
    q = rotate_literally(attention.query(query)[0], grid.flatten(0, 1))
    keys = attention.key(memory)[0]
    rotated = rotate_literally(keys[:-3], centres.repeat(2, 1))
    weights = (q @ torch.cat([rotated, keys[-3:]]).T / 4).softmax(dim=1)
    expected = attention.output(weights @ attention.value(memory)[0])
    output = attention(
        query, memory, memory, feature_size=SIZE, num_unrotated=3, key_pooling=2
    )
    torch.testing.assert_close(output[0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_pooled_tokens_are_the_means_of_their_squares() -> None:
    tracker = toy_model(tracker={'memory_pooling': 2}).tracker
    channels = tracker.object_pointer.memory_dims
    memory = torch.randn(3, 2, channels, *SIZE)
    temporal = tracker.temporal_embedding[[-1, 2]]  # (R, 1, 1, Cm)
    tokens, positions = tracker.spatial_tokens(memory, temporal)
    encoding = sine_encoding_2d(channels=channels, size=SIZE, device=memory.device)
    means, mean_encoding = (
        torch.stack([maps[..., r, c].mean(dim=(-2, -1)) for r, c in squares()], dim=-2)
        for maps in (memory, encoding)
    )
    torch.testing.assert_close(tokens, means.flatten(1, 2))
    expected = (mean_encoding + temporal[:, 0]).flatten(0, 1)
    torch.testing.assert_close(positions[0], expected)


@pytest.mark.parametrize('value', [0, 1.5, '2', True])
def test_pooling_by_no_side_of_a_square_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f'memory_pooling is {value!r}')):
        toy_model(tracker={'memory_pooling': value})


def in_bfloat16(model: nn.Module) -> set[str]:
    """Names of the layers that multiply in bfloat16."""
    return {n for n, m in model.named_modules() if getattr(m, 'in_bfloat16', False)}


@HAS_BFLOAT16
def test_fast_settings_leave_the_heads_and_the_residuals_in_float32() -> None:
    model = toy_model()
    assert not in_bfloat16(model)
    model.use_fast_settings()
    chosen = in_bfloat16(model)
    assert {
        'image_encoder.backbone.blocks.0.mlp.layers.0',
        'tracker.memory_attention.layers.0.cross_attention.key',
        'mask_decoder.transformer.layers.0.cross_attention_image_to_token.query',
    } <= chosen
    parts = ('shortcut', 'hypernetworks', 'iou_head', 'object_pointer', 'neck')
    assert not [name for name in chosen if any(part in name for part in parts)]
    set_cpu_precision(model, 'float32')
    assert not in_bfloat16(model)


@HAS_BFLOAT16
@torch.no_grad()
def test_bfloat16_changes_features_by_its_rounding_alone() -> None:
    model = toy_model()
    frames = torch.randn(1, 3, *model.data_preprocessor.image_size)
    exact = model.encode(frames).embedding
    model.use_fast_settings()
    fast = model.encode(frames).embedding
    error = (fast - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert fast.dtype is torch.float32
    assert 1e-5 < error < 0.02
    with torch.enable_grad():  # training stays as it is
        torch.testing.assert_close(model.encode(frames).embedding, exact)


@HAS_BFLOAT16
@torch.inference_mode()  # its tensors count no versions
def test_bfloat16_follows_changed_weights() -> None:
    layer = Linear(64, 64)
    layer.in_bfloat16 = True
    rows = torch.randn(128, 64)
    layer(rows)
    layer.weight.data.copy_(2 * torch.eye(64))  # as EMAHook swaps weights
    layer.bias.data.zero_()
    torch.testing.assert_close(layer(rows).float(), 2 * rows, atol=0.03, rtol=0.01)


@torch.no_grad()
def test_a_cpu_without_bfloat16_warns_and_stays_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = toy_model()
    frames = torch.randn(1, 3, *model.data_preprocessor.image_size)
    exact = model.encode(frames).embedding
    monkeypatch.setattr(cpu, '_has_onednn', lambda _: False)
    with pytest.warns(UserWarning, match='no AVX512-BF16 or AMX'):
        model.use_fast_settings()
    torch.testing.assert_close(model.encode(frames).embedding, exact)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="cpu_precision is 'int8'; give one of"):
        set_cpu_precision(Linear(4, 4), 'int8')  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_products_and_blocks_of_rows_equal_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(cpu, 'FEW_PRODUCTS', 0)
    monkeypatch.setattr(cpu, 'MAX_CACHED_BYTES', 1024)
    mlp = MLP(in_dims=8, hidden_dims=32, out_dims=4, num_layers=2).to(dtype)
    tokens = torch.randn(3, 7, 8, dtype=dtype).transpose(0, 1)
    weight, bias, last_weight, last_bias = mlp.parameters()
    hidden = functional.linear(tokens, weight, bias).relu()
    expected = functional.linear(hidden, last_weight, last_bias)
    atol, rtol = (4e-3, 0.02) if dtype is torch.bfloat16 else (1e-6, 1e-5)
    torch.testing.assert_close(mlp(tokens), expected, atol=atol, rtol=rtol)
