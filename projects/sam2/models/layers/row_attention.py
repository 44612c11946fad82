"""Attention for training on a CPU, with dropout, some rows of weights at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from projects.sam2.models.layers.dropout import KeepMasks, draw_seed

__all__ = ['Keys', 'row_attention']

# Rows of the weights that are worked on at once: they stay in the cache.
NUM_ROWS = 256
# Weights of a head up to this size are kept: a hundred such heads are worth the time
# that making them again takes, larger ones are what fills the memory.
KEPT_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys, by what they are made of: that is kept in their place.

    Attributes:
        sources: What they are made of, with its graph: tokens (O, L, ...), weights.
        make: Makes keys of these, the same each time, and reads nothing else that
            may change.
    """

    sources: tuple[Tensor, ...]
    make: Callable[..., Tensor]

    def made(self) -> Tensor:
        """Make them.

        Returns:
            (O, heads, L, C).
        """
        return self.make(*self.sources)


def row_attention(
    query: Tensor, keys: Keys, value: Tensor, rate: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention whose weights may be dropped at random.

    torch's fast kernels for the CPU know no dropout, nor values of other widths than
    the keys, and the slow one keeps three copies of the weights. This one works through
    some rows at a time, keeps the weights once where they are small, and makes them
    again in the backward pass where they are not, the dropped ones among them. Of the
    keys it keeps what they are made of.

    Args:
        query: (..., N, C), on the CPU.
        keys: Make (..., L, C).
        value: (..., L, Cv), kept.
        rate: Share of weights dropped, in [0, 1); those that stay are scaled up.

    Returns:
        What is gathered, (..., N, Cv), and the sum of the weights that each query has
        left, (..., N, 1), which is 1 without dropout; both differentiable once.
    """
    masks = KeepMasks(draw_seed(), rate) if rate else None
    gathered, left = _RowAttention.apply(  # type: ignore[no-untyped-call]  # torch
        *(tensor.flatten(0, -3) for tensor in (query, keys.made(), value)),
        _Means(
            # Their gradients go by the keys.
            sources=tuple(source.detach() for source in keys.sources),
            make_keys=keys.make,
            masks=masks,
        ),
    )
    heads = query.shape[:-2]
    return gathered.unflatten(0, heads), left.unflatten(0, heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Some queries of one head.

    Attributes:
        head: Which of the flattened heads.
        rows: Which queries.
        query: Those, scaled, (R, C).
        key: (L, C).
        value: (L, Cv).
    """

    head: int
    rows: slice
    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """By what the backward pass makes again what is not kept.

    Attributes:
        sources: What the keys are made of, without a graph.
        make_keys: Makes them.
        masks: Which weights stay; None for all.
    """

    sources: tuple[Tensor, ...]
    make_keys: Callable[..., Tensor]
    masks: KeepMasks | None


def _parts(query: Tensor, key: Tensor, value: Tensor) -> Iterator[_Rows]:
    """Go through all weights."""
    num_heads, num_queries, channels = query.shape
    for head in range(num_heads):
        for start in range(0, num_queries, NUM_ROWS):
            rows = slice(start, min(start + NUM_ROWS, num_queries))
            yield _Rows(
                head=head,
                rows=rows,
                query=query[head, rows] * channels**-0.5,
                key=key[head],
                value=value[head],
            )


def _mark_dropped(weights: Tensor, masks: KeepMasks | None) -> Tensor:
    """Turn the sign of what is dropped, in place, so that both can be told later."""
    if masks is not None:
        elements = weights.view(-1).numpy()
        signs = masks.draw(len(elements)).view(np.int8) * np.int8(2) - np.int8(1)
        np.multiply(elements, signs, out=elements)
    return weights


class _RowAttention(torch.autograd.Function):
    """Attention in rows."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        query: Tensor,
        key: Tensor,
        value: Tensor,
        means: _Means,
    ) -> tuple[Tensor, Tensor]:
        """Gather (O, N, Cv) from the values, and sum up weights, (O, N, 1)."""
        masks = means.masks
        shape = *query.shape[:2], key.shape[1]
        gathered = query.new_empty(*shape[:2], value.shape[2])
        sums, left = query.new_empty(*shape[:2], 1), query.new_empty(*shape[:2], 1)
        size = shape[1] * shape[2] * query.element_size()
        kept = query.new_empty(shape) if size <= KEPT_BYTES else None
        buffers = query.new_empty(2, min(NUM_ROWS, shape[1]), shape[2])
        for part in _parts(query, key, value):
            place = part.head, part.rows
            weights, remaining = buffers[:, : len(part.query)]
            weights = weights if kept is None else kept[place]
            torch.mm(part.query, part.key.t(), out=weights)
            torch.logsumexp(weights, dim=1, keepdim=True, out=sums[place])
            _mark_dropped(weights.sub_(sums[place]).exp_(), masks)
            torch.clamp_min(weights, 0, out=remaining)
            torch.sum(remaining, dim=1, keepdim=True, out=left[place])
            torch.mm(remaining, part.value, out=gathered[place])
        if masks is not None:
            gathered.mul_(masks.scale)
            left.mul_(masks.scale)
        ctx.save_for_backward(query, value, gathered, left, sums, kept, *means.sources)
        ctx.make_keys, ctx.masks = means.make_keys, masks
        return gathered, left

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        of_gathered: Tensor,
        of_left: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the weights row by row, made again if they were not kept."""
        query, value, gathered, left, sums, kept, *sources = ctx.saved_tensors
        key = ctx.make_keys(*sources).flatten(0, -3)
        masks: KeepMasks | None = ctx.masks
        of_query = torch.empty_like(query)
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        # What softmax subtracts: the mean of the weights' gradients by the weights.
        means = (of_gathered * gathered).sum(dim=2, keepdim=True) + of_left * left
        scale = 1.0 if masks is None else masks.scale
        of_gathered, of_left = of_gathered * scale, of_left * scale
        if masks is not None:
            masks.restart()
        buffers = query.new_empty(3, min(NUM_ROWS, query.shape[1]), key.shape[1])
        for part in _parts(query, key, value):
            place = part.head, part.rows
            weights, remaining, of_weights = buffers[:, : len(part.query)]
            if kept is None:
                torch.mm(part.query, part.key.t(), out=weights)
                _mark_dropped(weights.sub_(sums[place]).exp_(), masks)
            else:
                weights = kept[place]
            torch.clamp_min(weights, 0, out=remaining)
            of_value[part.head].addmm_(remaining.t(), of_gathered[place])
            torch.mm(of_gathered[place], part.value.t(), out=of_weights)
            of_weights.add_(of_left[place])
            # What was dropped had no part in the result, but in the sum.
            torch.ops.aten.threshold_backward.grad_input(
                of_weights, weights, 0, grad_input=of_weights
            )
            of_logits = of_weights.sub_(means[place])
            of_logits.mul_(torch.abs(weights, out=remaining))
            of_key[part.head].addmm_(of_logits.t(), part.query)
            torch.mm(of_logits, part.key, out=of_query[place])
        of_query.mul_(query.shape[2] ** -0.5)
        return of_query, of_key, of_value, None
