"""Augmentation as published: each operation on PIL images and single masks.

Every operation resamples and rounds to 8 bits, so results equal those of the released
pipeline. Slower than the composed warp, with which the tests compare it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from projects.sam2.datasets import ClipState
from projects.sam2.datasets.transforms.augmentation import (
    Affine,
    ColorJitter,
    ColorOperation,
    Fit,
    Flip,
    GeometryOperation,
    Grayscale,
    Resize,
)
from projects.sam2.datasets.transforms.mosaic import Mosaic, cell_size, tile
from projects.sam2.structures import FrameMasks

FILL_COLOR = (123, 116, 103)  # that of the released pipeline
RESAMPLING = Image.Resampling.BILINEAR  # of frames under an affine transform
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

Masks = NDArray[np.bool_]
Operation = GeometryOperation | ColorOperation | Mosaic


class ExactAugment:
    """Applies transforms one by one, instead of composing them for ``ClipWarp``.

    Args:
        transforms: Configs of geometry and colour transforms, in their order.
    """

    def __init__(self, *, transforms: Sequence[dict[str, Any]]) -> None:
        self.transforms = [TRANSFORMS.build(config) for config in transforms]

    def __call__(self, state: ClipState) -> ClipState:
        """Draw and apply each transform."""
        for transform in self.transforms:
            state = apply_operations(state, transform.draw(state))
            is_multi_scale = getattr(transform, 'is_multi_scale', None)
            if is_multi_scale is not None:
                state = replace(state, is_multi_scale=is_multi_scale)
        return state


def apply_operations(
    state: ClipState, operations: Sequence[Operation | None]
) -> ClipState:
    """Apply an operation to each frame and its masks.

    Args:
        state: A loaded clip.
        operations: One for all frames, or one for each; None changes nothing.
    """
    frames = list(state.frames)
    masklets = list(state.masklets)
    for index, (frame, masks) in enumerate(zip(frames, masklets, strict=True)):
        operation = operations[index % len(operations)]
        if operation is None:
            continue
        image = change_image(operation, Image.fromarray(frame))
        frames[index] = np.asarray(image, np.uint8)
        if masks is not None:
            masklets[index] = change_masks(operation, masks)
    return replace(
        state,
        frames=tuple(frames),
        masklets=tuple(masklets),
        size=frames[0].shape[:2],
    )


def change_masks(operation: Operation, masks: FrameMasks) -> FrameMasks:
    """Apply an operation to the masks of a frame."""
    void = None if masks.void is None else change_mask(operation, masks.void)
    changed = [change_mask(operation, mask) for mask in masks.masks]
    shape = changed[0].shape if changed else masks.masks.shape[1:]
    return FrameMasks(
        object_ids=masks.object_ids,
        masks=np.array(changed, bool).reshape(-1, *shape),
        void=void,
    )


@singledispatch
def change_image(operation: Operation, image: Image.Image) -> Image.Image:
    """Apply an operation to an RGB image."""
    raise NotImplementedError(operation, image)


@singledispatch
def change_mask(operation: Operation, mask: Masks) -> Masks:
    """Apply an operation to one mask (H, W); colours leave it as it is."""
    del operation
    return mask


@change_image.register
def _(operation: Flip, image: Image.Image) -> Image.Image:
    del operation
    return ImageOps.mirror(image)


@change_mask.register
def _(operation: Flip, mask: Masks) -> Masks:
    del operation
    return np.ascontiguousarray(mask[:, ::-1])


@change_image.register
def _(operation: Affine, image: Image.Image) -> Image.Image:
    height, width = image.height, image.width
    # From new to old coordinates, of which PIL's count from the corner of a pixel.
    inverse = np.linalg.inv(operation.matrix((height, width)))
    inverse[:2, 2] += 0.5 - inverse[:2, :2] @ (0.5, 0.5)
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        inverse[:2].reshape(-1).tolist(),
        RESAMPLING,
        fillcolor=FILL_COLOR,
    )


@change_mask.register
def _(operation: Affine, mask: Masks) -> Masks:
    height, width = mask.shape
    inverse = np.linalg.inv(operation.matrix((height, width)))
    # Coordinates of the grid go from -1 to 1 between the borders of the frame.
    to_grid = np.array(
        [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]]
    )
    theta = to_grid @ inverse @ np.linalg.inv(to_grid)
    pixels = torch.from_numpy(mask)[None, None].float()
    grid = F.affine_grid(
        torch.from_numpy(theta[None, :2]).float(), [*pixels.shape], align_corners=False
    )
    moved = F.grid_sample(pixels, grid, mode='nearest', align_corners=False)
    result: Masks = moved[0, 0].numpy() > 0
    return result


@change_image.register
def _(operation: Resize, image: Image.Image) -> Image.Image:
    return image.resize(operation.size[::-1], Image.Resampling.BILINEAR)


@change_mask.register
def _(operation: Resize, mask: Masks) -> Masks:
    return resize_mask(mask, operation.size)


@change_image.register
def _(operation: Fit, image: Image.Image) -> Image.Image:
    inner = operation.inner_size((image.height, image.width))
    padded = Image.new('RGB', operation.size[::-1], FILL_COLOR)
    padded.paste(image.resize(inner[::-1], Image.Resampling.BILINEAR))
    return padded


@change_mask.register
def _(operation: Fit, mask: Masks) -> Masks:
    inner = operation.inner_size((mask.shape[0], mask.shape[1]))
    padded = np.zeros(operation.size, bool)
    padded[: inner[0], : inner[1]] = resize_mask(mask, inner)
    return padded


@change_image.register
def _(operation: ColorJitter, image: Image.Image) -> Image.Image:
    for index in operation.order:
        if index < len(ENHANCERS):
            image = ENHANCERS[index](image).enhance(operation.factors[index])
        else:
            image = turn_hue(image, operation.factors[index])
    return image


@change_image.register
def _(operation: Grayscale, image: Image.Image) -> Image.Image:
    del operation
    return image.convert('L').convert('RGB')


@change_image.register
def _(operation: Mosaic, image: Image.Image) -> Image.Image:
    tiled = tile(np.asarray(image, np.uint8), operation, shrink_image)
    return Image.fromarray(tiled)


@change_mask.register
def _(operation: Mosaic, mask: Masks) -> Masks:
    cell = operation.cell((mask.shape[0], mask.shape[1]))
    placed = np.zeros_like(mask)
    small = resize_mask(mask, cell_size(cell))
    placed[cell] = small[:, ::-1] if operation.mirrors_masks else small
    return placed


def turn_hue(image: Image.Image, share: float) -> Image.Image:
    """Shift the hue of an RGB image in PIL's HSV."""
    hue, saturation, value = image.convert('HSV').split()
    # Eight bits that wrap around.
    turned = np.asarray(hue) + np.uint8(int(share * 255) % 256)
    bands = (Image.fromarray(turned), saturation, value)
    return Image.merge('HSV', bands).convert('RGB')


def shrink_image(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (height, width, 3) as PIL does, bilinear with antialias."""
    image = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def resize_mask(mask: Masks, size: tuple[int, int]) -> Masks:
    """Resize (height, width) as was released: bilinear with antialias, rounded."""
    resized = F.interpolate(
        torch.from_numpy(mask)[None, None].float(),
        size=size,
        mode='bilinear',
        antialias=True,
    )
    result: Masks = resized[0, 0].numpy() > 0.5
    return result
