"""Blocks and windows against literal ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.backbones.hiera_blocks import (
    HieraAttention,
    HieraBlock,
    HieraPatchEmbedding,
    join_windows,
    pool,
    split_windows,
    window_grid,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def literal_attention(attention: HieraAttention, window: Tensor) -> Tensor:
    """One window (h, w, C), one head at a time, with the softmax written out."""
    height, width, _ = window.shape
    query, key, value = attention.qkv(window).chunk(3, dim=-1)
    if attention.pools:
        height, width = height // 2, width // 2
        cells = query.unflatten(1, (width, 2)).unflatten(0, (height, 2))
        query = cells.amax(dim=(1, 3))
    heads = []
    for q, k, v in zip(
        *(
            part.reshape(-1, part.shape[-1]).chunk(attention.num_heads, dim=-1)
            for part in (query, key, value)
        ),
        strict=True,
    ):
        weights = (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1)
        heads.append(weights @ v)
    joined: Tensor = attention.output(torch.cat(heads, dim=-1))
    return joined.view(height, width, -1)


def test_patches_overlap_at_stride_four() -> None:
    embed = HieraPatchEmbedding(embed_dims=5)
    images = torch.zeros(1, 3, 32, 64, requires_grad=True)
    tokens = embed(images)
    assert tokens.shape == (1, 8, 16, 5)
    tokens[0, 2, 3].sum().backward()
    assert images.grad is not None
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 11, 9, 15)


@pytest.mark.parametrize(('height', 'width'), [(8, 12), (7, 9), (3, 4)])
def test_windows_join_to_what_was_split(height: int, width: int) -> None:
    maps = torch.randn(2, height, width, 3)
    windows, grid = split_windows(maps, 4), window_grid((height, width), 4)
    assert windows.shape == (2 * grid[0] * grid[1], 4, 4, 3)
    assert torch.equal(join_windows(windows, grid, (height, width)), maps)


def test_windows_are_cut_row_by_row_and_padded_with_zeros() -> None:
    maps = torch.randn(2, 5, 6, 3)
    windows = split_windows(maps, 4)
    assert window_grid((5, 6), 4) == (2, 2)
    assert torch.equal(windows[1, :, :2], maps[0, :4, 4:])
    assert torch.equal(windows[4 + 2, :1], maps[1, 4:, :4])
    assert not windows[1, :, 2:].any()
    assert not windows[2, 1:].any()


def test_pooling_takes_the_largest_of_four() -> None:
    maps = torch.arange(16.0).view(1, 4, 4, 1)
    assert pool(maps).flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize('pools', [False, True])
def test_attention_equals_the_literal_one(*, pools: bool) -> None:
    attention = HieraAttention(in_dims=6, out_dims=12, num_heads=3, pools=pools)
    windows = torch.randn(3, 4, 6, 6)
    expected = torch.stack([literal_attention(attention, w) for w in windows])
    torch.testing.assert_close(attention(windows), expected)


@pytest.mark.parametrize(
    ('out_dims', 'window_size', 'reach'), [(4, 2, 2), (4, 0, 8), (8, 4, 4)]
)
def test_block_sees_its_window_alone(
    out_dims: int, window_size: int, reach: int
) -> None:
    block = HieraBlock(
        in_dims=4, out_dims=out_dims, num_heads=2, window_size=window_size
    )
    maps = torch.randn(1, 8, 8, 4, requires_grad=True)
    block(maps)[0, 0, 0].sum().backward()
    assert maps.grad is not None
    touched = maps.grad[0].abs().sum(dim=-1) > 0
    assert touched[:reach, :reach].all()
    assert touched.sum() == reach**2


@pytest.mark.parametrize('out_dims', [4, 8])
def test_padding_takes_part_in_attention(out_dims: int) -> None:
    block = HieraBlock(in_dims=4, out_dims=out_dims, num_heads=1, window_size=4)
    maps = torch.randn(1, 6, 6, 4)
    padded = functional.pad(block.norm1(maps), (0, 0, 0, 2, 0, 2))
    corner = literal_attention(block.attention, padded[0, 4:, 4:])
    stride = out_dims // 4
    side = 2 // stride
    attended = block.attention(maps, norm=block.norm1, window_size=4)
    torch.testing.assert_close(attended[0, -side:, -side:], corner[:side, :side])


def test_pooled_block_halves_the_map_beside_a_projected_shortcut() -> None:
    block = HieraBlock(in_dims=4, out_dims=8, num_heads=2, window_size=4)
    for layer in (block.attention.output, block.mlp.layers[1]):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    maps = torch.randn(2, 8, 12, 4)
    assert block.shortcut is not None
    expected = pool(block.shortcut(block.norm1(maps)))
    assert expected.shape == (2, 4, 6, 8)
    torch.testing.assert_close(block(maps), expected)


def test_dropped_samples_keep_the_shortcut_alone() -> None:
    block = HieraBlock(
        in_dims=4, out_dims=4, num_heads=1, window_size=2, drop_path_rate=0.9
    )
    maps = torch.randn(64, 2, 2, 4)
    unchanged = (block(maps) == maps).flatten(1).all(dim=1)
    assert 32 < unchanged.sum() < 64
    assert not (block.eval()(maps) == maps).flatten(1).all(dim=1).any()


def test_odd_window_before_a_pooled_stage_is_refused() -> None:
    with pytest.raises(ValueError, match='7'):
        HieraBlock(in_dims=4, out_dims=8, num_heads=1, window_size=7)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match='10 channels in 3 heads'):
        HieraAttention(in_dims=10, out_dims=10, num_heads=3, pools=False)
