"""Attention in windows against a literal one."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from projects.sam2.models.hiera import HieraAttention
from projects.sam2.models.layers import pool, windows
from projects.sam2.models.layers.windows import join_windows, split_windows

SIDE = 4


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


def test_pooling_takes_the_largest_of_four() -> None:
    maps = torch.arange(16.0).view(1, 4, 4, 1)
    assert pool(maps).flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize('pools', [False, True])
def test_attention_equals_the_literal_one(*, pools: bool) -> None:
    attention = HieraAttention(in_dims=6, out_dims=12, num_heads=3, pools=pools)
    maps = torch.randn(3, 4, 6, 6)
    expected = torch.stack([literal_attention(attention, one) for one in maps])
    torch.testing.assert_close(attention(maps), expected)


def literal_windows(attention: HieraAttention, normed: Tensor) -> Tensor:
    """All windows of padded maps (B, h, w, C), one after another."""
    height, width = normed.shape[1:3]
    padded = functional.pad(normed, (0, 0, 0, -width % SIDE, 0, -height % SIDE))
    rows = [
        torch.cat(
            [
                torch.stack([literal_attention(attention, one) for one in batch])
                for batch in band.split(SIDE, dim=2)
            ],
            dim=2,
        )
        for band in padded.split(SIDE, dim=1)
    ]
    stride = 2 if attention.pools else 1
    return torch.cat(rows, dim=1)[:, : height // stride, : width // stride]


@pytest.mark.parametrize('size', [(8, 4), (6, 10), (2, 6), (8, 6), (9, 7), (10, 5)])
@pytest.mark.parametrize('out_dims', [6, 12])
@pytest.mark.parametrize('plain_cpu', [True, False])
def test_padding_takes_part_in_attention(
    size: tuple[int, int],
    out_dims: int,
    *,
    plain_cpu: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(windows, 'is_plain_cpu', lambda _: plain_cpu)
    attention = HieraAttention(
        in_dims=6, out_dims=out_dims, num_heads=3, pools=out_dims == 12
    ).double()
    norm = nn.LayerNorm(6).double()
    maps = torch.randn(2, *size, 6, dtype=torch.float64, requires_grad=True)
    literal = literal_windows(attention, norm(maps))
    attended = attention(norm(maps), window_size=SIDE)
    torch.testing.assert_close(attended, literal)
    weights = torch.randn_like(literal)
    wanted = (maps, *attention.parameters(), *norm.parameters())
    expected = torch.autograd.grad((weights * literal).sum(), wanted)
    found = torch.autograd.grad((weights * attended).sum(), wanted)
    torch.testing.assert_close(found, expected)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match='10 channels in 3 heads'):
        HieraAttention(in_dims=10, out_dims=10, num_heads=3, pools=False)


def test_windows_are_cut_row_by_row_and_join_to_what_was_cut() -> None:
    maps = torch.randn(2, 6, 9, 3)
    cut = split_windows(maps, (2, 3))
    assert torch.equal(cut[4], maps[0, 2:4, 3:6])
    assert torch.equal(join_windows(cut, 3, 3), maps)
