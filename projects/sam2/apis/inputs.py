"""Reads and checks what users give to the predictors: images, prompts, options.

Each function converts any reasonable type (lists, arrays, tensors, PIL images, NumPy's
numbers) and raises an error that names the value and what to give instead.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from ..ops import boxes_to_points
from ..structures import PointLabel, PointPrompt

Size = tuple[int, int]  # height, width
ImageLike = NDArray[np.uint8] | Image.Image
TensorLike = ArrayLike | Tensor

# A point may lie beyond the border by this share of the side, at least two pixels.
POINT_MARGIN, POINT_MARGIN_PIXELS = 0.05, 2.0
_CONVERT_TO_RGB = "convert it to 8-bit RGB first, with PIL: image.convert('RGB')"

# ------------------------------------------------------------------------ images


def read_image(image: object, *, name: str) -> NDArray[np.uint8]:
    """Read an 8-bit RGB image, an array (height, width, 3) or a PIL image.

    Raises:
        ValueError: If it is not RGB, not of 8 bits, or empty.
        TypeError: If it is not an image.
    """
    if isinstance(image, Image.Image):
        if image.mode != 'RGB':
            msg = f'{name} has mode {image.mode!r}; {_CONVERT_TO_RGB}'
            raise ValueError(msg)
        image = np.asarray(image)
    if not isinstance(image, np.ndarray):
        msg = (
            f'{name} is a {type(image).__name__}; give a NumPy array (height, width, '
            f'3) of uint8, or a PIL image'
        )
        raise TypeError(msg)
    if image.dtype != np.uint8:
        nan = ' with NaN' if image.dtype.kind == 'f' and np.isnan(image).any() else ''
        msg = f'{name} holds {image.dtype}{nan}, not uint8; {_CONVERT_TO_RGB}'
        raise ValueError(msg)
    if image.ndim != 3 or image.shape[2] != 3:
        msg = (
            f'{name} has shape {image.shape}, not (height, width, 3); {_CONVERT_TO_RGB}'
        )
        raise ValueError(msg)
    if not image.size:
        msg = f'{name} has shape {image.shape}, hence no pixel; check where it is from'
        raise ValueError(msg)
    return image


# ----------------------------------------------------------------------- prompts


def read_points(
    *,
    points: TensorLike | None,
    labels: TensorLike | None,
    box: TensorLike | None,
    size: Size,
    in_pixels: bool = True,
) -> PointPrompt | None:
    """Read points and boxes as one prompt.

    A point may lie slightly beyond the border of the image, by 5 % of the side or two
    pixels; a box only has to meet the image. Nothing is clamped.

    Args:
        points: (P, 2) or (O, P, 2), ``(x, y)``, or None.
        labels: (P,) or (O, P), values of :class:`PointLabel`, or None. For a single
            object, either points or labels may lack the dimension O.
        box: (4,) or (O, 4), corners ``(x, y, x, y)``, also (2, 2) or (O, 2, 2); or
            None.
        size: Height and width of the image.
        in_pixels: Coordinates are pixels of the image, not shares of its sides.

    Returns:
        Coordinates as shares of the sides, the corners of a box before the points;
        None if neither was given.

    Raises:
        ValueError: If points and labels do not match, a number is not finite, a label
            is unknown, or a point or a box lies outside the image.
    """
    if (points is None) != (labels is None):
        given, missing = ('points', 'labels')[:: 1 if labels is None else -1]
        msg = f'{given} come without {missing}; give a label for each point'
        raise ValueError(msg)
    prompts = []
    if box is not None:
        prompts.append(_read_boxes(box))
    if points is not None and labels is not None:
        prompts.append(_read_labelled_points(points, labels))
    if not prompts:
        return None
    prompt = prompts[0]
    if len(prompts) == 2:
        counts = [len(prompt.coords) for prompt in prompts]
        if counts[0] != counts[1]:
            msg = (
                f'{counts[0]} boxes do not fit points of {counts[1]} objects; give '
                f'points (O, P, 2) for each box'
            )
            raise ValueError(msg)
        prompt = prompt.followed_by(prompts[1])
    if not prompt.num_points:
        msg = 'points are empty; give at least one, or None in place of them'
        raise ValueError(msg)
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32)
    _check_inside(prompt, scale if in_pixels else torch.ones(2), in_pixels=in_pixels)
    shares = prompt.coords / scale if in_pixels else prompt.coords
    return PointPrompt(coords=shares, labels=prompt.labels)


def _read_boxes(box: TensorLike) -> PointPrompt:
    corners = _read_tensor(box, 'box')
    in_pairs = corners.ndim in {2, 3} and corners.shape[-2:] == (2, 2)
    if not in_pairs and (corners.shape[-1:] != (4,) or corners.ndim > 3):
        msg = f'box has shape {tuple(corners.shape)}; give (4,) or (O, 4)'
        raise ValueError(msg)
    corners = corners.reshape(-1, 2, 2)
    inverted = (corners[:, 1] < corners[:, 0]).any(dim=-1)
    if inverted.any():
        numbers = corners[inverted][0].flatten().tolist()
        msg = f'box {numbers} is inside out; give (x_min, y_min, x_max, y_max)'
        raise ValueError(msg)
    return boxes_to_points(corners.flatten(1))


def _read_labelled_points(points: TensorLike, labels: TensorLike) -> PointPrompt:
    coords, label = _read_tensor(points, 'points'), _read_tensor(labels, 'labels')
    if coords.shape == (0,):  # of an empty list
        coords = coords.reshape(0, 2)
    if coords.ndim == 3 and len(coords) == 1 and label.ndim == 1:
        label = label[None]
    elif coords.ndim == 2 and label.ndim == 2 and len(label) == 1:
        coords = coords[None]
    if coords.shape[-1:] != (2,) or coords.ndim not in {2, 3}:
        msg = f'points have shape {tuple(coords.shape)}; give (P, 2) or (O, P, 2)'
        raise ValueError(msg)
    if label.shape != coords.shape[:-1]:
        msg = (
            f'{tuple(label.shape)} labels do not fit {tuple(coords.shape)} points; '
            f'give one label for each point'
        )
        raise ValueError(msg)
    unknown = sorted(set(label.flatten().tolist()) - set(map(int, PointLabel)))
    if unknown:
        msg = (
            f'Unknown label {unknown[0]:g}; give 1 for a point on the object and 0 for '
            f'one outside of it'
        )
        raise ValueError(msg)
    if coords.ndim == 2:
        coords, label = coords[None], label[None]
    return PointPrompt(coords=coords, labels=label.int())


def _check_inside(prompt: PointPrompt, extent: Tensor, *, in_pixels: bool) -> None:
    """Raise if a point or a box lies outside an image of extent (width, height)."""
    margin = POINT_MARGIN * extent
    if in_pixels:
        margin = margin.clamp(min=POINT_MARGIN_PIXELS)
    labels = prompt.labels[..., None]
    is_first = labels == PointLabel.BOX_TOP_LEFT
    is_last = labels == PointLabel.BOX_BOTTOM_RIGHT
    # A box meets the image if its first corner is not beyond the far border and its
    # last not before the near one. It may extend beyond it by the size of the image:
    # anything farther away is a box of another image, or in pixels, not in shares.
    least = torch.where(is_first, -extent, torch.where(is_last, 0.0, -margin))
    most = torch.where(
        is_first, extent, torch.where(is_last, 2 * extent, extent + margin)
    )
    outside = ((prompt.coords < least) | (prompt.coords > most)).any(dim=-1)
    outside &= prompt.labels != PointLabel.PADDING
    if not outside.any():
        return
    x, y = prompt.coords[outside][0].tolist()
    width, height = extent.tolist()
    if (is_first | is_last)[..., 0][outside][0]:
        allowed = (
            f'A box must meet the image, and reach no farther beyond it than the '
            f'image is large: x from {-width:g} to {2 * width:g}, y from '
            f'{-height:g} to {2 * height:g}'
        )
    else:
        right, bottom = (extent + margin).tolist()
        beyond = f'{POINT_MARGIN:.0%} of the side'
        if in_pixels:
            beyond += f', or {POINT_MARGIN_PIXELS:g} pixels where that is more'
        allowed = (
            f'A point may lie beyond the border by {beyond}: x from '
            f'{width - right:g} to {right:g}, y from {height - bottom:g} to {bottom:g}'
        )
    shown = f'{width:g} x {height:g}' + (' (width x height)' if in_pixels else '')
    hint = '' if in_pixels else '; normalize_coords=False takes shares of the sides'
    msg = f'({x:g}, {y:g}) lies outside of the image of {shown}. {allowed}{hint}'
    raise ValueError(msg)


def read_mask_logits(mask: TensorLike, *, size: Size, name: str) -> Tensor:
    """Read low-resolution mask logits that an earlier prediction returned.

    Args:
        mask: (H4, W4), (1, H4, W4) or (O, 1, H4, W4).
        size: H4 and W4.
        name: Name of the argument, for errors.

    Returns:
        (O, 1, H4, W4).

    Raises:
        ValueError: If they have another size, or a number is not finite.
    """
    logits = _read_tensor(mask, name)
    while logits.ndim < 4:
        logits = logits[None]
    if logits.ndim != 4 or tuple(logits.shape[1:]) != (1, *size):
        msg = (
            f'{name} has shape {tuple(logits.shape)}; give low-resolution logits '
            f'(1, {size[0]}, {size[1]}), the third value that predict returns'
        )
        raise ValueError(msg)
    return logits


def read_mask(mask: TensorLike, *, size: Size) -> NDArray[np.bool_]:
    """Read a mask that is a prompt.

    Args:
        mask: (height, width), bool or numbers that are 0 outside of the object.
        size: Height and width of the frames.

    Raises:
        ValueError: If it has another size, holds logits or probabilities, or a number
            is not finite.
    """
    numbers = _read_tensor(mask, 'mask')
    if tuple(numbers.shape) != size:
        msg = (
            f'mask has shape {tuple(numbers.shape)}, but the frames are {size}; give '
            f'one plane, (height, width), of the size of the video'
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


def _read_tensor(values: TensorLike, name: str) -> Tensor:
    """Read finite numbers as a float tensor on the CPU."""
    try:
        if isinstance(values, list | tuple) and any(
            isinstance(value, Tensor | np.ndarray) and value.ndim for value in values
        ):
            tensor = torch.stack([_read_tensor(value, name) for value in values])
        elif isinstance(values, np.ndarray):
            # A copy: torch takes no negative strides and no read-only array.
            tensor = torch.from_numpy(values.astype(np.float32, order='C'))
        elif not isinstance(values, Tensor) and hasattr(values, '__array_interface__'):
            tensor = _read_tensor(np.asarray(values), name)  # a PIL image
        else:
            tensor = torch.as_tensor(values, dtype=torch.float32).cpu()
            tensor = tensor.to_dense() if tensor.is_sparse else tensor
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f'{name} cannot be read as numbers ({error}); give an array'
        raise ValueError(msg) from error
    if not tensor.isfinite().all():
        msg = f'{name} holds NaN or infinity; check where it comes from'
        raise ValueError(msg)
    return tensor


# --------------------------------------------------------------- ids and options


def setting(
    read: Callable[..., Any], default: Any = None, *, record: str = '', **limits: Any
) -> Any:
    """Declare an attribute whose values are checked when they are set.

    Example:
        >>> class Generator:
        ...     points_per_batch: int = setting(read_whole_number, least=1)

    Args:
        read: Checks and converts a value: ``read(value, name=attribute, **limits)``.
        default: Default of a dataclass field.
        record: Field of a frozen record that holds the value, after the attribute that
            holds the record: ``'options.fill_hole_area'``. Setting the value replaces
            the record. By default the instance holds the value.
        limits: Further arguments of ``read``.
    """
    return _Setting(read, default, record, limits)


class _Setting:
    """The descriptor behind :func:`setting`."""

    def __init__(
        self,
        read: Callable[..., Any],
        default: object,
        record: str,
        limits: dict[str, Any],
    ) -> None:
        self._read, self._default, self._limits = read, default, limits
        self._record, _, self._field = record.partition('.')

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self._default  # dataclasses read the default of a field here
        if self._record:
            return getattr(getattr(instance, self._record), self._field)
        return vars(instance)[self._name]

    def __set__(self, instance: object, value: object) -> None:
        value = self._read(value, name=self._name, **self._limits)
        if self._record:
            record = getattr(instance, self._record)
            setattr(instance, self._record, replace(record, **{self._field: value}))
        else:
            vars(instance)[self._name] = value


def read_object_id(obj_id: object) -> Any:
    """Read the id of an object, a whole number of any type or a string.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(obj_id, str):
        return str.__str__(obj_id)  # the value of an Enum, not its name
    number = _to_int(obj_id)
    if number is None:
        msg = f'obj_id is {_describe(obj_id)}; give a whole number or a string'
        raise ValueError(msg)
    return number


def read_whole_number(
    value: object, *, name: str, least: int | None = None, most: int | None = None
) -> int:
    """Read a count or a position from ``least`` to ``most``.

    Raises:
        ValueError: If it is no whole number, or out of range.
    """
    number = _to_int(value)
    if number is None:
        msg = f'{name} is {_describe(value)}; give a whole number{_range(least, most)}'
        raise ValueError(msg)
    _check_range(number, name, least, most)
    return number


def read_number(
    value: object, *, name: str, least: float | None = None, most: float | None = None
) -> float:
    """Read a finite number from ``least`` to ``most``.

    Raises:
        ValueError: If it is no finite number, or out of range.
    """
    number = _to_number(value)
    if number is None or not math.isfinite(number):
        msg = f'{name} is {_describe(value)}; give a number{_range(least, most)}'
        raise ValueError(msg)
    _check_range(number, name, least, most)
    return number


def read_flag(value: object, *, name: str) -> bool:
    """Read True or False, or 1 or 0, of any type.

    Raises:
        ValueError: If it is something else, such as ``'false'``, which Python takes as
            true.
    """
    if isinstance(value, np.ndarray | Tensor) and not value.ndim:
        value = value.item()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    number = _to_number(value)
    if number not in {0, 1}:
        msg = f'{name} is {_describe(value)}; give True or False'
        raise ValueError(msg)
    return bool(number)


def read_choice(value: object, *, name: str, choices: Sequence[str]) -> str:
    """Read one of several strings.

    Raises:
        ValueError: If it is none of them.
    """
    if value not in choices:
        msg = f'{name} is {value!r}; give one of {", ".join(map(repr, choices))}'
        raise ValueError(msg)
    return str(value)


def _to_number(value: object) -> int | float | None:
    """Convert a number of any type to a Python one; None if it is no single number."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        return None
    if isinstance(value, np.ndarray | Tensor):
        if value.ndim or value.dtype in {np.dtype(bool), torch.bool}:
            return None
        value = value.item()
    try:
        return operator.index(value)  # type: ignore[arg-type]  # TypeError is caught
    except TypeError:
        pass
    if not hasattr(value, '__float__'):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _to_int(value: object) -> int | None:
    number = _to_number(value)
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    return number


def _check_range(
    number: float, name: str, least: float | None, most: float | None
) -> None:
    if (least is not None and number < least) or (most is not None and number > most):
        msg = f'{name} is {number}; give a number{_range(least, most)}'
        raise ValueError(msg)


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f' from {least} to {most}'
    if least is not None:
        return f' of at least {least}'
    return '' if most is None else f' of at most {most}'


def _describe(value: object) -> str:
    """Name a wrong value and its type in an error."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim:
        return f'a {type(value).__name__} of shape {tuple(value.shape)}'
    return f'{value!r} ({type(value).__name__})'
