"""RoIAlign: the average or the largest of bilinear samples in each bin of a region.

The samples of a bin lie on a grid, so that the weight of a pixel in their average is a
product of weights along the two axes. Along an axis, the weights of samples in the same
pixel are added up first: with G samples closer than a pixel, G + 1 pixels are left of
the 2 G that the samples touch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .sampling import (
    RowSums,
    chunks,
    clamped_corners,
    computable,
    operator,
    ragged,
    rows_of,
    sum_rows,
)

# Finding the entries of a sum over both axes takes as long as summing this many
# channels.
CHANNELS_PER_ENTRY = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Samples of N regions along one axis of a feature map.

    Attributes:
        starts: (N,), where each region begins, in pixels.
        bin_sizes: (N,), in pixels.
        grids: (N,), samples in each bin, int64.
        num_bins: P, bins of each region.
        size: Of the map, in pixels.
        sampling_ratio: Samples in each bin; 0 for as many as a bin has pixels.
    """

    starts: Tensor
    bin_sizes: Tensor
    grids: Tensor
    num_bins: int
    size: int
    sampling_ratio: int

    @classmethod
    def of(
        cls,
        spans: Tensor,
        *,
        num_bins: int,
        size: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> 'Axis':
        """Divide regions into bins.

        Args:
            spans: (N, 2), start and end of each region, in pixels of the map.
            num_bins: Bins of each region.
            size: Of the map.
            sampling_ratio: See the attributes.
            aligned: False widens a region to one pixel at least.
        """
        starts, ends = spans.unbind(dim=-1)
        lengths = ends - starts if aligned else (ends - starts).clamp(min=1)
        bin_sizes = lengths / num_bins
        if sampling_ratio > 0:
            grids = torch.full_like(bin_sizes, sampling_ratio).long()
        else:
            grids = bin_sizes.nan_to_num(0).ceil().clamp(min=0).long()
        return cls(
            starts=starts,
            bin_sizes=bin_sizes,
            grids=grids,
            num_bins=num_bins,
            size=size,
            sampling_ratio=sampling_ratio,
        )

    def positions(self, regions: Tensor, bins: Tensor, samples: Tensor) -> Tensor:
        """Where samples lie, in pixels of the map."""
        bin_sizes = self.bin_sizes[regions]
        inside = (samples + 0.5) * bin_sizes / self.grids[regions]
        return self.starts[regions] + bins * bin_sizes + inside

    def num_pixels(self) -> Tensor:
        """Count the pixels that the samples of each bin are taken from: (N,)."""
        # Samples at fixed ratios may lie further apart than a pixel.
        return self.grids * 2 if self.sampling_ratio > 0 else self.grids + 1

    def sums(self, part: slice, maps: Tensor, num_maps: int) -> RowSums:
        """Average the samples of each bin along this axis alone.

        Args:
            part: Which n regions.
            maps: (n,), the map that each region lies on, int64.
            num_maps: M.

        Returns:
            n x P sums of M x size rows, with as many entries in each as
            :meth:`num_pixels` says.
        """
        regions = torch.arange(len(self.starts), device=self.starts.device)[part]
        regions = regions.repeat_interleave(self.num_bins)
        grids, num_pixels = self.grids[regions], self.num_pixels()[regions]
        owners, samples = ragged(grids)
        points = self.positions(regions[owners], owners % self.num_bins, samples)
        inside = (points >= -1) & (points <= self.size)
        points = points.nan_to_num(0).clamp(0, self.size - 1)
        low = points.floor()
        fraction = points - low
        low = low.long()

        ends = num_pixels.cumsum(0)
        if self.sampling_ratio > 0:
            slots = 2 * samples
        else:
            slots = low - low[(grids.cumsum(0) - grids)[owners]]
        slots = slots + (ends - num_pixels)[owners]
        high_slots = (slots + 1).minimum(ends[owners] - 1)
        bins, _ = ragged(num_pixels)
        indices, weights = torch.zeros_like(bins), fraction.new_zeros(bins.shape)
        indices.scatter_(0, high_slots, (low + 1).clamp(max=self.size - 1))
        indices.scatter_(0, slots, low)
        share = inside.to(points) / grids[owners]
        weights.scatter_add_(0, slots, (1 - fraction) * share)
        weights.scatter_add_(0, high_slots, fraction * share)
        return RowSums(
            owners=bins,
            indices=indices + maps[bins // self.num_bins] * self.size,
            weights=weights,
            num_sums=len(regions),
            num_rows=num_maps * self.size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Bins of N regions on feature maps of one size.

    Attributes:
        images: (N,), image of each region, int64.
        y: Bins along the height.
        x: Bins along the width.
    """

    images: Tensor
    y: Axis
    x: Axis

    @classmethod
    def of(
        cls,
        rois: Tensor,
        *,
        num_bins: tuple[int, int],
        size: tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool,
    ) -> 'Regions':
        """Divide regions into bins.

        Args:
            rois: (N, 5), image and corners ``(x0, y0, x1, y1)``.
            num_bins: Along height and width.
            size: Height and width of the map.
            spatial_scale: Pixels of the map in one unit of the corners.
            sampling_ratio: Samples in each bin and axis; 0 for one per pixel.
            aligned: Subtract the half pixel by which a pixel's center is off.

        Raises:
            ValueError: If a region ends before it starts; on a GPU, which would have to
                be waited for, such a region gives zeros.
        """
        boxes = computable(rois)
        spans = boxes[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
        if aligned and boxes.device.type == 'cpu':
            _refuse_negative_sizes(boxes)
        y, x = (
            Axis.of(
                spans[:, [axis, axis + 2]],
                num_bins=num_bins[1 - axis],
                size=size[1 - axis],
                sampling_ratio=sampling_ratio,
                aligned=aligned,
            )
            for axis in (1, 0)
        )
        return cls(images=boxes[:, 0].long(), y=y, x=x)

    def num_samples(self) -> Tensor:
        """Count the samples of each region: (N,)."""
        return self.y.num_bins * self.x.num_bins * self.y.grids * self.x.grids

    def num_pixels(self) -> Tensor:
        """Count the pixels that the bins of each region are summed from: (N,)."""
        num_bins = self.y.num_bins * self.x.num_bins
        return num_bins * self.y.num_pixels() * self.x.num_pixels()

    def sums(self, part: slice, num_images: int) -> RowSums:
        """Average the samples of each bin: n x P x Q sums of B x H x W pixels."""
        images = self.images[part]
        of_y = self.y.sums(part, images, num_images)
        of_x = self.x.sums(part, torch.zeros_like(images), 1)
        num_rows, num_columns = (a.num_pixels()[part] for a in (self.y, self.x))
        per_region = self.y.num_bins * self.x.num_bins
        bins, positions = ragged((num_rows * num_columns).repeat_interleave(per_region))
        width = num_columns.repeat_interleave(per_region)[bins]
        first_row = _starts(num_rows, self.y.num_bins)[:, :, None]
        first_column = _starts(num_columns, self.x.num_bins)[:, None]
        first_row, first_column = torch.broadcast_tensors(first_row, first_column)
        row = positions // width
        column = positions - row * width + first_column.flatten()[bins]
        row += first_row.flatten()[bins]
        return RowSums(
            owners=bins,
            indices=of_y.indices[row] * self.x.size + of_x.indices[column],
            weights=of_y.weights[row] * of_x.weights[column],
            num_sums=len(images) * per_region,
            num_rows=of_y.num_rows * self.x.size,
        )

    def axis_sums(self, part: slice, num_images: int) -> tuple[RowSums, RowSums]:
        """Average along the height, then the results along the width.

        Returns:
            n x P sums of B x H rows, and n x Q sums of n x W columns.
        """
        images = self.images[part]
        numbers = torch.arange(len(images), device=images.device)
        of_y = self.y.sums(part, images, num_images)
        return of_y, self.x.sums(part, numbers, len(images))

    def plan(self, channels: int) -> tuple[bool, list[slice]]:
        """Choose how to average, and cut the regions into parts that fit in memory.

        Returns:
            Whether one axis after the other is faster, as for masks, whose few channels
            cost less than to find the pixels of a bin; and the parts.
        """
        pixels = self.num_pixels()
        rows = self.y.num_bins * self.y.num_pixels()
        of_pixels = int(pixels.sum()) * (channels + CHANNELS_PER_ENTRY)
        of_rows = int(rows.sum()) * channels * self.x.size
        by_axis = of_rows < of_pixels
        values = torch.full_like(rows, self.y.num_bins * channels * self.x.size)
        return by_axis, list(chunks(values if by_axis else pixels))


def _starts(num_pixels: Tensor, num_bins: int) -> Tensor:
    """Where the entries of each region and bin begin in a flat list: (N, P)."""
    counts = num_pixels.repeat_interleave(num_bins)
    return (counts.cumsum(0) - counts).view(-1, num_bins)


def _refuse_negative_sizes(rois: Tensor) -> None:
    """Raise an error that names the first region that ends before it starts."""
    negative = (rois[:, 3:] < rois[:, 1:3]).any(dim=1)
    if negative.any():
        index = int(negative.nonzero()[0])
        sides = rois[index, 1:].tolist()
        msg = f'RoI {index} ends before it starts: {sides}; clip or drop such boxes'
        raise ValueError(msg)


@operator
def roi_align_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool regions of feature maps.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), image and corners ``(x0, y0, x1, y1)``.
        output: (N, C, height, width), gets the pooled regions.
        argmax_y: As ``output`` if the largest sample is taken: gets where it lies.
        argmax_x: As ``argmax_y``.
        aligned_height: Bins along the height.
        aligned_width: Bins along the width.
        spatial_scale: Pixels of the map in one unit of the corners.
        sampling_ratio: Samples in each bin and axis; 0 for one per pixel.
        pool_mode: 0 for the largest sample, 1 for their average.
        aligned: Subtract the half pixel by which a pixel's center is off.

    Raises:
        ValueError: If a region is aligned and ends before it starts (on a CPU).
    """
    features = computable(input)
    regions = Regions.of(
        rois.to(features),
        num_bins=(aligned_height, aligned_width),
        size=(input.shape[2], input.shape[3]),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    if not output.numel():
        return
    if pool_mode == 0:
        _largest_samples(features, regions, output, argmax_y, argmax_x)
        return
    batch, channels, height, width = input.shape
    size = (aligned_height, aligned_width)
    by_axis, parts = regions.plan(channels)
    rows = None if by_axis else rows_of(features)
    for part in parts:
        if rows is None:
            lines = features.transpose(1, 2).reshape(batch * height, channels * width)
            of_y, of_x = regions.axis_sums(part, batch)
            lines = of_y.of(lines).view(-1, size[0], channels, width)
            lines = lines.permute(0, 3, 1, 2).reshape(-1, size[0] * channels)
            pooled = of_x.of(lines).view(-1, size[1], size[0], channels)
            output[part] = pooled.permute(0, 3, 2, 1).to(output)
        else:
            pooled = regions.sums(part, batch).of(rows).view(-1, *size, channels)
            output[part] = pooled.permute(0, 3, 1, 2).to(output)


@operator
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward`, added to ``grad_input``."""
    grads = computable(grad_output)
    regions = Regions.of(
        rois.to(grads),
        num_bins=(aligned_height, aligned_width),
        size=(grad_input.shape[2], grad_input.shape[3]),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    if not grads.numel():
        return
    if pool_mode == 0:
        _spread_largest(grads, regions, argmax_y, argmax_x, grad_input)
        return
    batch, channels, height, width = grad_input.shape
    size = (aligned_height, aligned_width)
    by_axis, parts = regions.plan(channels)
    for part in parts:
        if by_axis:
            of_y, of_x = regions.axis_sums(part, batch)
            lines = grads[part].permute(0, 3, 2, 1).reshape(-1, size[0] * channels)
            lines = of_x.transposed().of(lines).view(-1, width, size[0], channels)
            lines = lines.permute(0, 2, 3, 1).reshape(-1, channels * width)
            maps = of_y.transposed().of(lines).view(batch, height, channels, width)
            grad_input += maps.transpose(1, 2).to(grad_input)
        else:
            sums = grads[part].permute(0, 2, 3, 1).reshape(-1, channels)
            maps = regions.sums(part, batch).transposed().of(sums)
            maps = maps.view(batch, height, width, channels)
            grad_input += maps.permute(0, 3, 1, 2).to(grad_input)


def _largest_samples(
    features: Tensor,
    regions: Regions,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
) -> None:
    """Take the largest sample of each bin and channel, and where it lies."""
    y, x = regions.y, regions.x
    numbers = torch.arange(len(regions.images), device=features.device)[:, None, None]
    row = torch.arange(y.num_bins, device=features.device)[:, None]
    column = torch.arange(x.num_bins, device=features.device)
    rows = rows_of(features)
    num_samples = (y.grids * x.grids)[:, None, None]
    best = torch.full_like(output, -10000, dtype=rows.dtype)  # of the compiled operator
    best_y, best_x = torch.full_like(best, -1), torch.full_like(best, -1)
    for sample in range(int(num_samples.max())):
        width = x.grids[:, None, None].clamp(min=1)
        points_y = y.positions(numbers, row, sample // width)  # (N, P, 1)
        points_x = x.positions(numbers, column, sample % width)  # (N, 1, Q)
        points = torch.broadcast_tensors(points_y, points_x)
        indices, weights = clamped_corners(points[0], points[1], y.size, x.size)
        indices = indices + (regions.images * y.size * x.size)[:, None, None, None]
        values = sum_rows(rows, indices.view(-1, 4), weights.view(-1, 4))
        values = values.view(*points[0].shape, -1).permute(0, 3, 1, 2)
        better = (values > best) & (sample < num_samples)[:, None]
        best = values.where(better, best)
        best_y = points[0][:, None].where(better, best_y)
        best_x = points[1][:, None].where(better, best_x)
    output.copy_(best)
    argmax_y.copy_(best_y)
    argmax_x.copy_(best_x)


def _spread_largest(
    grads: Tensor,
    regions: Regions,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
) -> None:
    """Add the gradients to the pixels of the largest samples."""
    height, width = grad_input.shape[2:]
    points = argmax_y.to(grads), argmax_x.to(grads)
    indices, weights = clamped_corners(*points, height, width)
    weights = weights.where(
        (argmax_y != -1)[..., None], 0
    )  # -1 where nothing is sampled
    channel = torch.arange(grads.shape[1], device=grads.device)[:, None, None, None]
    image = regions.images[:, None, None, None, None]
    indices = indices + (image * grads.shape[1] + channel) * height * width
    flat = grads.new_zeros(grad_input.numel())
    flat.index_add_(0, indices.flatten(), (weights * grads[..., None]).flatten())
    grad_input += flat.view_as(grad_input)
