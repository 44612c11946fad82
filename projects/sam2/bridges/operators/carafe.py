"""CARAFE: upsampling by a kernel of its own for each output pixel."""

import torch
from torch import Tensor

from .sampling import computable, operator, rows_of, sum_rows


def reassemble(
    features: Tensor, masks: Tensor, *, kernel_size: int, group_size: int, scale: int
) -> Tensor:
    """Sum the neighbourhood of each output pixel with the pixel's own weights.

    Args:
        features: (C, H, W).
        masks: (G x K², scale x H, scale x W), the weights.
        kernel_size: K, side of the neighbourhood in pixels of the features.
        group_size: G, groups of channels with weights of their own.
        scale: How many times larger the output is.

    Returns:
        (C, scale x H, scale x W), differentiable with respect to both inputs.
    """
    _, height, width = features.shape
    size = (height * scale, width * scale)
    taps = torch.arange(kernel_size, device=features.device) - kernel_size // 2
    y, x = (torch.arange(side, device=features.device) // scale for side in size)
    rows = (y[:, None] + taps)[:, None, :, None]  # (scale x H, 1, K, 1)
    columns = (x[:, None] + taps)[:, None]  # (scale x W, 1, K)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    group = torch.arange(group_size, device=features.device).view(-1, 1, 1, 1, 1)
    indices = pixels + group * height * width  # (G, scale x H, scale x W, K, K)
    weights = masks.view(group_size, kernel_size, kernel_size, *size)
    weights = weights.permute(0, 3, 4, 1, 2).where(inside, 0)
    bags = [t.reshape(-1, kernel_size**2) for t in (indices, weights)]
    sums = sum_rows(rows_of(features[None], group_size), bags[0], bags[1])
    return sums.view(group_size, *size, -1).permute(0, 3, 1, 2).reshape(-1, *size)


@operator
def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Upsample by reassembly.

    Args:
        features: (B, C, H, W).
        masks: (B, group_size x kernel_size², scale x H, scale x W).
        output: (B, C, scale x H, scale x W), gets the result.
        kernel_size: Side of the neighbourhood, odd.
        group_size: Groups of channels with weights of their own.
        scale_factor: How many times larger the output is.
    """
    for index, image in enumerate(features):
        output[index] = reassemble(
            computable(image),
            computable(masks[index]),
            kernel_size=kernel_size,
            group_size=group_size,
            scale=scale_factor,
        )


@operator
def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of the features and the masks, added to the tensors given for them."""
    for index in range(len(features)):
        leaves = [computable(t[index]).clone() for t in (features, masks)]
        with torch.enable_grad():
            output = reassemble(
                leaves[0].requires_grad_(),
                leaves[1].requires_grad_(),
                kernel_size=kernel_size,
                group_size=group_size,
                scale=scale_factor,
            )
        given = computable(top_grad[index])
        of_features, of_masks = torch.autograd.grad(output, leaves, given)
        bottom_grad[index] += of_features.to(bottom_grad)
        mask_grad[index] += of_masks.to(mask_grad)


@operator
def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Upsample as :func:`carafe_naive_forward` does.

    Args:
        features: See there, like all that is not named here.
        masks: See there.
        rfeatures: Gets the features, for :func:`carafe_backward`.
        routput: Not used: for the memory layout of the compiled operator.
        rmasks: Not used.
        output: See there.
        kernel_size: See there.
        group_size: See there.
        scale_factor: See there.
    """
    del routput, rmasks
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


@operator
def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients as :func:`carafe_naive_backward` adds them; ``r…_grad`` is not used."""
    del rtop_grad, rbottom_grad_hs, rbottom_grad, rmask_grad
    carafe_naive_backward(
        top_grad,
        rfeatures,
        masks,
        bottom_grad,
        mask_grad,
        kernel_size,
        group_size,
        scale_factor,
    )
