"""Reads what a user gives: images, points, boxes, masks; errors say what is wrong."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from projects.sam2.ops import boxes_to_points
from projects.sam2.structures import PointLabel, PointPrompt

Size = tuple[int, int]
ImageLike = NDArray[np.uint8] | Image.Image
TensorLike = ArrayLike | Tensor

KNOWN_LABELS = tuple(int(label) for label in PointLabel)
CONVERT_TO_RGB = "convert it to 8-bit RGB first, with PIL: image.convert('RGB')"


def read_image(image: object, *, name: str) -> NDArray[np.uint8]:
    """Check an image.

    Args:
        image: Hopefully (height, width, 3), uint8, RGB; or a PIL image of mode RGB.
        name: What the image is called in an error.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ValueError: If it is not RGB, not of 8 bits, or empty.
        TypeError: If it is no image at all.
    """
    if isinstance(image, Image.Image):
        if image.mode != 'RGB':
            msg = f'{name} has mode {image.mode!r}; {CONVERT_TO_RGB}'
            raise ValueError(msg)
        image = np.asarray(image)
    if not isinstance(image, np.ndarray):
        msg = (
            f'{name} is a {type(image).__name__}; give a NumPy array (height, width, '
            f'3) of uint8, or a PIL image'
        )
        raise TypeError(msg)
    if image.dtype != np.uint8:
        bad = ' with NaN' if image.dtype.kind == 'f' and np.isnan(image).any() else ''
        msg = f'{name} holds {image.dtype}{bad}, not uint8; {CONVERT_TO_RGB}'
        raise ValueError(msg)
    if image.ndim != 3 or image.shape[2] != 3:
        msg = (
            f'{name} has shape {image.shape}, not (height, width, 3); {CONVERT_TO_RGB}'
        )
        raise ValueError(msg)
    if not image.size:
        msg = f'{name} has shape {image.shape}, hence no pixel; check where it is from'
        raise ValueError(msg)
    return image


def read_points(
    *,
    points: TensorLike | None,
    labels: TensorLike | None,
    box: TensorLike | None,
    size: Size,
    in_pixels: bool = True,
) -> PointPrompt | None:
    """Check points and boxes, and write them as one prompt.

    Args:
        points: (P, 2) or (O, P, 2), ``(x, y)``, or None.
        labels: (P,) or (O, P), values of :class:`PointLabel`, or None.
        box: (4,) or (O, 4), corners ``(x, y, x, y)``, or None.
        size: Height and width of the image.
        in_pixels: Coordinates are pixels of the image, not shares of its sides.

    Returns:
        Coordinates as shares of the sides, the corners of a box before the points;
        None where neither was given.

    Raises:
        ValueError: If points and labels do not belong together, or a number is
            not finite, outside of the image or no label.
    """
    if (points is None) != (labels is None):
        given, missing = ('points', 'labels')[:: 1 if labels is None else -1]
        msg = f'{given} come without {missing}; give a label for each point'
        raise ValueError(msg)
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32)
    parts = []
    if box is not None:
        corners = _numbers(box, 'box')
        if corners.shape[-1:] != (4,) or corners.ndim > 3:
            msg = f'box has shape {tuple(corners.shape)}; give (4,) or (O, 4)'
            raise ValueError(msg)
        parts.append(boxes_to_points(corners.reshape(-1, 4)))
        _check_order(parts[0].coords)
    if points is not None and labels is not None:
        parts.append(_labelled_points(points, labels))
    if not parts:
        return None
    prompt = _joined(parts)
    if not prompt.labels.shape[1]:
        msg = 'points are empty; give at least one, or None in place of them'
        raise ValueError(msg)
    shares = prompt.coords / scale if in_pixels else prompt.coords
    outside = ((shares < 0) | (shares > 1)).any(dim=-1)
    outside &= prompt.labels != PointLabel.PADDING
    if outside.any():
        x, y = prompt.coords[outside][0].tolist()
        extent = f'{size[1]} x {size[0]} (width x height)' if in_pixels else '1 x 1'
        hint = '' if in_pixels else ': normalize_coords=False takes shares of the sides'
        msg = f'({x:g}, {y:g}) lies outside of the image of {extent}{hint}'
        raise ValueError(msg)
    return PointPrompt(coords=shares, labels=prompt.labels)


def read_mask_logits(mask: TensorLike, *, size: Size, name: str) -> Tensor:
    """Check earlier masks that are fed back.

    Args:
        mask: (H4, W4), (1, H4, W4) or (O, 1, H4, W4), logits.
        size: H4 and W4.
        name: What they are called in an error.

    Returns:
        (O, 1, H4, W4).

    Raises:
        ValueError: If they have another size, or a number is not finite.
    """
    logits = _numbers(mask, name)
    while logits.ndim < 4:
        logits = logits[None]
    if logits.ndim != 4 or tuple(logits.shape[1:]) != (1, *size):
        msg = (
            f'{name} has shape {tuple(logits.shape)}; give low-resolution logits '
            f'(1, {size[0]}, {size[1]}), the third value that predict returns'
        )
        raise ValueError(msg)
    return logits


def check_counts(mask_logits: Tensor, points: PointPrompt | None) -> None:
    """Check that earlier masks and points are of the same objects.

    Args:
        mask_logits: (O, 1, H4, W4); one mask serves any number of objects.
        points: Of each object, or None.

    Raises:
        ValueError: If there are masks of another number of objects.
    """
    count = len(mask_logits) if points is None else len(points.coords)
    if len(mask_logits) not in {1, count}:
        msg = (
            f'mask_input has masks of {len(mask_logits)} objects, the points or boxes '
            f'are of {count}; give one for each, or one for all'
        )
        raise ValueError(msg)


def read_mask(mask: TensorLike, *, size: Size) -> NDArray[np.bool_]:
    """Check a mask that is given as a prompt.

    Args:
        mask: (height, width), bool or numbers that are 0 outside of the object.
        size: Height and width of the video.

    Returns:
        (height, width).

    Raises:
        ValueError: If it has another size, holds scores of an object (negative numbers
            or parts of one), or a number is not finite.
    """
    numbers = _numbers(mask, 'mask')
    if tuple(numbers.shape) != size:
        msg = (
            f'mask has shape {tuple(numbers.shape)}, but the frames are {size}; resize '
            f'it to (height, width) of the video'
        )
        raise ValueError(msg)
    scores = (numbers < 0) | ((numbers > 0) & (numbers < 1))
    if scores.any():
        msg = (
            f'mask holds {numbers[scores][0].item():g}, but must be 0 outside of the '
            f'object alone; compare logits with 0 first, probabilities with 0.5'
        )
        raise ValueError(msg)
    pixels: NDArray[np.bool_] = (numbers != 0).numpy()
    return pixels


def one_for_each(
    batch: Sequence[TensorLike | None] | None, count: int, name: str
) -> Sequence[TensorLike | None]:
    """Check prompts of a batch of images.

    Args:
        batch: One entry for each image; or None for no prompt of any.
        count: Number of images.
        name: What the prompts are called in an error.

    Returns:
        One entry for each image.

    Raises:
        ValueError: If there are more or fewer.
    """
    if batch is None:
        return [None] * count
    if len(batch) != count:
        msg = f'{name} has {len(batch)} entries for {count} images; give one for each'
        raise ValueError(msg)
    return batch


def _labelled_points(points: TensorLike, labels: TensorLike) -> PointPrompt:
    """Points with their labels, as (O, P, 2) and (O, P)."""
    coords, kinds = _numbers(points, 'points'), _numbers(labels, 'labels')
    if coords.shape[-1:] != (2,) or coords.ndim not in {2, 3}:
        msg = f'points have shape {tuple(coords.shape)}; give (P, 2) or (O, P, 2)'
        raise ValueError(msg)
    if kinds.shape != coords.shape[:-1]:
        msg = (
            f'{tuple(kinds.shape)} labels do not fit {tuple(coords.shape)} points; '
            f'give one label for each point'
        )
        raise ValueError(msg)
    unknown = sorted(set(kinds.flatten().tolist()) - set(KNOWN_LABELS))
    if unknown:
        msg = (
            f'Unknown label {unknown[0]:g}; give 1 for a point on the object and 0 for '
            f'one outside of it'
        )
        raise ValueError(msg)
    if coords.ndim == 2:
        coords, kinds = coords[None], kinds[None]
    return PointPrompt(coords=coords, labels=kinds.int())


def _joined(parts: Sequence[PointPrompt]) -> PointPrompt:
    """A box and points, each for one object or for all of them."""
    if len(parts) == 1:
        return parts[0]
    boxes, points = parts
    counts = len(boxes.coords), len(points.coords)
    if counts[0] != counts[1]:
        msg = (
            f'{counts[0]} boxes do not fit points of {counts[1]} objects; give points '
            f'(O, P, 2) for each box'
        )
        raise ValueError(msg)
    return boxes.followed_by(points)


def _check_order(corners: Tensor) -> None:
    """Raise where the second corner of a box, (O, 2, 2), comes before the first."""
    wrong = (corners[:, 1] < corners[:, 0]).any(dim=-1)
    if wrong.any():
        numbers = corners[wrong][0].flatten().tolist()
        msg = f'box {numbers} is inside out; give (x_min, y_min, x_max, y_max)'
        raise ValueError(msg)


def _numbers(values: TensorLike, name: str) -> Tensor:
    """Finite numbers as a float tensor on the CPU."""
    if isinstance(values, np.ndarray):
        values = values.copy()  # torch takes none that is turned round, or read-only
    try:
        tensor = torch.as_tensor(values, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f'{name} cannot be read as numbers ({error}); give an array'
        raise ValueError(msg) from error
    if not tensor.isfinite().all():
        msg = f'{name} holds NaN or infinity; check where it comes from'
        raise ValueError(msg)
    return tensor
