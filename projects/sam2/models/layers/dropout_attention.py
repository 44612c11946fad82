"""Attention with dropout on a CPU, without its matrix of weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from projects.sam2.models.layers.dropout import KeepMasks, draw_seed

__all__ = ['dropout_attention']

# Rows of the weights that are worked on at once: they stay in the cache.
NUM_ROWS = 256


def dropout_attention(query: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
    """Scaled dot-product attention whose weights are dropped at random.

    torch's fast kernels for the CPU know no dropout, and the slow one keeps three
    copies of the weights. This one works through some rows at a time, keeps no
    weights, and makes them again in the backward pass, the dropped ones among them.

    Args:
        query: (..., N, C), on the CPU.
        key: (..., L, C).
        value: (..., L, Cv).
        rate: Share of weights dropped, in (0, 1).

    Returns:
        (..., N, Cv); differentiable once.
    """
    flat = [tensor.flatten(0, -3) for tensor in (query, key, value)]
    gathered: Tensor = _DropoutAttention.apply(*flat, KeepMasks(draw_seed(), rate))  # type: ignore[no-untyped-call]  # torch
    restored: Tensor = gathered.unflatten(0, query.shape[:-2])
    return restored


@dataclass(slots=True, kw_only=True)
class _Rows:
    """Some rows of the weights of one head, in buffers that are used again.

    Attributes:
        head: Which of the flattened heads.
        rows: Which queries.
        query: Their scaled queries, (R, C).
        key: (L, C).
        value: (L, Cv).
        weights: To be filled with the weights, (R, L).
        kept: True where a weight is kept, (R * L,).
    """

    head: int
    rows: slice
    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    kept: NDArray[np.bool_]

    def score(self) -> Tensor:
        """Fill the weights with their logits."""
        return torch.mm(self.query, self.key.t(), out=self.weights)

    def drop(self, tensor: Tensor) -> Tensor:
        """Set what is dropped to 0, in place, (R, L)."""
        elements = tensor.view(-1).numpy()
        np.multiply(elements, self.kept, out=elements)
        return tensor


def _rows(
    query: Tensor, key: Tensor, value: Tensor, masks: KeepMasks
) -> Iterator[_Rows]:
    """Go through all weights; the same masks drop the same ones."""
    num_heads, num_queries, channels = query.shape
    masks.restart()
    weights = query.new_empty(min(NUM_ROWS, num_queries), key.shape[1])
    for head in range(num_heads):
        for start in range(0, num_queries, NUM_ROWS):
            rows = slice(start, min(start + NUM_ROWS, num_queries))
            num_rows = rows.stop - start
            yield _Rows(
                head=head,
                rows=rows,
                query=query[head, rows] * channels**-0.5,
                key=key[head],
                value=value[head],
                weights=weights[:num_rows],
                kept=masks.draw(num_rows * key.shape[1]),
            )


class _DropoutAttention(torch.autograd.Function):
    """Attention in rows; from the forward pass only sums of weights are kept."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch gives it attributes at will
        query: Tensor,
        key: Tensor,
        value: Tensor,
        masks: KeepMasks,
    ) -> Tensor:
        """Gather (O, N, Cv) from the values."""
        num_heads, num_queries = query.shape[:2]
        gathered = query.new_empty(num_heads, num_queries, value.shape[2])
        log_sums = query.new_empty(num_heads, num_queries, 1)
        for part in _rows(query, key, value, masks):
            logits = part.score()
            sums = logits.logsumexp(dim=1, keepdim=True)
            log_sums[part.head, part.rows] = sums
            weights = part.drop(logits.sub_(sums).exp_())
            torch.mm(weights, part.value, out=gathered[part.head, part.rows])
        gathered.mul_(masks.scale)
        ctx.save_for_backward(query, key, value, gathered, log_sums)
        ctx.masks = masks
        return gathered

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  as above
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        """Make the weights again, and differentiate them row by row."""
        query, key, value, gathered, log_sums = ctx.saved_tensors
        of_query = torch.empty_like(query)
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        # What softmax subtracts: the mean of the weights' gradients by the weights.
        means = (gradient * gathered).sum(dim=2, keepdim=True)
        scaled = gradient * ctx.masks.scale
        buffer = query.new_empty(min(NUM_ROWS, query.shape[1]), key.shape[1])
        for part in _rows(query, key, value, ctx.masks):
            place = part.head, part.rows
            weights = part.score().sub_(log_sums[place]).exp_()
            of_logits = buffer[: len(weights)]
            torch.mm(scaled[place], part.value.t(), out=of_logits)
            part.drop(of_logits).sub_(means[place]).mul_(weights)
            part.drop(weights)
            of_value[part.head].addmm_(weights.t(), scaled[place])
            of_key[part.head].addmm_(of_logits.t(), part.query)
            torch.mm(of_logits, part.key, out=of_query[place])
        return of_query.mul_(query.shape[2] ** -0.5), of_key, of_value, None
