"""Textured bodies that move and deform over a moving ground."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.synthetic.textures import ground_texture, object_texture

TEXTURE_SIZE = 160
NUM_CORNERS = 48
SUBPIXEL_BITS = 4
NUM_WAVES = 4
PAN_MARGIN = 0.5  # ground beyond each side of the frame, as a share of its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Where a body is at a time from 0 to 1.

    Attributes:
        start: ``(x, y)`` at time 0, pixels.
        drift: ``(x, y)``, pixels over the whole time.
        sway: Amplitudes along x and y, pixels.
        frequency: Of the sway, cycles along x and y.
        excursion: ``(x, y)``, pixels away at the middle of the excursion.
        away: When the excursion begins and ends.
    """

    start: NDArray[np.float64]
    drift: NDArray[np.float64]
    sway: NDArray[np.float64]
    frequency: NDArray[np.float64]
    excursion: NDArray[np.float64]
    away: tuple[float, float]

    def at(self, time: float) -> NDArray[np.float64]:
        """Position at a time.

        Args:
            time: From 0 to 1.

        Returns:
            ``(x, y)`` of the centre.
        """
        begin, end = self.away
        progress = min(max((time - begin) / (end - begin), 0.0), 1.0)
        swaying = self.sway * np.sin(2 * np.pi * self.frequency * time)
        leaving = self.excursion * np.sin(np.pi * progress) ** 2
        position: NDArray[np.float64] = (
            self.start + self.drift * time + swaying + leaving
        )
        return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A textured blob.

    Attributes:
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3), RGB.
        radius: Mean radius, pixels.
        waves: (NUM_WAVES, 3), amplitude, phase and speed of the waves of its outline.
        spin: Angle at time 0 and turns over the whole time, radians.
        pulse: Largest relative change of its size.
        motion: Where it is.
    """

    texture: NDArray[np.uint8]
    radius: float
    waves: NDArray[np.float64]
    spin: tuple[float, float]
    pulse: float
    motion: Motion

    def draw(
        self, frame: NDArray[np.float32], time: float, offset: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Paint the body over a frame, in place.

        Args:
            frame: (height, width, 3), RGB.
            time: From 0 to 1.
            offset: ``(x, y)`` added to its position.

        Returns:
            (height, width), the pixels it covers.
        """
        height, width = frame.shape[:2]
        center = self.motion.at(time) + offset
        angle = self.spin[0] + self.spin[1] * time
        size = 1 + self.pulse * np.sin(2 * np.pi * time + self.spin[0])
        alpha = np.zeros((height, width), np.uint8)
        corners = np.round(self._outline(time, angle, size, center) * 2**SUBPIXEL_BITS)
        cv2.fillPoly(alpha, [corners.astype(np.int32)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        middle = TEXTURE_SIZE / 2
        turn = np.asarray(
            cv2.getRotationMatrix2D((middle, middle), -np.degrees(angle), float(size)),
            np.float64,
        )
        turn[:, 2] += center - middle
        skin = cv2.warpAffine(
            self.texture, turn, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        share = alpha[..., None].astype(np.float32) / 255
        frame[:] = frame + (skin - frame) * share
        return alpha > 127

    def _outline(
        self, time: float, angle: float, size: float, center: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        theta = np.linspace(0, 2 * np.pi, NUM_CORNERS, endpoint=False)
        order = np.arange(2, NUM_WAVES + 2)[:, None]
        amplitude, phase, speed = (self.waves[:, i : i + 1] for i in range(3))
        bumps = amplitude * np.cos(order * theta + phase + speed * time)
        radius = self.radius * size * (1 + bumps.sum(axis=0))
        direction = np.stack([np.cos(theta + angle), np.sin(theta + angle)], axis=1)
        corners: NDArray[np.float64] = center + radius[:, None] * direction
        return corners


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Bodies over a ground.

    Attributes:
        ground: RGB, larger than the frame by ``PAN_MARGIN`` on each side.
        pan: Motion of the ground over the whole time, ``(x, y)``, pixels.
        objects: Bodies with a mask, the lowest first.
        occluder: A body without a mask above all others, or None.
        light: Relative change of the light over the whole time.
    """

    ground: NDArray[np.uint8]
    pan: NDArray[np.float64]
    objects: tuple[Body, ...]
    occluder: Body | None
    light: float

    def render(
        self, time: float, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw a frame and the ids of the visible objects.

        Args:
            time: From 0 to 1.
            size: Height and width.
            rng: Of the camera's noise.

        Returns:
            (height, width, 3), RGB, and (height, width), 0 for the ground.
        """
        height, width = size
        shift = self.pan * (time - 0.5)
        view = np.array(
            [
                [1, 0, shift[0] - PAN_MARGIN * width],
                [0, 1, shift[1] - PAN_MARGIN * height],
            ]
        )
        seen = cv2.warpAffine(
            self.ground, view, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        frame = np.asarray(seen, np.float32)
        labels = np.zeros(size, np.uint8)
        still = np.zeros(2)
        for object_id, body in enumerate(self.objects, start=1):
            labels[body.draw(frame, time, still)] = object_id
        if self.occluder is not None:
            labels[self.occluder.draw(frame, time, shift)] = 0
        frame *= 1 + self.light * (time - 0.5)
        frame += rng.normal(0, 3, frame.shape).astype(np.float32)
        return frame.clip(0, 255).astype(np.uint8), labels


def draw_body(
    rng: np.random.Generator,
    texture: NDArray[np.uint8],
    radius: float,
    motion: Motion,
) -> Body:
    """Draw the outline and the spin of a body.

    Args:
        rng: Source of both.
        texture: Its skin.
        radius: Mean radius, pixels.
        motion: Where it is.

    Returns:
        The body.
    """
    waves = np.stack(
        [
            rng.uniform(0.0, 0.16, NUM_WAVES),
            rng.uniform(0, 2 * np.pi, NUM_WAVES),
            rng.uniform(-4, 4, NUM_WAVES),
        ],
        axis=1,
    )
    return Body(
        texture=texture,
        radius=radius,
        waves=waves,
        spin=(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-2.0, 2.0))),
        pulse=float(rng.uniform(0.0, 0.2)),
        motion=motion,
    )


def draw_ground(
    rng: np.random.Generator,
    size: tuple[int, int],
    textures: Sequence[NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Draw a ground with things on it.

    Args:
        rng: Source of all of it.
        size: Height and width of the frame.
        textures: Of the objects, that every other thing resembles; none for things
            with textures of their own.

    Returns:
        RGB, larger than the frame by ``PAN_MARGIN`` on each side.
    """
    height, width = (round(side * (1 + 2 * PAN_MARGIN)) for side in size)
    ground = ground_texture(rng, (height, width)).astype(np.float32)
    for index in range(int(rng.integers(6, 12))):
        texture = object_texture(rng, TEXTURE_SIZE)
        if textures and index % 2:
            texture = textures[index % len(textures)]
        faded = np.asarray(texture * rng.uniform(0.6, 0.95), np.uint8)
        radius = rng.uniform(0.05, 0.13) * min(size)
        place = standing(rng.uniform((0, 0), (width, height)))
        draw_body(rng, faded, radius, place).draw(ground, 0.0, np.zeros(2))
    return ground.astype(np.uint8)


def standing(place: NDArray[np.float64]) -> Motion:
    """The motion of a thing that stays.

    Args:
        place: ``(x, y)``.

    Returns:
        The motion.
    """
    zero = np.zeros(2)
    return Motion(
        start=place, drift=zero, sway=zero, frequency=zero, excursion=zero, away=(0, 1)
    )
