"""The helpers of the released ``sam2.utils.amg``, implemented with our functions."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops import (
    EncodedMask,
    PlainRuns,
    at_least_float32,
    count_encoded_pixels,
    crops_of_image,
    decode_masks,
    encode_masks,
    grid_of_points,
    mask_stability,
    masks_to_boxes,
    plain_runs,
)
from .misc import get_connected_components

__all__ = [
    'MaskData',
    'area_from_rle',
    'batch_iterator',
    'batched_mask_to_box',
    'box_xyxy_to_xywh',
    'build_all_layer_point_grids',
    'build_point_grid',
    'calculate_stability_score',
    'coco_encode_rle',
    'generate_crop_boxes',
    'is_box_near_crop_edge',
    'mask_to_rle_pytorch',
    'remove_small_regions',
    'rle_to_mask',
    'uncrop_boxes_xyxy',
    'uncrop_masks',
    'uncrop_points',
]


Values = list[Any] | NDArray[Any] | Tensor


class MaskData(dict[str, Values]):
    """Columns of lists, arrays or tensors, with an entry for each mask."""

    def __setitem__(self, key: str, item: object) -> None:
        if not isinstance(item, list | np.ndarray | Tensor):
            msg = f'{key} is a {type(item).__name__}; give a list, array or tensor'
            raise TypeError(msg)
        super().__setitem__(key, item)

    def filter(self, keep: Tensor) -> None:
        """Keep some masks, by (N,) bool or by positions."""
        index = keep.nonzero()[:, 0] if keep.dtype is torch.bool else keep.long()
        for key, values in list(self.items()):
            if isinstance(values, list):
                self[key] = [values[i] for i in index.tolist()]
            elif isinstance(values, Tensor):
                self[key] = values[index.to(values.device)]
            else:
                self[key] = values[index.cpu().numpy()]

    def cat(self, new_stats: 'MaskData') -> None:
        """Append other masks; missing columns are added."""
        for key, values in new_stats.items():
            column = self.get(key)
            if column is None:
                self[key] = copy.deepcopy(values)
            elif isinstance(column, Tensor) and isinstance(values, Tensor):
                self[key] = torch.cat([column, values])
            elif isinstance(column, np.ndarray):
                self[key] = np.concatenate([column, np.asarray(values)])
            else:
                self[key] = [*column, *values]

    def to_numpy(self) -> None:
        """Convert tensors to arrays."""
        for key, values in list(self.items()):
            if isinstance(values, Tensor):
                if values.is_floating_point():  # NumPy has no bfloat16
                    values = at_least_float32(values)  # noqa: PLW2901
                self[key] = values.detach().cpu().numpy()


# -------------------------------------------------------------- crops and points


def build_point_grid(n_per_side: int) -> NDArray[np.float64]:
    """Points ``(x, y)`` spread evenly over the unit square, (n_per_side ** 2, 2)."""
    return grid_of_points(n_per_side)


def build_all_layer_point_grids(
    n_per_side: int, n_layers: int, scale_per_layer: int
) -> list[NDArray[np.float64]]:
    """Grids of the image and of each layer of crops, coarser in each layer."""
    return [
        grid_of_points(n_per_side // scale_per_layer**layer)
        for layer in range(n_layers + 1)
    ]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Lay overlapping crops over an image of size (height, width).

    Args:
        im_size: Height and width, first.
        n_layers: Layers of crops beside the whole image.
        overlap_ratio: Overlap of neighbours over the image's short side.

    Returns:
        Boxes ``[x, y, x, y]``, and the layer of each.
    """
    size = (im_size[0], im_size[1])
    crops = crops_of_image(size, n_layers, overlap_ratio=overlap_ratio)
    return [list(crop.box) for crop in crops], [crop.layer for crop in crops]


def uncrop_boxes_xyxy(boxes: Tensor, crop_box: Sequence[int]) -> Tensor:
    """Shift boxes, (O, 4) corners, from a crop to the image."""
    left, top, *_ = crop_box
    return boxes + boxes.new_tensor([left, top, left, top])


def uncrop_points(points: Tensor, crop_box: Sequence[int]) -> Tensor:
    """Shift points, (..., 2), from a crop to the image."""
    return points + points.new_tensor(list(crop_box[:2]))


def uncrop_masks(
    masks: Tensor, crop_box: Sequence[int], orig_h: int, orig_w: int
) -> Tensor:
    """Pad masks (..., h, w) of a crop with zeros to (..., orig_h, orig_w)."""
    left, top, right, bottom = crop_box
    whole = masks.new_zeros(*masks.shape[:-2], orig_h, orig_w)
    whole[..., top:bottom, left:right] = masks
    return whole


def is_box_near_crop_edge(
    boxes: Tensor, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = 20.0
) -> Tensor:
    """Whether boxes are within ``atol`` pixels of a crop's edge inside the image.

    Args:
        boxes: (O, 4), corners within the crop.
        crop_box: Corners of the crop within the image.
        orig_box: Corners of the image.
        atol: Largest distance, in pixels.

    Returns:
        (O,), bool.
    """
    in_image = uncrop_boxes_xyxy(boxes.float(), crop_box)
    near_crop, near_image = (
        (in_image - in_image.new_tensor(list(box))).abs() <= atol
        for box in (crop_box, orig_box)
    )
    return (near_crop & ~near_image).any(dim=1)


def batch_iterator(batch_size: int, *args: Sequence[Any]) -> Iterator[list[Any]]:
    """Split sequences of equal length into batches.

    Yields:
        A part of each sequence.

    Raises:
        ValueError: If their lengths differ.
    """
    lengths = {len(arg) for arg in args}
    if len(lengths) != 1:
        msg = f'The sequences have lengths {sorted(lengths)}; give one length'
        raise ValueError(msg)
    for start in range(0, lengths.pop(), batch_size):
        yield [arg[start : start + batch_size] for arg in args]


# ------------------------------------------------------------------------- masks


def mask_to_rle_pytorch(tensor: Tensor) -> list[PlainRuns]:
    """Encode masks, (O, H, W), as uncompressed run lengths, column by column."""
    masks = tensor.cpu().numpy().astype(bool)
    return [plain_runs(code) for code in encode_masks(masks)] if len(masks) else []


def rle_to_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode uncompressed or COCO run lengths to (H, W)."""
    mask: NDArray[np.bool_] = decode_masks([rle])[0]
    return mask


def area_from_rle(rle: Mapping[str, Any]) -> int:
    """Number of pixels of an encoded mask."""
    return count_encoded_pixels(rle)


def coco_encode_rle(uncompressed_rle: Mapping[str, Any]) -> EncodedMask:
    """Compress run lengths as COCO does, with text that json can store."""
    return encode_masks(rle_to_mask(uncompressed_rle)[None])[0]


def calculate_stability_score(
    masks: Tensor, mask_threshold: float, threshold_offset: float
) -> Tensor:
    """IoU of masks, (..., H, W) logits, at a higher and a lower threshold, (...,)."""
    return mask_stability(masks, threshold=mask_threshold, offset=threshold_offset)


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Tightest box around each mask, (..., H, W).

    Returns:
        (..., 4), corners ``(x, y, x, y)``; zeros for an empty mask.
    """
    shape = masks.shape[:-2]
    boxes = masks_to_boxes(masks.reshape(-1, 1, *masks.shape[-2:]).bool())
    empty = (boxes[:, 2:] < 0).any(dim=1, keepdim=True)
    return torch.where(empty, 0.0, boxes).long().view(*shape, 4)


def box_xyxy_to_xywh(box_xyxy: Tensor) -> Tensor:
    """Convert corners, (..., 4), to the first corner, width and height."""
    first, last = box_xyxy[..., :2], box_xyxy[..., 2:]
    return torch.cat([first, last - first], dim=-1)


def remove_small_regions(
    mask: NDArray[np.bool_], area_thresh: float, mode: Literal['holes', 'islands']
) -> tuple[NDArray[np.bool_], bool]:
    """Fill small holes of a mask, or remove its small parts.

    Args:
        mask: (H, W).
        area_thresh: Smallest area that is kept, in pixels.
        mode: ``'holes'`` or ``'islands'``; the largest island is always kept.

    Returns:
        (H, W), and whether anything has changed.

    Raises:
        ValueError: If the mode is unknown.
    """
    if mode not in {'holes', 'islands'}:
        msg = f"mode is {mode!r}; give 'holes' or 'islands'"
        raise ValueError(msg)
    mask = np.asarray(mask, dtype=bool)
    regions = ~mask if mode == 'holes' else mask
    _, areas = get_connected_components(torch.from_numpy(regions)[None, None])
    area = areas[0, 0].numpy()
    small = regions & (area < area_thresh)
    if not small.any():
        return mask, False
    if mode == 'holes':
        return mask | small, True
    if (small == mask).all():
        components, _ = get_connected_components(torch.from_numpy(mask)[None, None])
        labels = components[0, 0].numpy()
        pixel = np.unravel_index(area.argmax(), area.shape)  # of the largest island
        return labels == labels[pixel], True
    return mask & ~small, True
