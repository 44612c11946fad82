"""Reads what a user gives: images, prompts, ids, numbers; errors say what is wrong."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from ..ops import boxes_to_points
from ..structures import PointLabel, PointPrompt, PromptMark

Size = tuple[int, int]
ImageLike = NDArray[np.uint8] | Image.Image
TensorLike = ArrayLike | Tensor
Value = TypeVar('Value')

KNOWN_LABELS = tuple(int(label) for label in PointLabel)
# A point may lie beyond the border by this share of the side, and by two pixels.
POINT_MARGIN, POINT_MARGIN_PIXELS = 0.05, 2.0
CONVERT_TO_RGB = "convert it to 8-bit RGB first, with PIL: image.convert('RGB')"


def read_image(image: object, *, name: str) -> NDArray[np.uint8]:
    """Check an image.

    Args:
        image: Hopefully (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

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
        labels: (P,) or (O, P), values of :class:`PointLabel`, or None. One object
            may lack its dimension in points or labels alone.
        box: (4,) or (O, 4), corners ``(x, y, x, y)``, also (2, 2) or (O, 2, 2); or
            None.
        in_pixels: Coordinates are pixels of the image, not shares of its sides.

    Returns:
        Coordinates as shares of the sides, the corners of a box before the points;
        None where neither was given.

    Raises:
        ValueError: If points and labels do not belong together, a number is not finite
            or no label, or a point or a box lies outside of the image. A little beyond
            its border is still inside: 5 % of the side, at least two pixels, for a
            point; for a box, that it meets the image. Nothing is clamped.
    """
    if (points is None) != (labels is None):
        given, missing = ('points', 'labels')[:: 1 if labels is None else -1]
        msg = f'{given} come without {missing}; give a label for each point'
        raise ValueError(msg)
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32)
    parts = []
    if box is not None:
        corners = _numbers(box, 'box')
        in_pairs = corners.ndim in {2, 3} and corners.shape[-2:] == (2, 2)
        if not in_pairs and (corners.shape[-1:] != (4,) or corners.ndim > 3):
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
    _check_inside(prompt, scale if in_pixels else torch.ones(2), in_pixels=in_pixels)
    shares = prompt.coords / scale if in_pixels else prompt.coords
    return PointPrompt(coords=shares, labels=prompt.labels)


def read_mask_logits(mask: TensorLike, *, size: Size, name: str) -> Tensor:
    """Check earlier masks that are fed back.

    Args:
        mask: (H4, W4), (1, H4, W4) or (O, 1, H4, W4), logits.
        size: H4 and W4.

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

    Returns:
        (height, width).

    Raises:
        ValueError: If it has another size, holds scores of an object (negative numbers
            or parts of one), or a number is not finite.
    """
    numbers = _numbers(mask, 'mask')
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


def one_for_each(
    batch: Sequence[TensorLike | None] | None, count: int, name: str
) -> Sequence[TensorLike | None]:
    """Check prompts of a batch of images.

    Args:
        batch: One entry for each image; or None for no prompt of any.

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
    if coords.shape == (0,):  # of an empty list
        coords = coords.reshape(0, 2)
    if coords.ndim == 3 and len(coords) == 1 and kinds.ndim == 1:
        kinds = kinds[None]
    elif coords.ndim == 2 and kinds.ndim == 2 and len(kinds) == 1:
        coords = coords[None]
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


def _check_inside(prompt: PointPrompt, extent: Tensor, *, in_pixels: bool) -> None:
    """Raise where a point or a box lies outside of an image of (width, height)."""
    margin = POINT_MARGIN * extent
    if in_pixels:
        margin = margin.clamp(min=POINT_MARGIN_PIXELS)
    labels = prompt.labels[..., None]
    is_first, is_last = (
        labels == corner
        for corner in (PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT)
    )
    # A box meets the image where its first corner does not lie behind it, and its last
    # not before it. Beyond the border it may reach as far as the image is large: what
    # is farther away belongs to another image, or is no share of the sides.
    least = torch.where(is_first, -extent, torch.where(is_last, 0.0, -margin))
    most = torch.where(
        is_first, extent, torch.where(is_last, 2 * extent, extent + margin)
    )
    outside = ((prompt.coords < least) | (prompt.coords > most)).any(dim=-1)
    outside &= prompt.labels != PointLabel.PADDING
    if outside.any():
        x, y = prompt.coords[outside][0].tolist()
        width, height = extent.tolist()
        size = f'{width:g} x {height:g}' + (' (width x height)' if in_pixels else '')
        if (is_first | is_last)[..., 0][outside][0]:
            allowed = (
                f'A box must meet the image, and reach no farther beyond it than the '
                f'image is large: x from {-width:g} to {2 * width:g}, y from '
                f'{-height:g} to {2 * height:g}'
            )
        else:
            right, below = (extent + margin).tolist()
            beyond = f'{POINT_MARGIN:.0%} of the side'
            if in_pixels:
                beyond += f', or {POINT_MARGIN_PIXELS:g} pixels where that is more'
            allowed = (
                f'A point may lie beyond the border by {beyond}: x from '
                f'{width - right:g} to {right:g}, y from '
                f'{height - below:g} to {below:g}'
            )
        hint = '' if in_pixels else '; normalize_coords=False takes shares of the sides'
        msg = f'({x:g}, {y:g}) lies outside of the image of {size}. {allowed}{hint}'
        raise ValueError(msg)


def _check_order(corners: Tensor) -> None:
    """Raise where the second corner of a box, (O, 2, 2), comes before the first."""
    wrong = (corners[:, 1] < corners[:, 0]).any(dim=-1)
    if wrong.any():
        numbers = corners[wrong][0].flatten().tolist()
        msg = f'box {numbers} is inside out; give (x_min, y_min, x_max, y_max)'
        raise ValueError(msg)


def read_object_id(obj_id: object) -> Any:
    """Read the id of an object of a video.

    Args:
        obj_id: A whole number of any type (NumPy's, a tensor without dimensions, 3.0),
            or a string.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(obj_id, str):
        return str.__str__(obj_id)  # of an Enum its value
    number = _whole(obj_id)
    if number is None:
        msg = f'obj_id is {_describe(obj_id)}; give a whole number or a string'
        raise ValueError(msg)
    return number


def read_whole_number(
    value: object, *, name: str, least: int | None = None, most: int | None = None
) -> int:
    """Read a count, or a position.

    Args:
        least: Smallest that is allowed; None for any.
        most: Largest that is allowed; None for any.

    Raises:
        ValueError: If it is no whole number, or out of range.
    """
    number = _whole(value)
    if number is None:
        msg = f'{name} is {_describe(value)}; give a whole number{_range(least, most)}'
        raise ValueError(msg)
    _check_range(number, name, least, most)
    return number


def read_number(
    value: object, *, name: str, least: float | None = None, most: float | None = None
) -> float:
    """Read a setting such as a threshold.

    Args:
        least: Smallest that is allowed; None for any.
        most: Largest that is allowed; None for any.

    Raises:
        ValueError: If it is no finite number, or out of range.
    """
    plain = _plain(value)
    if not isinstance(plain, int | float) or not math.isfinite(plain):
        msg = f'{name} is {_describe(value)}; give a number{_range(least, most)}'
        raise ValueError(msg)
    _check_range(plain, name, least, most)
    return plain


def read_flag(value: object, *, name: str) -> bool:
    """Read a setting that is on or off.

    Args:
        value: True or False, or 1 or 0, of any type.

    Raises:
        ValueError: If it is something else: a text such as ``'false'`` counts as true
            in Python.
    """
    if isinstance(value, np.ndarray | Tensor) and not value.ndim:
        value = value.item()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    plain = _plain(value)
    if plain not in {0, 1}:
        msg = f'{name} is {_describe(value)}; give True or False'
        raise ValueError(msg)
    return bool(plain)


class Setting(Generic[Value]):
    """An attribute that stands for a field of a frozen record.

    A value that is set is read and checked, and the record is replaced.

    Args:
        record: Attribute that holds the record.
        field: Field of the record.
        read: Reads and checks a value, ``read(value, name=attribute)``.
    """

    def __init__(self, record: str, field: str, read: Callable[..., Value]) -> None:
        self._record, self._field, self._read = record, field, read

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name of the attribute, for errors."""
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Value:
        """The field as it is now."""
        if instance is None:
            return self  # type: ignore[return-value]  # looked up on the class
        value: Value = getattr(getattr(instance, self._record), self._field)
        return value

    def __set__(self, instance: object, value: object) -> None:
        """Replace the record by one with the new value."""
        record = getattr(instance, self._record)
        new = {self._field: self._read(value, name=self._name)}
        setattr(instance, self._record, replace(record, **new))


def _plain(value: object) -> int | float | None:
    """Convert a number of any type to a plain one; None if it is no single number."""
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


def _whole(value: object) -> int | None:
    """Convert a whole number of any type to an int; None if it is none."""
    plain = _plain(value)
    if isinstance(plain, float):
        return int(plain) if plain.is_integer() else None
    return plain


def _check_range(
    number: float, name: str, least: float | None, most: float | None
) -> None:
    """Raise where a number is too small or too large."""
    if (least is not None and number < least) or (most is not None and number > most):
        msg = f'{name} is {number}; give a number{_range(least, most)}'
        raise ValueError(msg)


def _range(least: float | None, most: float | None) -> str:
    """Name a range, as the end of an error."""
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


def _numbers(values: TensorLike, name: str) -> Tensor:
    """Finite numbers as a float tensor on the CPU."""
    try:
        if isinstance(values, list | tuple) and any(
            isinstance(value, Tensor | np.ndarray) and value.ndim for value in values
        ):
            tensor = torch.stack([_numbers(value, name) for value in values])
        elif isinstance(values, np.ndarray):
            # Copied, since torch takes no negative strides and no read-only array.
            tensor = torch.from_numpy(values.astype(np.float32, order='C'))
        elif not isinstance(values, Tensor) and hasattr(values, '__array_interface__'):
            tensor = _numbers(np.asarray(values), name)  # a PIL image
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompt:
    """Points and a box, or a mask, of one object on one frame.

    Attributes:
        object_id: As the user calls it, from 1.
        frame_index: Position in the video; 0 of an image.
        points: Each ``(x, y)``, in pixels of the image.
        labels: 1 for each point on the object, 0 for one outside; all 1 if empty.
        box: Corners ``(x, y, x, y)``, or None.
        mask: (height, width), bool, in place of points and box.
    """

    object_id: int = 1
    frame_index: int = 0
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[int] = ()
    box: Sequence[float] | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check that something is said, and only one kind of thing."""
        for field in ('object_id', 'frame_index'):
            number = read_whole_number(getattr(self, field), name=field)
            object.__setattr__(self, field, number)
        name = f'The prompt of object {self.object_id}'
        with_points = len(self.points) > 0 or self.box is not None
        if with_points == (self.mask is not None):
            msg = f'{name} needs points, a box or both; or a mask in place of them'
            raise ValueError(msg)
        if len(self.labels) not in {0, len(self.points)}:
            msg = (
                f'{name} has {len(self.points)} points and {len(self.labels)} labels; '
                f'give one for each, or none where all are on the object'
            )
            raise ValueError(msg)
        if self.object_id < 1 or self.frame_index < 0:
            msg = (
                f'{name} is for frame {self.frame_index}; objects count from 1, '
                f'frames from 0'
            )
            raise ValueError(msg)

    @property
    def point_coords(self) -> NDArray[np.float32] | None:
        """The points, (P, 2), or None where there are none."""
        return np.array(self.points, dtype=np.float32) if len(self.points) else None

    @property
    def point_labels(self) -> NDArray[np.int32] | None:
        """Their labels, (P,), or None."""
        if not len(self.points):
            return None
        return np.array(self._labels(), dtype=np.int32)

    def marks(self) -> Iterator[PromptMark]:
        """Points and corners, for pictures."""
        if self.box is not None:
            left, top, right, bottom = self.box
            yield self._mark(left, top, PointLabel.BOX_TOP_LEFT)
            yield self._mark(right, bottom, PointLabel.BOX_BOTTOM_RIGHT)
        for (x, y), label in zip(self.points, self._labels(), strict=True):
            yield self._mark(float(x), float(y), PointLabel(int(label)))

    def _labels(self) -> list[int]:
        """A label for each point."""
        return list(self.labels) or [1] * len(self.points)

    def _mark(self, x: float, y: float, label: PointLabel) -> PromptMark:
        """One of them."""
        return PromptMark(object_id=self.object_id, x=x, y=y, label=label)
