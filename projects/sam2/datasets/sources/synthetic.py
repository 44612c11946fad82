"""Generated clips of moving textured objects, to train and test without data.

A clip is drawn from a plan: a scene of textured blobs over a background is rendered at
the times of its frames. The same plan gives the same clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import cv2
import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ...structures import FrameMasks
from ..clip_dataset import ClipDataset

Size = tuple[int, int]  # height and width

# Dataset
SIDE = 128  # pixels, of the square clips
SEED = 0
# Clips
MIN_FRAMES = 8
MIN_FIRST_SHARE = 0.008  # of the frame that each object covers on the first frame
MAX_DRAWS = 50
NUM_POSITIONS = 4  # candidates for the start or the goal of an object
TRAVEL = 0.75  # share of the way to its goal that an object covers
MIN_GAP = 0.25  # of the frames without the target, where it is hidden or leaves
MIN_COVER = 0.4  # of the target that objects crossing it hide on some frame
# Scenes
TEXTURE_SIZE = 160
NUM_CORNERS = 48  # of an outline
NUM_WAVES = 4  # of an outline
SUBPIXEL_BITS = 4
PAN_MARGIN = 0.5  # background beyond each side of the frame, as a share of its size
# Textures
NOISE_CELLS = (48, 20, 8, 3)  # pixels of a cell, coarse to fine
GRAIN = 0.25  # share of the noise in a pattern


@DATASETS.register_module()
class ClipSyntheticDataset(ClipDataset):
    """Clips of moving textured objects, to be mixed with few real ones.

    The same index gives the same clip. Frames have a side of 128 pixels; some are wide,
    some tall.

    Args:
        num_clips: Different clips.
        num_frames: Frames of each; motion is faster in shorter ones.
        kinds: What is hard about the clips, in turn: values of :class:`ClipKind`.
            Those of ``MEMORY_KINDS`` need a memory of what the target looks like.
        seed: Seed of all clips.
        pipeline: Transforms, see :class:`ClipDataset`.

    Raises:
        ValueError: If there is no such kind, or none is given.
    """

    is_generated = True

    def __init__(
        self,
        *,
        num_clips: int,
        num_frames: int = 8,
        kinds: Sequence[str] = ('like_texture', 'returning', 'plain'),
        seed: int = SEED,
        pipeline: Sequence[dict[str, Any]] = (),
    ) -> None:
        plans = make_plans(
            split='made',  # part of the names and seeds of the clips
            num_clips=num_clips,
            num_frames=num_frames,
            size=SIDE,
            seed=seed,
            kinds=kinds_of(kinds),
        )
        self._plans: dict[str, ClipPlan] = {plan.name: plan for plan in plans}
        super().__init__(data_root=None, pipeline=pipeline)

    def list_videos(self) -> list[str]:
        """Names of the clips."""
        return list(self._plans)

    def open_video(self, name: str) -> 'RenderedVideoSource':
        """Render a clip."""
        return RenderedVideoSource(name=name, clip=make_clip(self._plans[name]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedVideoSource:
    """A generated clip in memory, as a ``VideoSource``.

    Attributes:
        name: Name of the clip.
        clip: Its frames and labels.
    """

    name: str
    clip: 'SyntheticClip'

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.clip.frames)

    def frame_name(self, frame_index: int) -> str:
        """Stem under which the frame would be written."""
        return f'{frame_index:05d}'

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """A frame: (height, width, 3), RGB."""
        frame: NDArray[np.uint8] = self.clip.frames[frame_index]
        return frame

    def read_masks(self, frame_index: int) -> FrameMasks:
        """Masks of the objects that are visible on a frame."""
        labels = self.clip.labels[frame_index]
        ids = tuple(int(label) for label in np.unique(labels) if label)
        masks = labels == np.array(ids, dtype=labels.dtype).reshape(-1, 1, 1)
        return FrameMasks(object_ids=ids, masks=masks)

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))


# Clips -------------------------------------------------------------------------------


class ClipKind(Enum):
    """What is hard about a clip."""

    LIKE_TEXTURE = 'like_texture'  # two objects have similar textures
    RETURNING = 'returning'  # an object leaves the frame and returns
    PLAIN = 'plain'
    # One target among objects of its texture, which have no mask.
    CROSSING = 'crossing'  # they pass in front of it
    OCCLUDED = 'occluded'  # it waits behind a wall, they do not
    REENTRY = 'reentry'  # it leaves and comes back elsewhere, one waits where it left


STANDARD_KINDS = (ClipKind.LIKE_TEXTURE, ClipKind.RETURNING, ClipKind.PLAIN)
MEMORY_KINDS = (ClipKind.CROSSING, ClipKind.OCCLUDED, ClipKind.REENTRY)


def kinds_of(names: Sequence[str]) -> tuple[ClipKind, ...]:
    """Look up kinds of clips by their names.

    Raises:
        ValueError: If there is no such kind, or none is given.
    """
    known = [kind.value for kind in ClipKind]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        msg = f'Kinds of clips {list(names)}: give some of {", ".join(known)}'
        raise ValueError(msg)
    return tuple(ClipKind(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan:
    """What to generate.

    Attributes:
        name: Name of the clip.
        seed: Seed of all its random numbers.
        kind: What is hard about it.
        size: Height and width.
        num_frames: Number of frames.
    """

    name: str
    seed: tuple[int, ...]
    kind: ClipKind
    size: Size
    num_frames: int

    def __post_init__(self) -> None:
        """Check that an object has the time to leave and to return."""
        if self.num_frames < MIN_FRAMES:
            msg = f'{self.name}: {self.num_frames} frames; give {MIN_FRAMES} or more'
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticClip:
    """A generated clip.

    Attributes:
        frames: (T, height, width, 3), RGB.
        labels: (T, height, width), object ids, 0 for the background.
        num_objects: Objects of the first frame, ids 1 to ``num_objects``.
        like_texture: Whether two objects have similar textures.
        returning_ids: Objects that leave the frame and return.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    num_objects: int
    like_texture: bool
    returning_ids: tuple[int, ...]

    @property
    def is_hard(self) -> bool:
        """Whether it has similar textures or a returning object."""
        return self.like_texture or bool(self.returning_ids)


def make_plans(
    *,
    split: str,
    num_clips: int,
    num_frames: int,
    size: int,
    seed: int,
    kinds: Sequence[ClipKind] = STANDARD_KINDS,
) -> list[ClipPlan]:
    """Plan the clips of a split; kinds and shapes (square, wide, tall) alternate.

    Args:
        size: Side of the square clips in pixels.
    """
    split_seed = int.from_bytes(split.encode()[:4], 'big')
    return [
        ClipPlan(
            name=f'{split}_{index:05d}',
            seed=(seed, split_seed, index),
            kind=kinds[index % len(kinds)],
            size=clip_size(index, size),
            num_frames=num_frames,
        )
        for index in range(num_clips)
    ]


def clip_size(index: int, side: int) -> Size:
    """Height and width of a clip by its index: square, wide, square or tall."""
    short = side * 3 // 4
    return ((side, side), (short, side), (side, side), (side, short))[index % 4]


def make_clip(plan: ClipPlan) -> SyntheticClip:
    """Generate a clip: draw scenes until one has the properties of the plan.

    Raises:
        RuntimeError: If none has them.
    """
    for draw in range(MAX_DRAWS):
        clip = _draw_clip(plan, np.random.default_rng((*plan.seed, draw)))
        if clip is not None:
            return clip
    msg = f'{plan.name}: no draw of {MAX_DRAWS} fits {plan}; try another seed or size'
    raise RuntimeError(msg)


def _draw_clip(plan: ClipPlan, rng: np.random.Generator) -> SyntheticClip | None:
    """Draw and render a scene; None if it does not fit the plan."""
    if plan.kind in MEMORY_KINDS:
        num_objects = 1
        scene = _draw_memory_scene(plan, rng)
    else:
        num_objects = int(rng.integers(2, 5))
        scene = _draw_scene(plan, rng, num_objects)
    times = np.linspace(0, 1, plan.num_frames)
    rendered = [scene.render(float(time), plan.size, rng) for time in times]
    labels = np.stack([label for _, label in rendered])
    first_areas = np.bincount(labels[0].reshape(-1), minlength=num_objects + 1)[1:]
    returning = returning_objects(labels, num_objects)
    if first_areas.min() < MIN_FIRST_SHARE * labels[0].size:
        return None
    if plan.kind is ClipKind.RETURNING and not returning:
        return None
    if plan.kind in MEMORY_KINDS and not _needs_memory(labels, plan.kind):
        return None
    return SyntheticClip(
        frames=np.stack([frame for frame, _ in rendered]),
        labels=labels,
        num_objects=num_objects,
        like_texture=plan.kind in {ClipKind.LIKE_TEXTURE, *MEMORY_KINDS},
        returning_ids=returning,
    )


def _needs_memory(labels: NDArray[np.uint8], kind: ClipKind) -> bool:
    """Whether the target is covered or gone for long enough, and visible at the end."""
    areas = (labels == 1).sum(axis=(1, 2))
    num_frames, usual = len(areas), np.median(areas[areas > 0])
    if areas[-max(1, num_frames // 6) :].min() < usual / 2:
        return False
    if kind is ClipKind.CROSSING:
        return bool(areas.min() < (1 - MIN_COVER) * usual)
    visible = np.flatnonzero(areas)
    return bool(np.diff(visible).max(initial=1) > MIN_GAP * num_frames)


def returning_objects(labels: NDArray[np.uint8], num_objects: int) -> tuple[int, ...]:
    """Find the objects that are absent for two frames or more and visible again.

    Args:
        labels: (T, height, width).
        num_objects: Ids go from 1 to this.
    """
    ids = []
    for object_id in range(1, num_objects + 1):
        visible = np.flatnonzero((labels == object_id).any(axis=(1, 2)))
        if len(visible) and int(np.diff(visible).max(initial=1)) > 2:
            ids.append(object_id)
    return tuple(ids)


def copy_iou(labels: NDArray[np.uint8], num_objects: int) -> float:
    """Score a prediction that repeats each object's first mask.

    Args:
        labels: (T, height, width).
        num_objects: Ids go from 1 to this.

    Returns:
        IoU in [0, 1], the mean over objects and frames without the first and the
        last; 1 where both masks are empty.
    """
    scores = []
    for object_id in range(1, num_objects + 1):
        masks = labels[1:-1] == object_id
        first = labels[0] == object_id
        union = (masks | first).sum(axis=(1, 2))
        intersection = (masks & first).sum(axis=(1, 2))
        ious = np.where(union > 0, intersection / np.maximum(union, 1), 1.0)
        scores.append(ious.mean())
    return float(np.mean(scores))


# Scenes ------------------------------------------------------------------------------


class Drawable(Protocol):
    """An object of a scene."""

    def draw(
        self, frame: NDArray[np.float32], time: float, offset: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """See :meth:`Blob.draw`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Objects over a background.

    Attributes:
        background: RGB, larger than the frame by ``PAN_MARGIN`` on each side.
        pan: Motion of the background over the whole time, ``(x, y)``, pixels.
        objects: Objects with a mask, the lowest first.
        others: Objects without a mask above those, the lowest first.
        occluder: An object without a mask above all others, or None.
        light: Relative change of the brightness over the whole time.
    """

    background: NDArray[np.uint8]
    pan: NDArray[np.float64]
    objects: tuple[Drawable, ...]
    occluder: Drawable | None
    light: float
    others: tuple[Drawable, ...] = ()

    def render(
        self, time: float, size: Size, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render a frame and its labels.

        Args:
            time: From 0 to 1.
            rng: For the noise of the camera.

        Returns:
            (height, width, 3), RGB; and (height, width), ids, 0 for the background.
        """
        height, width = size
        shift = self.pan * (time - 0.5)
        view = np.array(
            [
                [1, 0, shift[0] - PAN_MARGIN * width],
                [0, 1, shift[1] - PAN_MARGIN * height],
            ]
        )
        panned = cv2.warpAffine(
            self.background, view, (width, height), borderMode=cv2.BORDER_REFLECT
        )
        frame = np.asarray(panned, np.float32)
        labels = np.zeros(size, np.uint8)
        for object_id, obj in enumerate(self.objects, start=1):
            labels[obj.draw(frame, time, np.zeros(2))] = object_id
        for other in self.others:
            labels[other.draw(frame, time, np.zeros(2))] = 0
        if self.occluder is not None:  # it moves with the background
            labels[self.occluder.draw(frame, time, shift)] = 0
        frame *= 1 + self.light * (time - 0.5)
        frame += rng.normal(0, 3, frame.shape).astype(np.float32)
        return frame.clip(0, 255).astype(np.uint8), labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A textured blob.

    Attributes:
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3), RGB.
        radius: Mean radius in pixels.
        waves: (NUM_WAVES, 3), amplitude, phase and speed of the waves of its outline.
        spin: Angle at time 0 and rotation over the whole time, radians.
        pulse: Largest relative change of its size.
        motion: Where it is.
    """

    texture: NDArray[np.uint8]
    radius: float
    waves: NDArray[np.float64]
    spin: tuple[float, float]
    pulse: float
    motion: 'Motion | Route'

    def draw(
        self, frame: NDArray[np.float32], time: float, offset: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Paint the blob on a frame, in place.

        Args:
            frame: (height, width, 3), RGB.
            time: From 0 to 1.
            offset: ``(x, y)`` added to its position.

        Returns:
            (height, width), the pixels that it covers.
        """
        center = self.motion.at(time) + offset
        angle = self.spin[0] + self.spin[1] * time
        scale = 1 + self.pulse * np.sin(2 * np.pi * time + self.spin[0])
        corners = self._outline(time, angle, scale, center)
        return paint(frame, corners, self.texture, center, angle, scale)

    def _outline(
        self, time: float, angle: float, scale: float, center: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Corners of the blob: (NUM_CORNERS, 2), x and y."""
        theta = np.linspace(0, 2 * np.pi, NUM_CORNERS, endpoint=False)
        order = np.arange(2, NUM_WAVES + 2)[:, None]
        amplitude, phase, speed = (self.waves[:, i : i + 1] for i in range(3))
        bumps = amplitude * np.cos(order * theta + phase + speed * time)
        radius = self.radius * scale * (1 + bumps.sum(axis=0))
        direction = np.stack([np.cos(theta + angle), np.sin(theta + angle)], axis=1)
        corners: NDArray[np.float64] = center + radius[:, None] * direction
        return corners


def paint(
    frame: NDArray[np.float32],
    corners: NDArray[np.float64],
    texture: NDArray[np.uint8],
    center: NDArray[np.float64],
    angle: float,
    scale: float,
) -> NDArray[np.bool_]:
    """Paint a textured polygon on a frame, in place, with smooth edges.

    Args:
        frame: (height, width, 3), RGB.
        corners: (N, 2), x and y, pixels.
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3), RGB; its middle lies on the center.
        center: ``(x, y)``, pixels.
        angle: Rotation of the texture, radians.
        scale: Size of the texture.

    Returns:
        (height, width), the pixels that it covers.
    """
    height, width = frame.shape[:2]
    alpha = np.zeros((height, width), np.uint8)
    fixed = np.round(corners * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    middle = TEXTURE_SIZE / 2
    matrix = np.asarray(
        cv2.getRotationMatrix2D((middle, middle), -np.degrees(angle), float(scale)),
        np.float64,
    )
    matrix[:, 2] += center - middle
    skin = cv2.warpAffine(
        texture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT
    )
    opacity = alpha[..., None].astype(np.float32) / 255
    frame[:] = frame + (skin - frame) * opacity
    return alpha > 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Position of a blob over time.

    Attributes:
        start: ``(x, y)`` at time 0, pixels.
        drift: ``(x, y)``, pixels over the whole time.
        sway: Amplitudes along x and y, pixels.
        frequency: Of the sway, cycles along x and y.
        excursion: ``(x, y)``, pixels away in the middle of the excursion.
        away: When the excursion begins and ends.
    """

    start: NDArray[np.float64]
    drift: NDArray[np.float64]
    sway: NDArray[np.float64]
    frequency: NDArray[np.float64]
    excursion: NDArray[np.float64]
    away: tuple[float, float]

    @classmethod
    def still(cls, position: NDArray[np.float64]) -> 'Motion':
        """Stay at a position, ``(x, y)``."""
        zero = np.zeros(2)
        return cls(
            start=position,
            drift=zero,
            sway=zero,
            frequency=zero,
            excursion=zero,
            away=(0, 1),
        )

    def at(self, time: float) -> NDArray[np.float64]:
        """Position of the center, ``(x, y)``, at a time from 0 to 1."""
        begin, end = self.away
        progress = min(max((time - begin) / (end - begin), 0.0), 1.0)
        sway = self.sway * np.sin(2 * np.pi * self.frequency * time)
        excursion = self.excursion * np.sin(np.pi * progress) ** 2
        position: NDArray[np.float64] = (
            self.start + self.drift * time + sway + excursion
        )
        return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Position of a blob that passes given points, straight from one to the next.

    Attributes:
        times: (N,), ascending, when it passes the points; it waits at the ends.
        points: (N, 2), x and y, pixels.
    """

    times: NDArray[np.float64]
    points: NDArray[np.float64]

    def at(self, time: float) -> NDArray[np.float64]:
        """Position of the center, ``(x, y)``, at a time from 0 to 1."""
        return np.array([np.interp(time, self.times, axis) for axis in self.points.T])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """A textured polygon that stands still.

    Attributes:
        corners: (N, 2), x and y, pixels.
        texture: (TEXTURE_SIZE, TEXTURE_SIZE, 3), RGB.
    """

    corners: NDArray[np.float64]
    texture: NDArray[np.uint8]

    def draw(
        self, frame: NDArray[np.float32], time: float, offset: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """See :meth:`Blob.draw`."""
        del time
        corners = self.corners + offset
        return paint(frame, corners, self.texture, corners.mean(axis=0), 0.0, 1.0)


# Random scenes. The order of the draws is fixed: published clips depend on it. --------


def _draw_scene(plan: ClipPlan, rng: np.random.Generator, num_objects: int) -> Scene:
    textures = [object_texture(rng, TEXTURE_SIZE) for _ in range(num_objects)]
    if plan.kind is ClipKind.LIKE_TEXTURE:
        # The same pattern, cut elsewhere.
        textures[1] = np.roll(textures[0], TEXTURE_SIZE // 3, axis=(0, 1))
    side = min(plan.size)
    is_returning = plan.kind is ClipKind.RETURNING
    leaver = int(rng.integers(num_objects)) if is_returning else -1
    objects: list[Blob] = []
    motions: list[Motion] = []
    for index, texture in enumerate(textures):
        radius = float(rng.uniform(0.14, 0.22)) * side
        motion = draw_motion(rng, plan.size, motions, radius, leaves=index == leaver)
        motions.append(motion)
        objects.append(draw_blob(rng, texture, radius, motion))
    occluder = None
    if rng.random() < 0.4:
        position = rng.uniform((0.2, 0.2), (0.8, 0.8)) * plan.size[::-1]
        skin = object_texture(rng, TEXTURE_SIZE)
        radius = float(rng.uniform(0.08, 0.13)) * side
        occluder = draw_blob(rng, skin, radius, Motion.still(position))
    distractors = textures if plan.kind is ClipKind.LIKE_TEXTURE else ()
    return Scene(
        background=draw_background(rng, plan.size, distractors),
        pan=rng.uniform(-0.5, 0.5, 2) * side,
        objects=tuple(objects),
        occluder=occluder,
        light=float(rng.uniform(-0.3, 0.3)),
    )


def _draw_memory_scene(plan: ClipPlan, rng: np.random.Generator) -> Scene:
    """Draw a target and two objects of its texture, which differ in outline only."""
    extent = np.array(plan.size[::-1], float)
    side = min(plan.size)
    texture = object_texture(rng, TEXTURE_SIZE)
    radius = float(rng.uniform(0.12, 0.16)) * side
    routes, walls = _MEMORY_ROUTES[plan.kind](rng, extent, radius)
    blobs = [
        draw_blob(
            rng,
            np.roll(texture, index * TEXTURE_SIZE // 3, axis=(0, 1)),
            radius * float(rng.uniform(0.85, 1.15)) if index else radius,
            route,
        )
        for index, route in enumerate(routes)
    ]
    return Scene(
        background=draw_background(rng, plan.size, ()),
        pan=rng.uniform(-0.3, 0.3, 2) * side,
        objects=(blobs[0],),
        occluder=None,
        light=float(rng.uniform(-0.3, 0.3)),
        others=(*blobs[1:], *walls),
    )


Routes = tuple[list[Route], list[Wall]]  # of the target and the others; what hides it


def _crossing_routes(
    rng: np.random.Generator, extent: NDArray[np.float64], radius: float
) -> Routes:
    """The others cross the target's way, one after the other."""
    start, goal = rng.uniform(0.2, 0.8, (2, 2)) * extent
    target = Route(times=np.array([0.0, 1.0]), points=np.stack([start, goal]))
    others = []
    for crossing in (rng.uniform(0.25, 0.4), rng.uniform(0.55, 0.7)):
        middle, angle = target.at(crossing), rng.uniform(0, 2 * np.pi)
        step = 3 * radius * np.array([np.cos(angle), np.sin(angle)])
        ends = [_draw_far(rng, extent, target.at(time)) for time in (0.0, 1.0)]
        others.append(
            Route(
                times=np.array([0.0, crossing - 0.12, crossing + 0.12, 1.0]),
                points=np.stack([ends[0], middle - step, middle + step, ends[1]]),
            )
        )
    return [target, *others], []


def _occluded_routes(
    rng: np.random.Generator, extent: NDArray[np.float64], radius: float
) -> Routes:
    """The target waits behind a wall from side to side; the others stay before it."""
    axis = int(np.argmax(extent + rng.uniform(0, 1, 2)))  # across the wall: the longer
    half = 1.4 * radius
    low = np.zeros(2)
    high = extent.copy()
    low[axis], high[axis] = 0.5 * extent[axis] - half, 0.5 * extent[axis] + half
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    before, after = (0.16, 0.84) if rng.random() < 0.5 else (0.84, 0.16)

    def point(along_axis: float) -> NDArray[np.float64]:
        """A point anywhere along the wall."""
        position = rng.uniform(0.2, 0.8, 2) * extent
        position[axis] = along_axis * extent[axis]
        return position

    target = Route(
        times=np.array([0.0, 0.15, 0.3, rng.uniform(0.6, 0.68), 0.8, 1.0]),
        points=np.stack([point(before)] * 2 + [point(0.5)] * 2 + [point(after)] * 2),
    )
    away = 2 * before - 0.5  # outside of the frame
    others = [
        Route(
            times=np.array([0.0, arrival, arrival + 0.2, 1.0]),
            points=np.stack([point(away), point(before), point(before), point(before)]),
        )
        for arrival in (0.3, 0.5)
    ]
    return [target, *others], [
        Wall(
            corners=corners,
            texture=background_texture(rng, (TEXTURE_SIZE, TEXTURE_SIZE)),
        )
    ]


def _reentry_routes(
    rng: np.random.Generator, extent: NDArray[np.float64], radius: float
) -> Routes:
    """The target leaves and returns from another side; another comes where it left."""
    axis = int(rng.integers(2))
    signs = rng.choice([-1.0, 1.0], 2)

    def beyond(along: int, sign: float) -> NDArray[np.float64]:
        """A point outside of the frame, beyond a side."""
        position = rng.uniform(0.3, 0.7, 2) * extent
        position[along] = extent[along] / 2 + sign * (extent[along] / 2 + 1.8 * radius)
        return position

    exits, returns = beyond(axis, signs[0]), beyond(1 - axis, signs[1])
    corner = np.where(np.arange(2) == axis, exits, returns)  # it goes around the frame
    inside = rng.uniform(0.3, 0.7, (3, 2)) * extent
    target = Route(
        times=np.array([0.0, 0.15, 0.3, 0.45, rng.uniform(0.58, 0.66), 0.8, 1.0]),
        points=np.stack([inside[0]] * 2 + [exits, corner, returns, *inside[1:]]),
    )
    near = 0.65 * exits + 0.35 * inside[0]
    others = [
        Route(
            times=np.array([0.0, 0.35, 0.5, 1.0]),
            points=np.stack([exits, exits, near, near]),
        ),
        Route(
            times=np.array([0.0, 1.0]),
            points=np.stack([_draw_far(rng, extent, inside[k]) for k in (0, 2)]),
        ),
    ]
    return [target, *others], []


_MEMORY_ROUTES: dict[
    ClipKind, Callable[[np.random.Generator, NDArray[np.float64], float], Routes]
] = {
    ClipKind.CROSSING: _crossing_routes,
    ClipKind.OCCLUDED: _occluded_routes,
    ClipKind.REENTRY: _reentry_routes,
}


def _draw_far(
    rng: np.random.Generator,
    extent: NDArray[np.float64],
    other: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Draw several positions and return the one farthest from another position."""
    candidates = rng.uniform(0.12, 0.88, (NUM_POSITIONS, 2)) * extent
    distances = np.hypot(*(candidates - other).T)
    position: NDArray[np.float64] = candidates[int(np.argmax(distances))]
    return position


def draw_motion(
    rng: np.random.Generator,
    size: Size,
    others: list[Motion],
    radius: float,
    *,
    leaves: bool,
) -> Motion:
    """Draw a motion far from the others; one that leaves goes out of the frame."""
    extent = np.array(size[::-1], float)
    start = _draw_position(rng, size, [other.start for other in others])
    goal = _draw_position(rng, size, [other.start + other.drift for other in others])
    excursion = np.zeros(2)
    if leaves:
        axis = int(rng.integers(2))
        sign = 1.0 if start[axis] > extent[axis] / 2 else -1.0
        excursion[axis] = sign * (0.75 * extent[axis] + 2 * radius)
    return Motion(
        start=start,
        drift=TRAVEL * (goal - start),
        sway=rng.uniform(0.01, 0.05, 2) * min(size),
        frequency=rng.uniform(0.5, 1.6, 2) * rng.choice([-1, 1], 2),
        excursion=excursion,
        away=(float(rng.uniform(0.1, 0.25)), float(rng.uniform(0.6, 0.75))),
    )


def _draw_position(
    rng: np.random.Generator, size: Size, others: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Draw several positions and return the one farthest from the others."""
    candidates = rng.uniform(0.18, 0.82, (NUM_POSITIONS, 2)) * size[::-1]
    distances = [
        min((float(np.hypot(*(candidate - other))) for other in others), default=0.0)
        for candidate in candidates
    ]
    position: NDArray[np.float64] = candidates[int(np.argmax(distances))]
    return position


def draw_blob(
    rng: np.random.Generator,
    texture: NDArray[np.uint8],
    radius: float,
    motion: Motion | Route,
) -> Blob:
    """Draw the outline and the spin of a blob."""
    waves = np.stack(
        [
            rng.uniform(0.0, 0.16, NUM_WAVES),
            rng.uniform(0, 2 * np.pi, NUM_WAVES),
            rng.uniform(-4, 4, NUM_WAVES),
        ],
        axis=1,
    )
    return Blob(
        texture=texture,
        radius=radius,
        waves=waves,
        spin=(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-2.0, 2.0))),
        pulse=float(rng.uniform(0.0, 0.2)),
        motion=motion,
    )


def draw_background(
    rng: np.random.Generator, size: Size, textures: Sequence[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Draw a background with blobs on it.

    Args:
        size: Size of the frame.
        textures: Textures of every second blob, if any.

    Returns:
        RGB, larger than the frame by ``PAN_MARGIN`` on each side.
    """
    height, width = (round(side * (1 + 2 * PAN_MARGIN)) for side in size)
    background = background_texture(rng, (height, width)).astype(np.float32)
    for index in range(int(rng.integers(6, 12))):
        texture = object_texture(rng, TEXTURE_SIZE)
        if textures and index % 2:
            texture = textures[index % len(textures)]
        faded = np.asarray(texture * rng.uniform(0.6, 0.95), np.uint8)
        radius = rng.uniform(0.05, 0.13) * min(size)
        motion = Motion.still(rng.uniform((0, 0), (width, height)))
        draw_blob(rng, faded, radius, motion).draw(background, 0.0, np.zeros(2))
    return background.astype(np.uint8)


# Random textures ---------------------------------------------------------------------


def object_texture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw a texture of two colours: (size, size, 3), RGB."""
    dark, light = rng.uniform(20, 150, 3), rng.uniform(90, 245, 3)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, (size, size))
    noise = value_noise(rng, (size, size), NOISE_CELLS[2:])
    mix = ((1 - GRAIN) * pattern + GRAIN * noise)[..., None]
    return np.asarray(dark + (light - dark) * mix, np.uint8)


def background_texture(rng: np.random.Generator, size: Size) -> NDArray[np.uint8]:
    """Draw a texture of three colours, rough at all scales: (height, width, 3), RGB."""
    colors = rng.uniform(60, 180, (3, 3))
    broad = value_noise(rng, size, NOISE_CELLS[:2])[..., None]
    fine = value_noise(rng, size, NOISE_CELLS[1:])[..., None]
    mixed = colors[0] * broad + colors[1] * (1 - broad)
    texture = np.asarray(0.65 * mixed + 0.35 * colors[2] * 2 * fine, np.float32)
    return texture.clip(0, 255).astype(np.uint8)


def value_noise(
    rng: np.random.Generator, size: Size, cells: tuple[int, ...]
) -> NDArray[np.float32]:
    """Sum smooth noise of several scales.

    Args:
        cells: Pixels of a cell of each scale, coarse (strong) to fine (weak).

    Returns:
        (height, width), in [0, 1].
    """
    height, width = size
    total = np.zeros(size, np.float32)
    for octave, cell in enumerate(cells):
        grid = rng.random((height // cell + 2, width // cell + 2), np.float32)
        smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(smooth, np.float32) * 0.5**octave
    low, high = total.min(), total.max()
    return np.asarray((total - low) / (high - low), np.float32)


def stripes(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Parallel bands of a random direction and width: (height, width), 0 or 1."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(7, 16)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period
    return np.asarray(np.sin(2 * np.pi * phase) > 0, np.float32)


def checks(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """A chessboard of random direction and width: (height, width), 0 or 1."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(14, 26)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period
    across = (y * np.cos(angle) - x * np.sin(angle)) / period
    product = np.sin(2 * np.pi * along) * np.sin(2 * np.pi * across)
    return np.asarray(product > 0, np.float32)


def spots(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Blotches: (height, width), 0 or 1."""
    noise = value_noise(rng, size, (int(rng.integers(7, 14)),))
    return np.asarray(noise > 0.55, np.float32)


def clouds(rng: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Smooth noise: (height, width), in [0, 1]."""
    return value_noise(rng, size, NOISE_CELLS[1:])


Pattern = Callable[[np.random.Generator, Size], NDArray[np.float32]]
PATTERNS: tuple[Pattern, ...] = (stripes, checks, spots, clouds)
