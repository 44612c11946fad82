"""Text in pictures, and plates with the ids of objects."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from projects.sam2.visualization.colors import (
    BLACK,
    TEXT,
    WHITE,
    Color,
    object_color,
)

Picture = NDArray[np.uint8]
Point = tuple[int, int]
Plate = tuple[Point, Point]  # centre, and half the size

FEW = 8  # objects up to which ids are written large


def text_size(text: str, height: int) -> tuple[int, int]:
    """Space that a line of text takes.

    Args:
        text: One line.
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
        image: Drawn into.
        text: One line.
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
        image: Drawn into.
        masks: Of the picture's size; an empty one gets no plate.
        object_ids: One for each mask.
        taken: Centre and half the size of what shall not be covered.
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
