"""Generated clips of shapes with classes, to train detectors and trackers without data.

The class of an object is its outline; textures, colours, sizes and rotations say
nothing about it. In every clip an object comes late, leaves, or leaves and returns. The
same arguments give the same clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from .synthetic import (
    MAX_DRAWS,
    TEXTURE_SIZE,
    Motion,
    Scene,
    Size,
    background_texture,
    clip_size,
    draw_motion,
    object_texture,
    paint,
)

CLASSES = ('disk', 'square', 'triangle', 'star')
SIDE = 128  # pixels, of the square clips
MIN_FRAMES = 12
MIN_SIDE = 64
MIN_PIXELS = 16  # an object has no mask where fewer of its pixels are visible
CLEARLY_VISIBLE = 0.6  # share of an object's area
OCCLUDER_SHARE = 0.5  # of the clips that have an occluder


class Role(Enum):
    """When an object is in the frame."""

    STAYING = 'staying'
    LATE = 'late'  # enters after the first frame
    LEAVING = 'leaving'  # is gone on the last frame
    RETURNING = 'returning'  # is gone for two frames or more, and visible at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapesClip:
    """A generated clip.

    Attributes:
        name: Name of the clip.
        frames: (T, height, width, 3), RGB.
        labels: (T, height, width), object ids from 1 to O, 0 for the background.
        classes: Class of each object, index of ``CLASSES``.
        roles: Role of each object.
        visibility: (T, O), share of each object that is visible, in [0, 1].
    """

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: tuple[int, ...]
    roles: tuple[Role, ...]
    visibility: NDArray[np.float32]

    def class_maps(self) -> NDArray[np.uint8]:
        """Class of each pixel plus one, 0 for the background: (T, height, width)."""
        class_of = np.array([0, *(index + 1 for index in self.classes)], np.uint8)
        return class_of[self.labels]


def draw_shapes(
    split: str, index: int, *, num_frames: int = 16, side: int = SIDE, seed: int = 0
) -> ShapesClip:
    """Draw a clip.

    Args:
        split: Name of the split; part of the name and of the seed of the clip.
        index: Which clip of the split.
        num_frames: Number of frames; motion is faster in shorter clips.
        side: Height and width of a square clip, the longer side of others, pixels.
        seed: Seed of the dataset.

    Raises:
        ValueError: If there are too few frames or pixels.
    """
    check_extent(num_frames, side)
    name = f'{split}_{index:05d}'
    size = clip_size(index, side)
    split_seed = int.from_bytes(split.encode(), 'big')
    for draw in range(MAX_DRAWS):
        rng = np.random.default_rng((seed, split_seed, index, draw))
        clip = _draw_clip(name, rng, size, num_frames)
        if clip is not None:
            return clip
    msg = f'{name}: no draw of {MAX_DRAWS} shows what its objects do; try another seed'
    raise RuntimeError(msg)


def check_extent(num_frames: int, side: int) -> None:
    """Raise ValueError if clips have too few frames or pixels."""
    if num_frames < MIN_FRAMES or side < MIN_SIDE:
        msg = (
            f'{num_frames} frames of {side} pixels are too few for objects that leave '
            f'and return; give {MIN_FRAMES} frames and {MIN_SIDE} pixels or more'
        )
        raise ValueError(msg)


def _draw_clip(
    name: str, rng: np.random.Generator, size: Size, num_frames: int
) -> ShapesClip | None:
    """Draw and render a scene; None if an object does not play its role."""
    others = list(Role)[1:]
    num_others = int(rng.integers(1, 3))
    roles = [Role.STAYING] * int(rng.integers(1, 3)) + [
        others[i] for i in rng.permutation(len(others))[:num_others]
    ]
    rng.shuffle(roles)
    classes = tuple(int(i) for i in rng.integers(len(CLASSES), size=len(roles)))
    objects: list[Shape] = []
    for role, class_index in zip(roles, classes, strict=True):
        motions = [shape.motion for shape in objects]
        outline = OUTLINES[CLASSES[class_index]]
        objects.append(_draw_shape(rng, size, outline, role, motions))
    scene = Scene(
        background=background_texture(rng, (2 * size[0], 2 * size[1])),
        pan=rng.uniform(-0.5, 0.5, 2) * min(size),
        objects=tuple(objects),
        occluder=_draw_bar(rng, size) if rng.random() < OCCLUDER_SHARE else None,
        light=float(rng.uniform(-0.3, 0.3)),
    )
    times = np.linspace(0, 1, num_frames)
    rendered = [scene.render(float(time), size, rng) for time in times]
    labels = np.stack([label for _, label in rendered])
    ids = np.arange(1, len(objects) + 1)
    pixels = (labels[..., None] == ids).sum(axis=(1, 2))  # (T, O)
    areas = np.array([[shape.area(time) for shape in objects] for time in times])
    pixels[pixels < MIN_PIXELS] = 0
    visibility = np.minimum(pixels / areas, 1).astype(np.float32)
    for frame_index, object_index in np.argwhere(pixels == 0):
        frame_labels = labels[frame_index]
        frame_labels[frame_labels == object_index + 1] = 0
    if not all(map(_plays_role, roles, visibility.T)):
        return None
    return ShapesClip(
        name=name,
        frames=np.stack([frame for frame, _ in rendered]),
        labels=labels,
        classes=classes,
        roles=tuple(roles),
        visibility=visibility,
    )


def _plays_role(role: Role, visibility: NDArray[np.float32]) -> bool:
    """Whether an object with this visibility (T,) does what its role says."""
    absent = visibility == 0
    first, last = visibility[0], visibility[-1]
    if role is Role.LATE:
        return bool(absent[0] and absent[1] and last > CLEARLY_VISIBLE)
    if role is Role.LEAVING:
        return bool(first > CLEARLY_VISIBLE and absent[-2] and absent[-1])
    if min(first, last) < CLEARLY_VISIBLE:
        return False
    is_away = bool((absent[1:] & absent[:-1]).any())
    return is_away if role is Role.RETURNING else not is_away


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A textured polygon.

    Attributes:
        outline: (N, 2), corners around (0, 0), x and y.
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3), RGB.
        radius: Length of 1 of the outline, pixels.
        spin: Angle at time 0 and rotation over the whole time, radians.
        pulse: Largest relative change of its size.
        motion: Where it is.
    """

    outline: NDArray[np.float64]
    texture: NDArray[np.uint8]
    radius: float
    spin: tuple[float, float]
    pulse: float
    motion: Motion

    def draw(
        self, frame: NDArray[np.float32], time: float, offset: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Paint the shape on a frame, in place; see :meth:`Blob.draw`."""
        center = self.motion.at(time) + offset
        angle, scale = self.spin[0] + self.spin[1] * time, self._scale(time)
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, sin], [-sin, cos]])
        corners = center + self.radius * scale * self.outline @ rotation
        return paint(frame, corners, self.texture, center, angle, scale)

    def area(self, time: float) -> float:
        """Area in pixels, of parts outside of the frame as well."""
        unit = cv2.contourArea(self.outline.astype(np.float32))
        return float(unit * (self.radius * self._scale(time)) ** 2)

    def _scale(self, time: float) -> float:
        return 1 + self.pulse * float(np.sin(2 * np.pi * time + self.spin[0]))


def _draw_shape(
    rng: np.random.Generator,
    size: Size,
    outline: NDArray[np.float64],
    role: Role,
    others: Sequence[Motion],
) -> Shape:
    """Draw all but the outline of an object."""
    radius = float(rng.uniform(0.11, 0.18)) * min(size)
    is_away = role is not Role.STAYING
    motion = draw_motion(rng, size, list(others), radius, leaves=is_away)
    # An excursion is at its farthest in the middle of its time, which is the beginning
    # of the clip for an object that comes late and its end for one that leaves.
    if role is Role.LATE:
        end = float(rng.uniform(0.3, 0.55))
        motion = replace(motion, away=(-end, end))
    elif role is Role.LEAVING:
        begin = float(rng.uniform(0.4, 0.65))
        motion = replace(motion, away=(begin, 2 - begin))
    return Shape(
        outline=outline,
        texture=object_texture(rng, TEXTURE_SIZE),
        radius=radius,
        spin=(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-2.0, 2.0))),
        pulse=float(rng.uniform(0.0, 0.2)),
        motion=motion,
    )


def _draw_bar(rng: np.random.Generator, size: Size) -> Shape:
    """Draw a bar that hides what passes behind it."""
    position = rng.uniform((0.2, 0.2), (0.8, 0.8)) * size[::-1]
    return Shape(
        outline=BAR,
        texture=object_texture(rng, TEXTURE_SIZE),
        radius=float(rng.uniform(0.2, 0.3)) * min(size),
        spin=(float(rng.uniform(0, 2 * np.pi)), 0.0),
        pulse=0.0,
        motion=Motion.still(position),
    )


def _polygon(num_corners: int, radii: Sequence[float]) -> NDArray[np.float64]:
    """Corners at equal angles; their distances from the middle repeat ``radii``."""
    angles = np.linspace(0, 2 * np.pi, num_corners, endpoint=False)
    lengths = np.resize(radii, num_corners)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(lengths[:, None] * directions, np.float64)


# Of similar areas.
OUTLINES = {
    'disk': _polygon(48, [1.0]),
    'square': _polygon(4, [1.25]),
    'triangle': _polygon(3, [1.5]),
    'star': _polygon(10, [1.5, 0.65]),
}
BAR = np.array([[-1, -0.15], [1, -0.15], [1, 0.15], [-1, 0.15]], np.float64)
