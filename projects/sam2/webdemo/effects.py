"""Effects on a frame: overlay, cut-out, blur and the like.

The page previews the same effects in a shader; these are the formulas of both. Values
are those of sRGB as stored, 0 to 255, never linearised, and are rounded to the nearest
integer. Lengths are pixels of the user's frame, and depend on its shorter side ``m``; a
page that shows the frame smaller scales them with it.

**What is shown.** Each pixel belongs to at most one object: of several masks that cover
it the last in the list (the order of creation) lies on top. ``M`` is the union of the
masks. The *target* of an effect is ``M`` for ``'objects'`` and its complement for
``'background'``.

**Effects.** ``f`` is the frame, ``s`` the strength (0 to 1), and
``mix(a, b, s) = a + s (b - a)``:

- ``overlay``: ``mix(f, colour of the object, s)`` on ``M``.
- ``outline``: a line inside each object, in its colour; its width is below.
- ``cutout``: the target becomes transparent, and black below the transparency; alpha is
  0 or 255. Where there is no alpha (films) it is black. ``s`` has no effect.
- ``blur``: a Gaussian of the whole frame (mirrored at its border) with sigma
  ``0.05 s m``, on the target.
- ``pixelate``: the mean of each block of ``max(2, round(0.1 s m))`` pixels a side, on
  the target. Blocks start at the upper left corner; those cut by the right or lower
  border take the mean of what there is.
- ``spotlight``: ``(1 - 0.9 s) f`` on the target.
- ``desaturate``: ``mix(f, 0.299 R + 0.587 G + 0.114 B, s)`` on the target.
- ``replace``: ``mix(f, colour of the option, s)`` on the target.

**Outlines.** The effect ``outline`` draws lines of ``max(1, round(s m / 60))`` pixels;
the option ``outline`` adds lines of ``max(1, round(m / 300))`` pixels to any other
effect, after it. A pixel of an object is on the line if a pixel of the frame that does
not belong to the same object is at most that width away (between centres). The border
of the frame is no edge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..visualization.drawing import Color, Mask, Picture

EffectName = Literal[
    'overlay',
    'outline',
    'cutout',
    'blur',
    'pixelate',
    'spotlight',
    'desaturate',
    'replace',
]
Target = Literal['background', 'objects']

# Shares of the shorter side of the frame, at full strength.
BLUR_SHARE = 0.05
BLOCK_SHARE = 0.1
OUTLINE_SHARE = 1 / 60
ADDED_OUTLINE_SHARE = 1 / 300  # at any strength
SPOTLIGHT_SHARE = 0.9  # of the light that a spotlight at full strength takes away
REDUCED_SIGMA = 8.0  # wider blurs are taken from a reduced frame, which is far faster


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectOptions:
    """An effect and its settings, see the module for what they mean.

    Attributes:
        name: Of the effect.
        strength: 0 to 1.
        target: The part of the frame that the effect changes; an overlay and an outline
            are always on the objects.
        color: ``#rrggbb``, of ``replace``.
        outline: Draw outlines as well.
        objects: Ids of the objects that count; None for all that are not hidden.
    """

    name: EffectName = 'overlay'
    strength: float = 0.5
    target: Target = 'background'
    color: str = '#ffffff'
    outline: bool = True
    objects: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ShownMask:
    """A mask of the size of the frame, and its colour (RGB)."""

    mask: Mask
    color: Color


def apply_effect(
    frame: Picture, masks: Sequence[ShownMask], options: EffectOptions
) -> NDArray[np.uint8]:
    """Apply an effect to a frame.

    Args:
        frame: (height, width, 3), RGB; it is not changed.
        masks: Those of the objects that count; later ones lie on top.

    Returns:
        (height, width, 3), RGB; of a cut-out (height, width, 4), RGB and alpha.

    Raises:
        ValueError: If a mask has another size than the frame.
    """
    owners = _topmost(frame, masks)
    covered = owners > 0
    colors = np.array([(0, 0, 0), *(shown.color for shown in masks)], np.uint8)
    strength = options.strength
    if options.name == 'outline':
        shown, width = frame.copy(), strength * min(frame.shape[:2]) * OUTLINE_SHARE
    else:
        on_objects = options.name == 'overlay' or options.target == 'objects'
        where = covered if on_objects else ~covered
        changed = _CHANGES[options.name](frame, colors, owners, options)
        shown = np.where(where[:, :, None], changed, frame)
        width = min(frame.shape[:2]) * ADDED_OUTLINE_SHARE
    is_cutout = options.name == 'cutout'
    alpha = np.where(where, np.uint8(0), np.uint8(255)) if is_cutout else None
    if options.outline or options.name == 'outline':
        line = _outlines(owners, masks, max(1, round(width)))
        shown[line] = colors[owners[line]]
        if alpha is not None:
            alpha[line] = 255
    if alpha is not None:
        shown = np.asarray(cv2.merge([*cv2.split(shown), alpha]), np.uint8)
    return shown


def parse_color(color: str) -> Color:
    """RGB of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(color.removeprefix('#'))
    return red, green, blue


def _topmost(frame: Picture, masks: Sequence[ShownMask]) -> NDArray[np.int32]:
    """For each pixel 1 + the index of the topmost mask, or 0."""
    for shown in masks:
        if shown.mask.shape != frame.shape[:2]:
            msg = f'a mask of {shown.mask.shape} is on a frame of {frame.shape[:2]}'
            raise ValueError(msg)
    owners = np.zeros(frame.shape[:2], np.int32)
    for owner, shown in enumerate(masks, start=1):
        part = _surroundings(shown.mask)
        owners[part][shown.mask[part]] = owner
    return owners


def _surroundings(mask: Mask) -> tuple[slice, slice]:
    """Rows and columns of a mask, and one more on each side."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows = slice(max(0, y - 1), y + height + 1)
    return rows, slice(max(0, x - 1), x + width + 1)


def _outlines(
    owners: NDArray[np.int32], masks: Sequence[ShownMask], width: int
) -> Mask:
    """Pixels at most `width` away from one that belongs to something else."""
    line = np.zeros(owners.shape, bool)
    for owner, shown in enumerate(masks, start=1):
        # The nearest other pixel touches the object.
        part = _surroundings(shown.mask)
        own = owners[part] == owner
        if own.any() and not own.all():
            distance = cv2.distanceTransform(
                own.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
            line[part] |= own & (distance <= width + 1e-3)
    return line


def _mix(frame: Picture, other: NDArray[np.uint8], strength: float) -> Picture:
    return np.asarray(
        cv2.addWeighted(frame, 1 - strength, other, strength, 0), np.uint8
    )


def _overlay(
    frame: Picture,
    colors: NDArray[np.uint8],
    owners: NDArray[np.int32],
    options: EffectOptions,
) -> Picture:
    return _mix(frame, colors[owners], options.strength)


def _cut_out(frame: Picture, *_: Any) -> Picture:
    return np.zeros_like(frame)


def _blur(
    frame: Picture, _colors: Any, _owners: Any, options: EffectOptions
) -> Picture:
    height, width = frame.shape[:2]
    sigma = options.strength * min(height, width) * BLUR_SHARE
    if sigma <= 0:
        return frame
    factor = max(1, int(sigma // (REDUCED_SIGMA / 2))) if sigma > REDUCED_SIGMA else 1
    reduced = (max(1, width // factor), max(1, height // factor))
    image = cv2.resize(frame, reduced, interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(
        image, (0, 0), sigma / factor, borderType=cv2.BORDER_REFLECT
    )
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image, np.uint8)


def _pixelate(
    frame: Picture, _colors: Any, _owners: Any, options: EffectOptions
) -> Picture:
    height, width = frame.shape[:2]
    side = max(2, round(options.strength * min(height, width) * BLOCK_SHARE))
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(frame.astype(np.float32), rows, axis=0)
    sums = np.add.reduceat(sums, columns, axis=1)
    heights = np.diff([*rows, height])
    widths = np.diff([*columns, width])
    means = np.rint(sums / (heights[:, None] * widths)[:, :, None]).astype(np.uint8)
    pixels: Picture = means.repeat(heights, axis=0).repeat(widths, axis=1)
    return pixels


def _darken(
    frame: Picture, _colors: Any, _owners: Any, options: EffectOptions
) -> Picture:
    return _mix(frame, np.zeros_like(frame), SPOTLIGHT_SHARE * options.strength)


def _desaturate(
    frame: Picture, _colors: Any, _owners: Any, options: EffectOptions
) -> Picture:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return _mix(frame, np.dstack([grey] * 3), options.strength)


def _replace(
    frame: Picture, _colors: Any, _owners: Any, options: EffectOptions
) -> Picture:
    color = np.broadcast_to(np.array(parse_color(options.color), np.uint8), frame.shape)
    return _mix(frame, np.ascontiguousarray(color), options.strength)


# The whole frame after an effect; it is then shown on the target alone.
_CHANGES: dict[str, Callable[..., Picture]] = {
    'overlay': _overlay,
    'cutout': _cut_out,
    'blur': _blur,
    'pixelate': _pixelate,
    'spotlight': _darken,
    'desaturate': _desaturate,
    'replace': _replace,
}
