"""Pooling of regions by whole pixels, and at learned offsets."""

import torch
from torch import Tensor

from .roi_align import Regions
from .sampling import (
    RowSums,
    chunks,
    clamped_corners,
    computable,
    operator,
    ragged,
    rows_of,
)


@operator
def roi_pool_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the largest pixel of each bin of regions.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), image and corners ``(x0, y0, x1, y1)``.
        output: (N, C, height, width), gets the largest pixels; 0 in empty bins.
        argmax: As ``output``, gets their indices in the map; -1 in empty bins.
        pooled_height: Bins along the height.
        pooled_width: Bins along the width.
        spatial_scale: Pixels of the map in one unit of the corners.
    """
    features = computable(input)
    height, width = features.shape[2:]
    boxes = computable(rois).to(features)
    images = boxes[:, 0].long()
    low, high = boxes[:, 1:3] * spatial_scale, (boxes[:, 3:] + 1) * spatial_scale
    real = (high > low).all(dim=1)
    x_start, x_stop = _bin_pixels(low[:, 0], high[:, 0], pooled_width, width)
    y_start, y_stop = _bin_pixels(low[:, 1], high[:, 1], pooled_height, height)
    rows = rows_of(features)
    best = torch.full_like(output, -torch.inf, dtype=features.dtype)
    best_at = torch.full_like(argmax, -1, dtype=torch.long)
    if not output.numel():
        return
    for down in range(int((y_stop - y_start).max())):
        for right in range(int((x_stop - x_start).max())):
            y, x = y_start + down, x_start + right
            inside = (y < y_stop)[:, :, None] & (x < x_stop)[:, None]
            inside &= real[:, None, None]
            at = y.clamp(max=height - 1)[:, :, None] * width
            at = at + x.clamp(max=width - 1)[:, None]  # (N, P, Q)
            values = rows[at + (images * height * width)[:, None, None]]
            values = values.permute(0, 3, 1, 2)
            better = inside[:, None] & (values > best)
            best = values.where(better, best)
            best_at = at[:, None].where(better, best_at)
    output.copy_(best.where(best_at >= 0, 0))
    argmax.copy_(best_at)


def _bin_pixels(
    starts: Tensor, stops: Tensor, num_bins: int, size: int
) -> tuple[Tensor, Tensor]:
    """First pixel of each bin and the one after its last: (N, P), int64."""
    bin_sizes = ((stops - starts) / num_bins)[:, None]
    bins = torch.arange(num_bins, device=starts.device)
    first = (bins * bin_sizes + starts[:, None]).floor()
    after = ((bins + 1) * bin_sizes + starts[:, None]).ceil()
    clamped = (t.nan_to_num(0).clamp(0, size).long() for t in (first, after))
    low, high = clamped
    return low, high


@operator
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of :func:`roi_pool_forward`, added to ``grad_input``."""
    del pooled_height, pooled_width, spatial_scale
    grads = computable(grad_output)
    channels, height, width = grad_input.shape[1:]
    channel = torch.arange(channels, device=grads.device)[:, None, None]
    maps = rois[:, 0].long()[:, None, None, None] * channels + channel
    indices = maps * height * width + argmax.long().clamp(min=0)
    flat = grads.new_zeros(grad_input.numel())
    flat.index_add_(0, indices.flatten(), grads.where(argmax >= 0, 0).flatten())
    grad_input += flat.view_as(grad_input).to(grad_input)


def pool_at_offsets(
    rows: Tensor,
    offset: Tensor,
    regions: Regions,
    part: slice,
    gamma: float,
) -> Tensor:
    """Average the samples of bins that are moved by offsets.

    Args:
        rows: (B x H x W, C).
        offset: (n, 2, P, Q), ``(x, y)`` in parts of the region's size, or empty.
        regions: With bins that are not moved.
        part: Which n regions.
        gamma: Factor of the offsets.

    Returns:
        (n x P x Q, C), differentiable with respect to the rows and the offsets.
    """
    y, x = regions.y, regions.x
    numbers = torch.arange(len(regions.images), device=rows.device)[part]
    per_region = y.num_bins * x.num_bins
    numbers = numbers.repeat_interleave(per_region)
    bins, samples = ragged((y.grids * x.grids)[numbers])
    region = numbers[bins]
    row, column = bins % per_region // x.num_bins, bins % x.num_bins
    points_y = y.positions(region, row, samples // x.grids[region])
    points_x = x.positions(region, column, samples % x.grids[region])
    if offset.numel():
        moved = gamma * offset.flatten(2).transpose(1, 2).reshape(-1, 2)[bins]
        points_y = points_y + moved[:, 1] * y.bin_sizes[region] * y.num_bins
        points_x = points_x + moved[:, 0] * x.bin_sizes[region] * x.num_bins
    indices, weights = clamped_corners(points_y, points_x, y.size, x.size)
    indices = indices + (regions.images[region] * y.size * x.size)[:, None]
    weights = weights / (y.grids * x.grids)[region][:, None]
    sums = RowSums(
        owners=bins.repeat_interleave(4),
        indices=indices.flatten(),
        weights=weights.flatten(),
        num_sums=len(numbers),
        num_rows=len(rows),
    )
    return sums.of(rows)


@operator
def deform_roi_pool_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Average samples of regions whose bins are moved by offsets.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), image and corners ``(x0, y0, x1, y1)``.
        offset: (N, 2, height, width), ``(x, y)`` in parts of the region, or empty.
        output: (N, C, height, width), gets the pooled regions.
        pooled_height: Bins along the height.
        pooled_width: Bins along the width.
        spatial_scale: Pixels of the map in one unit of the corners.
        sampling_ratio: Samples in each bin and axis; 0 for one per pixel.
        gamma: Factor of the offsets.
    """
    if not output.numel():
        return
    features = computable(input)
    rows = rows_of(features)
    regions = Regions.of(
        rois.to(features),
        num_bins=(pooled_height, pooled_width),
        size=(input.shape[2], input.shape[3]),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=True,
    )
    moves = computable(offset).to(features)
    for part in chunks(4 * regions.num_samples()):
        moved = moves[part] if moves.numel() else moves
        pooled = pool_at_offsets(rows, moved, regions, part, gamma)
        pooled = pooled.view(-1, pooled_height, pooled_width, features.shape[1])
        output[part] = pooled.permute(0, 3, 1, 2).to(output)


@operator
def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,  # noqa: A002 - as in mmcv
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Gradients of the input and the offset, added to the tensors given for them."""
    if not grad_output.numel():
        return
    features = computable(input)
    regions = Regions.of(
        rois.to(features),
        num_bins=(pooled_height, pooled_width),
        size=(input.shape[2], input.shape[3]),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=True,
    )
    moves = computable(offset).to(features)
    rows = rows_of(features).clone().requires_grad_()
    for part in chunks(4 * regions.num_samples()):
        moved = (moves[part] if moves.numel() else moves).clone().requires_grad_()
        with torch.enable_grad():
            pooled = pool_at_offsets(rows, moved, regions, part, gamma)
        leaves = [rows, moved] if moves.numel() else [rows]
        grads = computable(grad_output)[part].permute(0, 2, 3, 1).reshape(pooled.shape)
        given = torch.autograd.grad(pooled, leaves, grads.to(pooled))
        maps = given[0].view(len(features), *input.shape[2:], -1).permute(0, 3, 1, 2)
        grad_input += maps.to(grad_input)
        if moves.numel():
            grad_offset[part] += given[1].to(grad_offset)
