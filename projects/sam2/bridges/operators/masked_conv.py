"""Convolution at chosen pixels only, for the guided anchors of mmdetection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .sampling import operator


@operator
def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Copy the neighbourhoods of chosen pixels.

    Args:
        im: (1, C, H, W).
        mask_h_idx: (M,), rows of the output's pixels.
        mask_w_idx: (M,), columns.
        col: (C x kernel_h x kernel_w, M), gets the neighbourhoods.
        kernel_h: Height of the kernel.
        kernel_w: Width of the kernel.
        pad_h: Padding above and below.
        pad_w: Padding to the left and to the right.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    taps_y, taps_x = (torch.arange(k, device=im.device) for k in (kernel_h, kernel_w))
    rows = taps_y[:, None, None] + mask_h_idx  # (kernel_h, 1, M)
    columns = taps_x[:, None] + mask_w_idx  # (kernel_w, M)
    col.copy_(padded[:, rows, columns].flatten(0, 2))


@operator
def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write results to chosen pixels.

    Args:
        col: (C, M).
        mask_h_idx: (M,), rows of the pixels.
        mask_w_idx: (M,), columns.
        im: (1, C, H, W), gets the results.
        height: H.
        width: W.
        channels: C.
    """
    image = im.view(channels, height, width)
    image[:, mask_h_idx, mask_w_idx] = col.to(im)
