"""Blocks of Hiera."""

import pytest
import torch
from torch import nn

from projects.sam2.models.hiera import HieraBlock, HieraPatchEmbedding, pool


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_patches_overlap_at_stride_four() -> None:
    embed = HieraPatchEmbedding(embed_dims=5)
    images = torch.zeros(1, 3, 32, 64, requires_grad=True)
    tokens = embed(images)
    assert tokens.shape == (1, 8, 16, 5)
    tokens[0, 2, 3].sum().backward()
    assert images.grad is not None
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 11, 9, 15)


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
