"""Deformable convolution and attention, which sample a map at learned points."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .sampling import (
    ENTRIES_PER_CHUNK,
    computable,
    corners,
    operator,
    rows_of,
    sum_rows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Shape of a deformable convolution.

    Attributes:
        kernel: Height and width of the kernel.
        stride: Along height and width.
        padding: Along height and width.
        dilation: Along height and width.
        groups: Of channels that are convolved apart.
        deform_groups: D, groups of channels with offsets of their own.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    @property
    def num_taps(self) -> int:
        """K, values of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def output_size(self, size: torch.Size) -> tuple[int, int]:
        """Height and width of the output of an input of that shape."""
        height, width = (
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, padding, dilation in zip(
                size[-2:],
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        )
        return height, width

    def grid(self, axis: int, outputs: int, like: Tensor) -> Tensor:
        """Where the taps lie along an axis without offsets: (K, outputs), in pixels."""
        taps = torch.arange(self.num_taps, device=like.device)
        taps = taps // self.kernel[1] if axis == 0 else taps % self.kernel[1]
        starts = torch.arange(outputs, device=like.device) * self.stride[axis]
        positions = starts + taps[:, None] * self.dilation[axis] - self.padding[axis]
        return positions.to(like)


def convolve(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Convolve one image at points that are moved by offsets.

    Args:
        features: (C, H, W).
        weight: (O, C / groups, kernel height, kernel width).
        offset: (D x K x 2, height, width) of the output, ``(y, x)`` in pixels.
        mask: (D x K, height, width), factors of the samples, or None.
        geometry: Of the convolution.

    Returns:
        (O, height, width), differentiable with respect to all tensors.
    """
    height, width = geometry.output_size(features.shape)
    groups, num_taps = geometry.deform_groups, geometry.num_taps
    moved = offset.view(groups, num_taps, 2, height, width)
    y = moved[:, :, 0] + geometry.grid(0, height, offset)[:, :, None]
    x = moved[:, :, 1] + geometry.grid(1, width, offset)[:, None, :]
    indices, weights = corners(y, x, *features.shape[1:])  # (D, K, height, width, 4)
    if mask is not None:
        weights = weights * mask.view(groups, num_taps, height, width, 1)
    group = torch.arange(groups, device=features.device)[:, None, None, None, None]
    indices = indices + group * features[0].numel()
    # One bag for each output pixel, group and tap: the columns of the convolution.
    bags = [t.permute(2, 3, 0, 1, 4).reshape(-1, 4) for t in (indices, weights)]
    columns = sum_rows(rows_of(features[None], groups), bags[0], bags[1])
    columns = columns.view(height * width, groups, num_taps, -1)
    columns = columns.transpose(2, 3).reshape(height * width, geometry.groups, -1)
    kernels = weight.reshape(geometry.groups, -1, columns.shape[-1])
    output = torch.einsum('pgc,goc->gop', columns, kernels)
    return output.reshape(-1, height, width)


@operator
def deform_conv_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **sizes: int,
) -> None:
    """Deformable convolution.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kH, kW).
        offset: (B, deformable_group x kH x kW x 2, height, width) of the output.
        output: (B, O, height, width), gets the result.
        columns: Not used, like ``ones``: memory of the compiled operator.
        ones: Not used.
        sizes: See :func:`_geometry`.

    Raises:
        ValueError: If the offsets do not fit the output.
    """
    del columns, ones
    geometry = _geometry(**sizes)
    _check_offset(input, offset, geometry)
    _forward(input, weight, offset, None, output, geometry)


@operator
def deform_conv_backward_input(
    input: Tensor,  # noqa: A002 - as in mmcv
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradInput: Tensor,  # noqa: N803
    gradOffset: Tensor,  # noqa: N803
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Gradients of the input and the offset, written to ``gradInput, gradOffset``."""
    del columns
    geometry = _geometry(**sizes)
    _check_offset(input, offset, geometry)
    grads = {'features': gradInput, 'offset': gradOffset}
    _backward(input, weight, offset, None, gradOutput, grads, geometry)


@operator
def deform_conv_backward_parameters(
    input: Tensor,  # noqa: A002 - as in mmcv
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradWeight: Tensor,  # noqa: N803
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **sizes: int,
) -> None:
    """Gradient of the weight, times ``scale``, added to ``gradWeight``."""
    del columns, ones
    geometry = _geometry(**sizes)
    _check_offset(input, offset, geometry)
    grad_weight = torch.zeros_like(gradWeight)
    grads = {'weight': grad_weight}
    _backward(input, gradWeight, offset, None, gradOutput, grads, geometry)
    gradWeight.add_(grad_weight, alpha=scale)


@operator
def modulated_deform_conv_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Deformable convolution with factors of the samples.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kernel_h, kernel_w).
        bias: (O,), or empty.
        ones: Not used, like ``columns``: memory of the compiled operator.
        offset: (B, deformable_group x kernel_h x kernel_w x 2, height, width) of the
            output; of a larger tensor the first values of each image are read, as in
            mmcv: DyHead in mmdetection relies on it.
        mask: (B, deformable_group x kernel_h x kernel_w, height, width), like offset.
        output: (B, O, height, width), gets the result.
        columns: Not used.
        with_bias: Whether the bias is added.
        sizes: See :func:`_modulated_geometry`.

    Raises:
        ValueError: If there are fewer offsets or factors than samples.
    """
    del ones, columns
    geometry = _modulated_geometry(**sizes)
    _forward(input, weight, offset, mask, output, geometry)
    if with_bias:
        output += bias[:, None, None].to(output)


@operator
def modulated_deform_conv_backward(
    input: Tensor,  # noqa: A002 - as in mmcv
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Gradients of all inputs, written to the tensors named after them."""
    del bias, ones, columns
    geometry = _modulated_geometry(**sizes)
    grads = {
        'features': grad_input,
        'weight': grad_weight,
        'offset': grad_offset,
        'mask': grad_mask,
    }
    _backward(input, weight, offset, mask, grad_output, grads, geometry)
    if with_bias:
        grad_bias += computable(grad_output).sum(dim=(0, 2, 3)).to(grad_bias)


def _geometry(
    *,
    kW: int,  # noqa: N803 - mmcv's keywords
    kH: int,  # noqa: N803
    dW: int,  # noqa: N803
    dH: int,  # noqa: N803
    padW: int,  # noqa: N803
    padH: int,  # noqa: N803
    dilationW: int,  # noqa: N803
    dilationH: int,  # noqa: N803
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> Geometry:
    """Shape of a convolution; ``d`` is the stride, ``im2col_step`` is not used."""
    del im2col_step
    return Geometry(
        kernel=(kH, kW),
        stride=(dH, dW),
        padding=(padH, padW),
        dilation=(dilationH, dilationW),
        groups=group,
        deform_groups=deformable_group,
    )


def _modulated_geometry(
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
) -> Geometry:
    """Shape of a modulated convolution."""
    return Geometry(
        kernel=(kernel_h, kernel_w),
        stride=(stride_h, stride_w),
        padding=(pad_h, pad_w),
        dilation=(dilation_h, dilation_w),
        groups=group,
        deform_groups=deformable_group,
    )


def _check_offset(features: Tensor, offset: Tensor, geometry: Geometry) -> None:
    """Refuse offsets of another shape than the output needs."""
    channels = geometry.deform_groups * geometry.num_taps * 2
    expected = (len(features), channels, *geometry.output_size(features.shape))
    if tuple(offset.shape) != expected:
        msg = f'offset of shape {tuple(offset.shape)}: the output needs {expected}'
        raise ValueError(msg)


def _of_output(tensor: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Read the first values of one image's tensor as channels of the output's size."""
    count = channels * size[0] * size[1]
    if tensor.numel() < count:
        msg = (
            f'offset or mask of shape {tuple(tensor.shape)}: {count} values are needed '
            f'for {channels} channels of an output of {size[0]} x {size[1]}'
        )
        raise ValueError(msg)
    return tensor.flatten()[:count].view(channels, *size)


def _image_tensors(
    features: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tensors of one image in the shapes that :func:`convolve` takes."""
    size = geometry.output_size(features.shape)
    samples = geometry.deform_groups * geometry.num_taps
    moved = _of_output(offset, samples * 2, size)
    return features, moved, None if mask is None else _of_output(mask, samples, size)


def _forward(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    output: Tensor,
    geometry: Geometry,
) -> None:
    """Convolve each image, which bounds the memory by that of one image."""
    kernels = computable(weight)
    for index, image in enumerate(features):
        tensors = _image_tensors(
            computable(image),
            computable(offset[index]),
            None if mask is None else computable(mask[index]),
            geometry,
        )
        output[index] = convolve(tensors[0], kernels, *tensors[1:], geometry)


def _backward(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    grad_output: Tensor,
    grads: dict[str, Tensor],
    geometry: Geometry,
) -> None:
    """Add gradients to tensors, by the name of what they are the gradients of."""
    for index, image in enumerate(features):
        leaves = {
            'features': computable(image),
            'weight': computable(weight),
            'offset': computable(offset[index]),
        }
        if mask is not None:
            leaves['mask'] = computable(mask[index])
        for name in grads:
            leaves[name] = leaves[name].clone().requires_grad_()
        with torch.enable_grad():
            tensors = _image_tensors(
                leaves['features'], leaves['offset'], leaves.get('mask'), geometry
            )
            output = convolve(tensors[0], leaves['weight'], *tensors[1:], geometry)
        given = torch.autograd.grad(
            output,
            [leaves[name] for name in grads],
            computable(grad_output[index]),
        )
        for (name, total), grad in zip(grads.items(), given, strict=True):
            part = total if name == 'weight' else total[index]
            part += grad.to(part)


@operator
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Attend to sampled points of several feature maps.

    Args:
        value: (B, S, heads, C), the pixels of all maps.
        value_spatial_shapes: (L, 2), height and width of each map.
        value_level_start_index: (L,), where each map begins in ``value``.
        sampling_locations: (B, Q, heads, L, P, 2), ``(x, y)`` in [0, 1] of the map.
        attention_weights: (B, Q, heads, L, P).
        im2col_step: Not used: for the memory of the compiled operator.

    Returns:
        (B, Q, heads x C).
    """
    del im2col_step
    rows = computable(value).flatten(0, 2)
    batch, num_queries, heads = sampling_locations.shape[:3]
    output = value.new_empty(batch, num_queries, heads * value.shape[3])
    for part in _query_parts(sampling_locations):
        indices, weights = _attended(
            value.shape,
            value_spatial_shapes,
            value_level_start_index,
            computable(sampling_locations[:, part]),
            computable(attention_weights[:, part]),
        )
        sums = sum_rows(rows, indices.flatten(0, 2), weights.flatten(0, 2).to(rows))
        output[:, part] = sums.view(batch, -1, output.shape[2]).to(output)
    return output


@operator
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, written to the last tensors."""
    del im2col_step
    for part in _query_parts(sampling_locations):
        rows, locations, factors = (
            computable(t).clone().requires_grad_()
            for t in (value, sampling_locations[:, part], attention_weights[:, part])
        )
        with torch.enable_grad():
            indices, weights = _attended(
                value.shape,
                value_spatial_shapes,
                value_level_start_index,
                locations,
                factors,
            )
            flat = indices.flatten(0, 2), weights.flatten(0, 2).to(rows)
            sums = sum_rows(rows.flatten(0, 2), *flat)
        grads = torch.autograd.grad(
            sums,
            (rows, locations, factors),
            computable(grad_output[:, part]).reshape(sums.shape).to(sums),
        )
        grad_value += grads[0].to(grad_value)
        grad_sampling_loc[:, part] = grads[1].to(grad_sampling_loc)
        grad_attn_weight[:, part] = grads[2].to(grad_attn_weight)


def _query_parts(sampling_locations: Tensor) -> list[slice]:
    """Cut the queries into parts that fit in memory."""
    num_queries = sampling_locations.shape[1]
    entries_per_query = max(2 * sampling_locations[:, :1].numel(), 1)
    step = max(ENTRIES_PER_CHUNK // entries_per_query, 1)
    return [slice(i, i + step) for i in range(0, num_queries, step)]


def _attended(
    shape: torch.Size,
    spatial_shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    factors: Tensor,
) -> tuple[Tensor, Tensor]:
    """Pixels that each query attends to, and their weights.

    Args:
        shape: Of the values, (B, S, heads, C).
        spatial_shapes: (L, 2).
        starts: (L,).
        locations: (B, Q, heads, L, P, 2).
        factors: (B, Q, heads, L, P).

    Returns:
        Rows of the values, and weights, both (B, Q, heads, L x P x 4).
    """
    batch, num_values, heads, _ = shape
    heights, widths = (side[:, None] for side in spatial_shapes.unbind(dim=1))  # (L, 1)
    y = locations[..., 1] * heights - 0.5
    x = locations[..., 0] * widths - 0.5
    indices, weights = corners(y, x, heights, widths)  # (B, Q, heads, L, P, 4)
    image = torch.arange(batch, device=locations.device).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(heads, device=locations.device).view(-1, 1, 1, 1)
    pixels = image * num_values + starts[:, None, None] + indices
    return (pixels * heads + head).flatten(3), (weights * factors[..., None]).flatten(3)
