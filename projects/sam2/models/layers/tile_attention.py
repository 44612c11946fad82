"""Attention for inference on a CPU, whose values may be narrower than the keys."""

import torch
from torch import Tensor

__all__ = ['tile_attention']

# Sides of the tiles of weights: they stay in the cache.
NUM_ROWS, NUM_COLUMNS = 256, 1024


def tile_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, one tile of its weights after another.

    The softmax is summed up on the way (Milakov and Gimelshein, 2018). torch's fast
    kernel for the CPU wants values as wide as the keys.

    Args:
        query: (..., N, C), on the CPU and without a graph.
        key: (..., L, C).
        value: (..., L, Cv).

    Returns:
        (..., N, Cv).
    """
    queries, keys, values = (
        tensor.flatten(0, -3).unbind() for tensor in (query, key, value)
    )
    gathered = [_gather(*head) for head in zip(queries, keys, values, strict=True)]
    restored: Tensor = torch.stack(gathered).unflatten(0, query.shape[:-2])
    return restored


def _gather(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one head, (N, Cv)."""
    # Several threads share a tile.
    num_rows = NUM_ROWS * torch.get_num_threads()
    query = query * query.shape[1] ** -0.5
    gathered = query.new_zeros(len(query), value.shape[1])
    highest = query.new_full((len(query), 1), -torch.inf)
    sums = torch.zeros_like(highest)
    buffer = query.new_empty(min(num_rows, len(query)) * min(NUM_COLUMNS, len(key)))
    for keys, values in zip(
        key.split(NUM_COLUMNS), value.split(NUM_COLUMNS), strict=True
    ):
        for start in range(0, len(query), num_rows):
            rows = slice(start, start + num_rows)
            some = query[rows]
            tile = buffer[: len(some) * len(keys)].view(len(some), len(keys))
            torch.mm(some, keys.t(), out=tile)
            high = torch.maximum(highest[rows], tile.amax(dim=1, keepdim=True))
            tile.sub_(high).exp_()
            # What was gathered before was measured against a lower maximum.
            shrink = highest[rows].sub_(high).exp_()
            sums[rows] = sums[rows].mul_(shrink).add_(tile.sum(dim=1, keepdim=True))
            gathered[rows].mul_(shrink).addmm_(tile, values)
            highest[rows] = high
    return gathered.div_(sums)
