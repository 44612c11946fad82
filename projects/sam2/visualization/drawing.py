"""Colours that tell many objects apart on a photograph."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..structures import PointLabel, PromptMark

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)
GROUND: Color = (24, 26, 31)
TEXT: Color = (232, 234, 238)
FAINT: Color = (140, 146, 156)
POSITIVE: Color = (60, 220, 90)
NEGATIVE: Color = (240, 60, 60)

# Bright enough to show on dark frames, and far apart in hue from one to the next.
_PALETTE: tuple[Color, ...] = (
    (255, 72, 66),
    (48, 154, 255),
    (255, 205, 30),
    (40, 205, 110),
    (196, 92, 255),
    (255, 140, 30),
    (20, 220, 225),
    (255, 110, 185),
    (160, 225, 40),
    (120, 110, 255),
    (200, 140, 85),
    (0, 160, 145),
)
_GOLDEN_RATIO = 0.618033988749895


def object_color(object_id: int) -> Color:
    """Colour of an object, the same in every picture.

    Returns:
        RGB, 0 to 255.
    """
    if 1 <= object_id <= len(_PALETTE):
        return _PALETTE[object_id - 1]
    # Steps of the golden ratio never come close to an earlier hue for long.
    hue = (object_id * _GOLDEN_RATIO) % 1.0
    saturation = 0.55 + 0.4 * ((object_id // 7) % 2)
    value = 1.0 - 0.25 * ((object_id // 3) % 2)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


Picture = NDArray[np.uint8]
Point = tuple[int, int]
Plate = tuple[Point, Point]  # centre, and half the size

FEW = 8  # objects up to which ids are written large


def text_size(text: str, height: int) -> tuple[int, int]:
    """Space that a line of text takes.

    Args:
        height: Of the letters, in pixels.

    Returns:
        Height and width in pixels.
    """
    return round(1.3 * height), round(_font(height).getlength(text))


def draw_text(
    image: Picture, text: str, at: Point, *, height: int, color: Color = TEXT
) -> None:
    """Write a line into a picture; what does not fit is cut off.

    Args:
        at: Left and top of the line in pixels, inside the picture.
        height: Of the letters, in pixels.
        color: RGB.
    """
    x, y = at
    line_height, width = text_size(text, height)
    part = image[y : y + line_height, x : x + width + 2]
    canvas = Image.fromarray(part)
    ImageDraw.Draw(canvas).text((0, 0), text, fill=color, font=_font(height))
    part[:] = np.asarray(canvas)


def draw_labels(
    image: Picture,
    masks: Sequence[NDArray[np.bool_]],
    object_ids: Sequence[int],
    *,
    taken: Sequence[Plate] = (),
) -> None:
    """Write the id of each object on a plate of its colour.

    A plate lies where the mask is thickest; beside the mask if that is smaller than
    the plate or something else is in the way.

    Args:
        masks: Of the picture's size; an empty one gets no plate.
    """
    letters = max(9, min(image.shape[:2]) // (26 if len(masks) <= FEW else 36))
    occupied = [*taken]
    for object_id, mask in zip(object_ids, masks, strict=True):
        if not mask.any():
            continue
        line_height, width = text_size(str(object_id), letters)
        half = (width // 2 + 3, line_height // 2 + 1)
        centre = _free_place(_places(mask, half), half, occupied)
        occupied.append((centre, half))
        _plate(image, object_id, centre, letters=letters)


@lru_cache(maxsize=16)
def _font(height: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, there on every machine."""
    folder = Path(mpl.get_data_path()) / 'fonts' / 'ttf'
    return ImageFont.truetype(str(folder / 'DejaVuSans-Bold.ttf'), height)


def _places(mask: NDArray[np.bool_], half: Point) -> list[Point]:
    """Centres where a plate of twice ``half`` may lie, the best first."""
    framed = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = (int(i) for i in np.unravel_index(depth.argmax(), depth.shape))
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    gap = 4
    beside = [
        (column, top - half[1] - gap),
        (column, top + height + half[1] + gap),
        (left - half[0] - gap, row),
        (left + width + half[0] + gap, row),
    ]
    thick = depth.max() >= max(half)
    places = [(column, row), *beside] if thick else beside
    # The whole plate stays inside the picture.
    return [
        (
            int(np.clip(x, half[0], max(half[0], mask.shape[1] - half[0] - 1))),
            int(np.clip(y, half[1], max(half[1], mask.shape[0] - half[1] - 1))),
        )
        for x, y in places
    ]


def _free_place(places: Sequence[Point], half: Point, taken: Sequence[Plate]) -> Point:
    """The first place where no plate lies yet; the first of all if none is free."""
    for x, y in places:
        if all(
            abs(x - other[0]) > half[0] + size[0]
            or abs(y - other[1]) > half[1] + size[1]
            for other, size in taken
        ):
            return x, y
    return places[0]


def _plate(image: Picture, object_id: int, centre: Point, *, letters: int) -> None:
    """Draw an id on a black plate rimmed in the object's colour."""
    line_height, width = text_size(str(object_id), letters)
    x, y = centre
    half = (width // 2 + 3, line_height // 2 + 1)
    corners = ((x - half[0], y - half[1]), (x + half[0], y + half[1]))
    cv2.rectangle(image, *corners, BLACK, cv2.FILLED)
    cv2.rectangle(image, *corners, object_color(object_id), 1)
    at = (max(0, x - width // 2), max(0, y - line_height // 2))
    draw_text(image, str(object_id), at, height=letters, color=WHITE)


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
