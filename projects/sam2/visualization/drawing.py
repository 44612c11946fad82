"""Pure functions that draw masks and prompts; pictures are RGB, uint8."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.structures import PointLabel, PromptMark
from projects.sam2.visualization.colors import (
    BLACK,
    NEGATIVE,
    POSITIVE,
    WHITE,
    Color,
    object_color,
)
from projects.sam2.visualization.text import Picture, draw_labels

MASK_OPACITY = 0.5
VOID_OPACITY = 0.6
CLICK_RIM = 3  # pixels about the disk of a click
CLICKS = (PointLabel.POSITIVE, PointLabel.NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What is drawn over a frame, in pixels of the frame's file.

    Attributes:
        object_ids: One for each mask.
        masks: (O, height, width), bool.
        prompted_ids: Objects whose mask gets a white rim: they are prompted here.
        marks: Points and boxes of the prompts.
        void: (height, width), bool, pixels that do not count, greyed; or None.
    """

    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    prompted_ids: tuple[int, ...] = ()
    marks: tuple[PromptMark, ...] = ()
    void: NDArray[np.bool_] | None = None


def fitted_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Size at which a frame is shown.

    Args:
        size: Height and width of the frame.
        long_side: Length of the longer side in the picture.

    Returns:
        Height and width in pixels, both even, as video codecs ask for.
    """
    scale = long_side / max(size)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in size)
    return height, width


def draw_overlay(frame: Picture, overlay: Overlay, *, long_side: int) -> Picture:
    """Draw masks, contours, object ids and prompts over a frame.

    Args:
        frame: (height, width, 3), of the size of the masks or of another.
        overlay: What to draw.
        long_side: Length of the picture's longer side in pixels; small frames are
            enlarged before anything is drawn, so that lines stay fine.

    Returns:
        (shown height, shown width, 3), a new picture.
    """
    size = fitted_size((frame.shape[0], frame.shape[1]), long_side)
    image = resize(frame, size)
    masks = [_resize_mask(mask, size) for mask in overlay.masks]
    if overlay.void is not None:
        _grey(image, _resize_mask(overlay.void, size))
    # What lies within another object is seen, not hidden by it.
    drawn = sorted(
        zip(overlay.object_ids, masks, strict=True),
        key=lambda one: -np.count_nonzero(one[1]),
    )
    _tint(image, drawn)
    for object_id, mask in drawn:
        prompted = object_id in overlay.prompted_ids
        _outline(image, mask, object_color(object_id), prompted=prompted)
    scale = size[1] / overlay.masks.shape[2]
    draw_marks(image, overlay.marks, scale)
    half = (_click_radius(image) + CLICK_RIM,) * 2
    clicks = [(_place(m, scale), half) for m in overlay.marks if m.label in CLICKS]
    draw_labels(image, masks, overlay.object_ids, taken=clicks)
    return image


def resize(image: Picture, size: tuple[int, int]) -> Picture:
    """Resize a picture, averaging where it shrinks.

    Args:
        image: (height, width, 3).
        size: Wanted height and width.

    Returns:
        (wanted height, wanted width, 3), a copy.
    """
    if image.shape[:2] == size:
        return image.copy()
    shrinks = size[0] < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(image, size[::-1], interpolation=method)
    return np.array(resized, dtype=np.uint8)


def draw_marks(image: Picture, marks: Sequence[PromptMark], scale: float) -> None:
    """Draw prompt points and boxes into a picture.

    Positive clicks are green with a plus, negative ones red with a minus, each within
    a ring of its object's colour.

    Args:
        image: Drawn into.
        marks: Prompts in pixels of the file.
        scale: Pixels of the picture for a pixel of the file.
    """
    corners: dict[int, tuple[int, int]] = {}
    for mark in marks:
        at = _place(mark, scale)
        if mark.label is PointLabel.BOX_TOP_LEFT:
            corners[mark.object_id] = at
        elif mark.label is PointLabel.BOX_BOTTOM_RIGHT:
            first = corners.get(mark.object_id, at)
            cv2.rectangle(image, first, at, WHITE, 3, cv2.LINE_AA)
            color = object_color(mark.object_id)
            cv2.rectangle(image, first, at, color, 2, cv2.LINE_AA)
        else:
            _click(image, at, mark)


def _place(mark: PromptMark, scale: float) -> tuple[int, int]:
    """Where a mark lies in a picture: x and y."""
    # A pixel's centre is half a pixel from its corner in both grids.
    return round((mark.x + 0.5) * scale - 0.5), round((mark.y + 0.5) * scale - 0.5)


def _resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize with a smooth edge."""
    soft = cv2.resize(
        mask.astype(np.uint8) * 255, size[::-1], interpolation=cv2.INTER_LINEAR
    )
    resized: NDArray[np.bool_] = soft > 127
    return resized


def _tint(image: Picture, drawn: Sequence[tuple[int, NDArray[np.bool_]]]) -> None:
    """Blend the colour of the last mask that covers it into each pixel."""
    covered = np.zeros(image.shape[:2], dtype=bool)
    colors = np.zeros_like(image)
    for object_id, mask in drawn:
        colors[mask] = object_color(object_id)
        covered |= mask
    mixed = (1 - MASK_OPACITY) * image[covered] + MASK_OPACITY * colors[covered]
    image[covered] = np.rint(mixed).astype(np.uint8)


def _grey(image: Picture, mask: NDArray[np.bool_]) -> None:
    """Take colour and contrast from pixels that do not count."""
    flat = image[mask].mean(axis=1, keepdims=True)
    mixed = (1 - VOID_OPACITY) * flat + VOID_OPACITY * 128
    image[mask] = np.rint(mixed).astype(np.uint8)


def _outline(
    image: Picture, mask: NDArray[np.bool_], color: Color, *, prompted: bool
) -> None:
    """Draw a line about a mask, rimmed dark, or white for a prompt.

    Both lie outside of the mask, so that a small object stays visible.
    """
    # Only what is near the mask is looked at.
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    margin = 4
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    image, mask = image[rows, columns], mask[rows, columns]
    line = _grown(mask, 1)
    rim = _grown(mask, 3 if prompted else 2) & ~line
    opacity = 1.0 if prompted else 0.5
    rim_color = np.array(WHITE if prompted else BLACK)
    mixed = (1 - opacity) * image[rim] + opacity * rim_color
    image[rim] = np.rint(mixed).astype(np.uint8)
    image[line & ~mask] = color


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """A mask grown by a few pixels."""
    size = (2 * pixels + 1, 2 * pixels + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
    grown: NDArray[np.bool_] = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    return grown


def _click_radius(image: Picture) -> int:
    """Of the disk of a click, in pixels."""
    return max(4, int(min(image.shape[:2])) // 45)


def _click(image: Picture, at: tuple[int, int], mark: PromptMark) -> None:
    """Draw a click: a disk with a sign in it, and a ring of the object's colour."""
    radius = _click_radius(image)
    x, y = at
    arm = max(2, radius - 3)
    ring = object_color(mark.object_id)
    cv2.circle(image, at, radius + CLICK_RIM, ring, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, at, radius + 1, WHITE, cv2.FILLED, cv2.LINE_AA)
    positive = mark.label is PointLabel.POSITIVE
    color = POSITIVE if positive else NEGATIVE
    cv2.circle(image, at, radius, color, cv2.FILLED, cv2.LINE_AA)
    cv2.line(image, (x - arm, y), (x + arm, y), WHITE, 2)
    if positive:
        cv2.line(image, (x, y - arm), (x, y + arm), WHITE, 2)
