"""Attention masks of PSANet, from offsets between two pixels to pairs of pixels."""

import torch
from torch import Tensor

from .sampling import operator


@operator
def psamask_forward(
    input: Tensor,  # noqa: A002 - as in mmcv
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Convert each pixel's mask over offsets to one over all pixels of the map.

    Args:
        input: (B, h_mask x w_mask, H, W), the mask of each pixel.
        output: (B, H x W, H, W), gets the masks: a pixel in (H, W), the other pixel in
            H x W, or the two exchanged if the type is 1; zero outside of the mask.
        psa_type: 0 collects, 1 distributes.
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: Height of the mask.
        w_mask: Width of the mask.
        half_h_mask: Row of the mask that is the pixel itself.
        half_w_mask: Column of the mask that is the pixel itself.
    """
    size, mask_size = (h_feature, w_feature), (h_mask, w_mask)
    masks = input.reshape(num_, h_mask * w_mask, *size)
    pairs = output.view(num_, *size, *size)
    if psa_type == 1:
        pairs = pairs.permute(0, 3, 4, 1, 2)
    half = (half_h_mask, half_w_mask)
    for row in range(h_feature):
        # Of the pixel (h, w), the mask at (row - h, column - w) is the pair's value.
        indices, inside = _sources(row, w_feature, masks, mask_size, half, sign=-1)
        values = masks.gather(1, indices.expand(num_, *indices.shape))
        pairs[:, row] = values.where(inside, 0).to(output)


@operator
def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Gradient of :func:`psamask_forward`, written to ``grad_input``."""
    size, mask_size = (h_feature, w_feature), (h_mask, w_mask)
    pairs = grad_output.reshape(num_, *size, *size)
    if psa_type == 1:
        pairs = pairs.permute(0, 3, 4, 1, 2)
    masks = grad_input.view(num_, *mask_size, *size)
    pairs = pairs.flatten(1, 2)
    half = (-half_h_mask, -half_w_mask)
    for row in range(h_mask):
        # Each value of a mask goes to one pair of pixels at most.
        indices, inside = _sources(row, w_mask, pairs, size, half, sign=1)
        values = pairs.gather(1, indices.expand(num_, *indices.shape))
        masks[:, row] = values.where(inside, 0).to(grad_input)


def _sources(
    row: int,
    num_columns: int,
    values: Tensor,
    size: tuple[int, int],
    center: tuple[int, int],
    *,
    sign: int,
) -> tuple[Tensor, Tensor]:
    """Where the values of one row of the result lie, for each pixel of the features.

    Args:
        row: Of the result.
        num_columns: Of the result.
        values: (B, rows x columns, H, W).
        size: Rows and columns of the values.
        center: Added to the position.
        sign: Of a pixel's own position in the sum.

    Returns:
        Index among rows x columns, and whether there is such a value, (num_columns,
        H, W) both.
    """
    height, width = values.shape[2:]
    own_row, own_column, columns = (
        torch.arange(n, device=values.device) for n in (height, width, num_columns)
    )
    source_row = (row + center[0] + sign * own_row)[:, None]
    source_column = (columns + center[1])[:, None, None] + sign * own_column
    inside = (source_row >= 0) & (source_row < size[0])
    inside = inside & (source_column >= 0) & (source_column < size[1])
    indices = source_row.clamp(0, size[0] - 1) * size[1]
    return indices + source_column.clamp(0, size[1] - 1), inside
