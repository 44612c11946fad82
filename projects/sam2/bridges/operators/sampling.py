"""Weighted sums of the rows of a matrix, which most operators are made of.

Pooling a region, deforming a convolution and attending to sampled points all take
weighted sums of a few pixels of a feature map. With the map as a matrix of pixels by
channels, each such sum is one bag of ``torch.nn.functional.embedding_bag``, which never
stores the pixels that it reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

P = ParamSpec('P')
R = TypeVar('R')

ENTRIES_PER_CHUNK = 2**22  # indices and weights held at a time: about 200 MB


def operator(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function without gradients and without autocast, as compiled code does."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = (v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        device = next(tensors).device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return run


def computable(tensor: Tensor) -> Tensor:
    """Make a tensor float32, unless it is float64; without its gradient."""
    return tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()


def rows_of(feature_map: Tensor, groups: int = 1) -> Tensor:
    """Turn a feature map into a matrix with a row for each pixel.

    Args:
        feature_map: (B, G x C, H, W).
        groups: G, how many groups of channels have rows of their own.

    Returns:
        (B x G x H x W, C).
    """
    channels = feature_map.shape[1] // groups
    grouped = feature_map.reshape(-1, channels, *feature_map.shape[2:])
    return grouped.permute(0, 2, 3, 1).reshape(-1, channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSums:
    """Weighted sums of different numbers of rows: a sparse matrix of N sums by R rows.

    Attributes:
        owners: (E,), the sum that each entry belongs to, in ascending order, int64.
        indices: (E,), the row of each entry, int64.
        weights: (E,).
        num_sums: N; a sum without entries is zero.
        num_rows: R.
    """

    owners: Tensor
    indices: Tensor
    weights: Tensor
    num_sums: int
    num_rows: int

    def of(self, rows: Tensor) -> Tensor:
        """Sum rows (R, C) to (N, C); differentiable in the rows and the weights."""
        if not len(self.indices) or not rows.numel():
            return rows.new_zeros(self.num_sums, rows.shape[1])
        numbers = torch.arange(self.num_sums, device=rows.device)
        starts = torch.searchsorted(self.owners, numbers)
        return F.embedding_bag(
            self.indices, rows, starts, mode='sum', per_sample_weights=self.weights
        )

    def transposed(self) -> 'RowSums':
        """Take the matrix that spreads the sums over the rows: the rows' gradient."""
        # Sorted by row, the entries of a row are a sum again: no row is written twice,
        # so that the result is the same in each run, and it is faster than adding.
        rows, order = self.indices.sort(stable=True)
        return RowSums(
            owners=rows,
            indices=self.owners[order],
            weights=self.weights[order],
            num_sums=self.num_rows,
            num_rows=self.num_sums,
        )


class SumRows(Function):
    """Sums of rows, see :func:`sum_rows`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, rows: Tensor, indices: Tensor, weights: Tensor
    ) -> Tensor:
        """Sum the rows of each bag."""
        ctx.save_for_backward(rows, indices, weights)
        return F.embedding_bag(indices, rows, mode='sum', per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, Tensor | None]:
        """Spread the gradients over the rows, and multiply them with the rows."""
        rows, indices, weights = ctx.saved_tensors
        (grad_sums,) = (grad.contiguous() for grad in grads)
        grad_rows = grad_weights = None
        if ctx.needs_input_grad[0]:
            bags = torch.arange(len(indices), device=indices.device)
            bags = bags.repeat_interleave(indices.shape[1])
            sums = RowSums(
                owners=bags,
                indices=indices.flatten(),
                weights=weights.flatten(),
                num_sums=len(indices),
                num_rows=len(rows),
            )
            grad_rows = sums.transposed().of(grad_sums)
        if ctx.needs_input_grad[2]:
            with torch.enable_grad():
                of_bag = weights.detach().requires_grad_()
                summed = F.embedding_bag(
                    indices, rows, mode='sum', per_sample_weights=of_bag
                )
            (grad_weights,) = torch.autograd.grad(summed, of_bag, grad_sums)
        return grad_rows, None, grad_weights


def sum_rows(rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum the rows of each bag, multiplied with their weights.

    Args:
        rows: (R, C).
        indices: (N, K), the rows of each bag, int64.
        weights: (N, K), of the type of the rows.

    Returns:
        (N, C), differentiable with respect to the rows and the weights.
    """
    if not len(indices) or not indices.shape[1] or not rows.numel():
        return rows.new_zeros(len(indices), rows.shape[1])
    sums: Tensor = SumRows.apply(rows, indices, weights)  # type: ignore[no-untyped-call]
    return sums


def corners(
    y: Tensor, x: Tensor, height: int | Tensor, width: int | Tensor
) -> tuple[Tensor, Tensor]:
    """Find the four pixels around points, and their weights in a bilinear sample.

    Pixels outside of the map count as zero, so that a sample fades out over one pixel
    around the map.

    Args:
        y: (...), in pixels; pixel 0 has its center at 0.
        x: (...).
        height: Of the map; a tensor if the points lie on maps of different sizes.
        width: Of the map.

    Returns:
        Indices ``row * width + column`` inside of the map, and weights, both (..., 4);
        the weights are differentiable with respect to the points.
    """
    top, left = y.detach().floor(), x.detach().floor()
    down, right = y - top, x - left
    rows = torch.stack([top, top, top + 1, top + 1], dim=-1)
    columns = torch.stack([left, left + 1, left, left + 1], dim=-1)
    weights = torch.stack(
        [
            (1 - down) * (1 - right),
            (1 - down) * right,
            down * (1 - right),
            down * right,
        ],
        dim=-1,
    )
    if isinstance(height, Tensor) and isinstance(width, Tensor):
        height, width = height[..., None], width[..., None]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Indices of pixels outside are never read as such; points may be infinite or NaN.
    rows, columns = rows.where(inside, 0), columns.where(inside, 0)
    return (rows * width + columns).long(), weights.where(inside, 0)


def clamped_corners(
    y: Tensor, x: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Find pixels and weights as :func:`corners` does, but with a replicated border.

    Points up to a pixel outside of the map take the value of the border; points
    further out, and points that are NaN, have the value zero.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    indices, weights = corners(
        y.clamp(0, height - 1), x.clamp(0, width - 1), height, width
    )
    return indices, weights.where(inside[..., None], 0)


def ragged(counts: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
    """Enumerate lists of different lengths in one flat list.

    Args:
        counts: (N,), length of each list, int64.
        total: Sum of the counts if it is known: a GPU need not be waited for.

    Returns:
        Number of the list and position in its list, for each item, both int64.
    """
    numbers = torch.arange(len(counts), device=counts.device)
    owners = numbers.repeat_interleave(counts, output_size=total)
    starts = counts.cumsum(0) - counts
    positions = torch.arange(len(owners), device=counts.device) - starts[owners]
    return owners, positions


def chunks(sizes: Tensor) -> Iterator[slice]:
    """Cut a list of jobs into parts that fit in memory.

    Args:
        sizes: (N,), entries that each job needs, int64.

    Yields:
        Slices of the list, in order; a job that is larger than a part stands alone.
    """
    ends = sizes.cumsum(0).tolist()
    start = 0
    for stop, end in enumerate(ends, start=1):
        before = ends[start - 1] if start else 0
        if stop == len(ends) or ends[stop] - before > ENTRIES_PER_CHUNK:
            if end > before or stop == len(ends):
                yield slice(start, stop)
            start = stop
