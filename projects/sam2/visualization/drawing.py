"""Draws masks, prompts and object ids over a frame, and text into pictures."""

import colorsys
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..structures import PointLabel, PromptMark

Picture = NDArray[np.uint8]  # (height, width, 3), RGB
Mask = NDArray[np.bool_]
Size = tuple[int, int]  # height and width
Point = tuple[int, int]  # x and y
Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)
BACKGROUND: Color = (24, 26, 31)
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
MASK_OPACITY = 0.5
VOID_OPACITY = 0.6
# Sizes of marks. They grow with the picture, and are smaller on small objects.
SIDE_PER_LINE = 400  # the shorter side of a picture whose lines are one pixel wide
CLICKED_SHARE = 1 / 6  # of the pixels of an object, that its clicks may cover
LEAST_SIGN_RADIUS = 7  # pixels; a smaller click is a dot without a plus or minus
LEAST_CLICK_RADIUS = 3  # pixels; a smaller object gets a reticle around it instead
LEAST_LETTERS = 9  # pixels
LABEL_SHARE = 5  # an object with so many times the pixels of its label gets it inside
LEAST_DOTTED_AREA = math.pi * LEAST_CLICK_RADIUS**2 / CLICKED_SHARE
FEW_OBJECTS = 8  # up to so many, ids are written large
CLICKS = (PointLabel.POSITIVE, PointLabel.NEGATIVE)

# An object id and its mask, at the size of the picture.
ShownObject = tuple[int, Mask]
# Centre and half the size, x and y, of a part of a picture.
Region = tuple[Point, Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What is drawn over a frame, in pixels of the frame's file.

    Attributes:
        object_ids: One for each mask.
        masks: (O, height, width), bool.
        prompted_ids: Objects whose mask gets a white rim: they are prompted here.
        marks: Points and boxes of the prompts.
        void: (height, width), bool, pixels that do not count, greyed; or None.
        names: Name of each object, written after its id; ``''`` for none. Empty if no
            object has one.
    """

    object_ids: tuple[int, ...]
    masks: Mask
    prompted_ids: tuple[int, ...] = ()
    marks: tuple[PromptMark, ...] = ()
    void: Mask | None = None
    names: tuple[str, ...] = ()


def draw_overlay(frame: Picture, overlay: Overlay, *, long_side: int) -> Picture:
    """Draw masks, contours, object ids and prompts over a frame.

    Args:
        frame: (height, width, 3), of the size of the masks or of another.
        long_side: Length of the picture's longer side in pixels. Small frames are
            enlarged before anything is drawn, so that lines stay fine.

    Returns:
        (shown height, shown width, 3), a new picture.
    """
    size = fitted_size((frame.shape[0], frame.shape[1]), long_side)
    image = resize(frame, size)
    masks = [_resize_mask(mask, size) for mask in overlay.masks]
    if overlay.void is not None:
        _grey_out(image, _resize_mask(overlay.void, size))
    # Small objects come last, so that a larger one around them does not hide them.
    objects = sorted(
        zip(overlay.object_ids, masks, strict=True),
        key=lambda obj: -np.count_nonzero(obj[1]),
    )
    _tint(image, objects)
    for object_id, mask in objects:
        is_prompted = object_id in overlay.prompted_ids
        _outline(image, mask, object_color(object_id), is_prompted=is_prompted)
    scale = size[1] / overlay.masks.shape[2]
    clicks = draw_marks(image, overlay.marks, scale, objects=objects)
    draw_labels(image, masks, overlay.object_ids, names=overlay.names, occupied=clicks)
    return image


def object_color(object_id: int) -> Color:
    """Color of an object, RGB, the same in every picture."""
    if 1 <= object_id <= len(_PALETTE):
        return _PALETTE[object_id - 1]
    # Steps of the golden ratio never come close to an earlier hue for long.
    hue = (object_id * _GOLDEN_RATIO) % 1.0
    saturation = 0.55 + 0.4 * ((object_id // 7) % 2)
    value = 1.0 - 0.25 * ((object_id // 3) % 2)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def fitted_size(size: Size, long_side: int) -> Size:
    """Size at which a frame is shown; both sides are even, as video codecs require."""
    scale = long_side / max(size)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in size)
    return height, width


def resize(image: Picture, size: Size) -> Picture:
    """Resize a picture, averaging where it shrinks; returns a copy."""
    if image.shape[:2] == size:
        return image.copy()
    shrinks = size[0] < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.array(cv2.resize(image, size[::-1], interpolation=method), np.uint8)


def _resize_mask(mask: Mask, size: Size) -> Mask:
    soft = cv2.resize(
        mask.astype(np.uint8) * 255, size[::-1], interpolation=cv2.INTER_LINEAR
    )
    resized: Mask = soft > 127
    return resized


def _tint(image: Picture, objects: Sequence[ShownObject]) -> None:
    """Blend into each pixel the colour of the last mask that covers it."""
    covered = np.zeros(image.shape[:2], dtype=bool)
    colors = np.zeros_like(image)
    for object_id, mask in objects:
        colors[mask] = object_color(object_id)
        covered |= mask
    _blend(image, covered, colors[covered], MASK_OPACITY)


def _grey_out(image: Picture, mask: Mask) -> None:
    """Take colour and contrast from pixels that do not count."""
    image[mask] = np.rint(
        (1 - VOID_OPACITY) * image[mask].mean(axis=1, keepdims=True)
        + VOID_OPACITY * 128
    ).astype(np.uint8)


def _outline(image: Picture, mask: Mask, color: Color, *, is_prompted: bool) -> None:
    """Draw a line around a mask, rimmed dark, or white for a prompt.

    Both lie outside of the mask, so that a small object stays visible.
    """
    # Crop to the mask, which is faster.
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    line_width = min(_line_width(image), max(1, round(min(width, height) / 10)))
    rim_width = line_width + is_prompted
    margin = line_width + rim_width + 1
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    image, mask = image[rows, columns], mask[rows, columns]
    outside = (~mask).astype(np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    line = (distance > 0) & (distance <= line_width)
    rim = (distance > line_width) & (distance <= line_width + rim_width)
    if is_prompted:
        image[rim] = WHITE
    else:
        _blend(image, rim, np.array(BLACK), 0.5)
    image[line] = color


def _line_width(image: Picture) -> int:
    return max(1, round(int(min(image.shape[:2])) / SIDE_PER_LINE))


def _blend(image: Picture, mask: Mask, color: NDArray[Any], opacity: float) -> None:
    mixed = (1 - opacity) * image[mask] + opacity * color
    image[mask] = np.rint(mixed).astype(np.uint8)


# --------------------------------------------------------------------------- Prompts


def draw_marks(
    image: Picture,
    marks: Sequence[PromptMark],
    scale: float,
    *,
    objects: Sequence[ShownObject] = (),
) -> list[Region]:
    """Draw prompt points and boxes into a picture.

    Positive clicks are green with a plus, negative ones red with a minus, each within
    a ring of its object's colour. On a small object a click is a dot. On one that a dot
    would cover it is a reticle: four lines outside of the object that point to it.

    Args:
        marks: Prompts in pixels of the file.
        scale: Pixels of the picture for a pixel of the file.
        objects: Id and mask of each object, (height, width) of the picture, for the
            size of its marks.

    Returns:
        Regions of the clicks, to be kept free of labels.
    """
    top_lefts: dict[int, Point] = {}
    num_clicks = Counter(mark.object_id for mark in marks if mark.label in CLICKS)
    clicks: list[Region] = []
    for mark in marks:
        point, color = _scaled(mark, scale), object_color(mark.object_id)
        if mark.label is PointLabel.BOX_TOP_LEFT:
            top_lefts[mark.object_id] = point
        elif mark.label is PointLabel.BOX_BOTTOM_RIGHT:
            _draw_box(image, top_lefts.get(mark.object_id, point), point, color)
        else:
            clicks += _draw_point(
                image, mark, point, objects, num_clicks[mark.object_id]
            )
    return clicks


def _draw_point(
    image: Picture,
    mark: PromptMark,
    point: Point,
    objects: Sequence[ShownObject],
    num_clicks: int,
) -> list[Region]:
    """Draw a click as its object allows; return the regions that it takes."""
    color = POSITIVE if mark.label is PointLabel.POSITIVE else NEGATIVE
    radius = max(LEAST_SIGN_RADIUS, int(min(image.shape[:2])) // 45 + 3)
    # What the click would hide: mostly its object, but also a small one beside it.
    hidden = [mask for _, mask in objects if _is_near(mask, point, radius)]
    if hidden:
        smallest = min(hidden, key=np.count_nonzero)
        area = int(np.count_nonzero(smallest))
        radius = min(radius, _radius_on(area, num_clicks))
        if radius < LEAST_CLICK_RADIUS:
            return _draw_reticle(image, point, smallest, color)
    if radius < LEAST_SIGN_RADIUS:
        _draw_dot(image, point, radius, color)
    else:
        _draw_click(image, point, radius, object_color(mark.object_id), color)
    return [(point, (radius, radius))]


def _scaled(mark: PromptMark, scale: float) -> Point:
    """Position of a mark in a picture."""
    # A pixel's centre is half a pixel from its corner in both grids.
    return round((mark.x + 0.5) * scale - 0.5), round((mark.y + 0.5) * scale - 0.5)


def _is_near(mask: Mask, point: Point, radius: int) -> bool:
    """Whether a mask has a pixel in the square around a disk."""
    (x, y), top, left = point, max(0, point[1] - radius), max(0, point[0] - radius)
    return bool(mask[top : y + radius + 1, left : x + radius + 1].any())


def _radius_on(area: int, num_clicks: int) -> int:
    """Radius of a click in pixels, by the area of the object that it covers."""
    covered = CLICKED_SHARE * area / num_clicks
    # An object may be tiny or have many clicks: both may not make the clicks vanish.
    if area > LEAST_DOTTED_AREA:
        covered = max(covered, math.pi * LEAST_CLICK_RADIUS**2)
    return int(math.sqrt(covered / math.pi))


def _draw_click(
    image: Picture, point: Point, radius: int, ring: Color, color: Color
) -> None:
    """Draw a disk with a plus or, if it is red, a minus, and a ring around it."""
    x, y = point
    disk = radius - max(2, radius // 5)
    line = max(1, radius // 6)
    arm = disk - line - 1
    cv2.circle(image, point, radius, ring, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, point, disk + 1, WHITE, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, point, disk, color, cv2.FILLED, cv2.LINE_AA)
    cv2.line(image, (x - arm, y), (x + arm, y), WHITE, line)
    if color == POSITIVE:
        cv2.line(image, (x, y - arm), (x, y + arm), WHITE, line)


def _draw_dot(image: Picture, point: Point, radius: int, color: Color) -> None:
    cv2.circle(image, point, radius, WHITE, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, point, radius - 1, color, cv2.FILLED, cv2.LINE_AA)


def _draw_reticle(
    image: Picture, point: Point, mask: Mask, color: Color
) -> list[Region]:
    """Draw four lines that point to a small object from outside."""
    (x, y), line = point, 1 + _line_width(image)
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    gap = 2 * line + max(x - left, left + width - x, y - top, top + height - y)
    end = gap + max(LEAST_SIGN_RADIUS, 3 * line)
    for thickness, stroke in ((line + 2, WHITE), (line, color)):
        for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inner = (x + right * gap, y + down * gap)
            outer = (x + right * end, y + down * end)
            cv2.line(image, inner, outer, stroke, thickness, cv2.LINE_AA)
    return [(point, (end, line)), (point, (line, end))]


def _draw_box(image: Picture, top_left: Point, end: Point, color: Color) -> None:
    """Draw a box; the lines of a small one are fine, so that they hide no object."""
    sides = [abs(stop - start) for start, stop in zip(top_left, end, strict=True)]
    line = 1 + min(_line_width(image), min(sides) // 40)
    cv2.rectangle(image, top_left, end, WHITE, line + 1, cv2.LINE_AA)
    cv2.rectangle(image, top_left, end, color, line, cv2.LINE_AA)


# ------------------------------------------------------------------------------ Text


def text_size(text: str, letter_height: int) -> Size:
    """Height and width in pixels that a line of text takes."""
    return round(1.3 * letter_height), round(_font(letter_height).getlength(text))


def draw_text(
    image: Picture, text: str, at: Point, *, letter_height: int, color: Color = TEXT
) -> None:
    """Write a line into a picture; what does not fit is cut off.

    Args:
        at: Left and top of the line in pixels, inside the picture.
        letter_height: In pixels.
        color: RGB.
    """
    x, y = at
    height, width = text_size(text, letter_height)
    region = image[y : y + height, x : x + width + 2]
    canvas = Image.fromarray(region)
    font = _font(letter_height)
    ImageDraw.Draw(canvas).text((0, 0), text, fill=color, font=font)
    region[:] = np.asarray(canvas)


@lru_cache(maxsize=16)
def _font(letter_height: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, and so is on every machine."""
    folder = Path(mpl.get_data_path()) / 'fonts' / 'ttf'
    return ImageFont.truetype(str(folder / 'DejaVuSans-Bold.ttf'), letter_height)


def draw_labels(
    image: Picture,
    masks: Sequence[Mask],
    object_ids: Sequence[int],
    *,
    names: Sequence[str] = (),
    occupied: Sequence[Region] = (),
) -> None:
    """Write the id and the name of each object on a black label rimmed in its colour.

    A label lies where the mask is thickest, or beside the mask if that is smaller than
    the label or something else is in the way.

    Args:
        masks: Of the picture's size; an empty one gets no label.
        object_ids: One for each mask.
        names: One for each mask, ``''`` for none; empty if no object has one.
        occupied: Centre and half the size (x, y) of regions to keep free.
    """
    divisor = 26 if len(masks) <= FEW_OBJECTS else 36
    largest = max(LEAST_LETTERS, min(image.shape[:2]) // divisor)
    smallest = max(LEAST_LETTERS, round(0.6 * largest))
    line = _line_width(image)
    owners, areas = _owners(image, masks)
    occupied = [*occupied]
    names = names or [''] * len(masks)
    objects = zip(object_ids, names, masks, strict=True)
    for index, (object_id, name, mask) in enumerate(objects):
        if not areas[index]:
            continue
        letter_height = int(np.clip(math.sqrt(areas[index]) / 2, smallest, largest))
        text = f'{object_id} {name}'.rstrip()
        height, width = text_size(text, letter_height)
        half = (width // 2 + 2 + line, height // 2 + line)
        centers = _label_centers(mask, half, gap=3 * line + 1)
        free = [c for c in centers if not any(_overlap(c, half, o) for o in occupied)]
        x, y = min(
            free or centers[:1],
            key=lambda center: _hides_another(center, half, index, owners, areas),
        )
        occupied.append(((x, y), half))
        corners = ((x - half[0], y - half[1]), (x + half[0], y + half[1]))
        cv2.rectangle(image, *corners, BLACK, cv2.FILLED)
        cv2.rectangle(image, *corners, object_color(object_id), line)
        at = (max(0, x - width // 2), max(0, y - height // 2))
        draw_text(image, text, at, letter_height=letter_height, color=WHITE)


def _owners(image: Picture, masks: Sequence[Mask]) -> tuple[NDArray[Any], list[int]]:
    """Index of the smallest mask at each pixel, -1 for none; and areas of the masks."""
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    owners = np.full(image.shape[:2], -1, dtype=np.int32)
    for index in sorted(range(len(masks)), key=lambda index: -areas[index]):
        owners[masks[index]] = index
    return owners, areas


def _hides_another(
    center: Point,
    half: Point,
    index: int,
    owners: NDArray[Any],
    areas: Sequence[int],
) -> bool:
    """Whether a label would cover a good part of an object other than its own."""
    (x, y), (half_width, half_height) = center, half
    rows = slice(max(0, y - half_height), y + half_height + 1)
    columns = slice(max(0, x - half_width), x + half_width + 1)
    covered = np.bincount(owners[rows, columns].ravel() + 1, minlength=len(areas) + 1)
    covered[index + 1] = 0
    return bool((4 * covered[1:] > np.array(areas)).any())


def _label_centers(mask: Mask, half: Point, *, gap: int) -> list[Point]:
    """Where the centre of a label may lie inside the picture, best first."""
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = (int(i) for i in np.unravel_index(depth.argmax(), depth.shape))
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    above, below = top - half[1] - gap, top + height + half[1] + gap
    before, behind = left - half[0] - gap, left + width + half[0] + gap
    centers = [(column, above), (column, below), (before, row), (behind, row)]
    centers += [(x, y) for y in (above, below) for x in (behind, before)]
    label_is_small = 4 * half[0] * half[1] * LABEL_SHARE < np.count_nonzero(mask)
    if depth.max() >= max(half) and label_is_small:
        centers.insert(0, (column, row))
    max_x, max_y = mask.shape[1] - half[0] - 1, mask.shape[0] - half[1] - 1
    return [
        (
            int(np.clip(x, half[0], max(half[0], max_x))),
            int(np.clip(y, half[1], max(half[1], max_y))),
        )
        for x, y in centers
    ]


def _overlap(center: Point, half: Point, other: Region) -> bool:
    (x, y), (half_width, half_height) = other
    return (
        abs(center[0] - x) <= half[0] + half_width
        and abs(center[1] - y) <= half[1] + half_height
    )
