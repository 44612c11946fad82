"""Colours that tell many objects apart on a photograph."""

import colorsys

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

    Args:
        object_id: As in the dataset.

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
