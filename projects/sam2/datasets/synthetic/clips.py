"""Generated clips with known properties."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.synthetic.scene import (
    TEXTURE_SIZE,
    Body,
    Motion,
    Scene,
    draw_body,
    draw_ground,
    standing,
)
from projects.sam2.datasets.synthetic.textures import object_texture

MIN_FRAMES = 8
MIN_FIRST_SHARE = 0.008  # of the frame that each object covers on the first frame
NUM_TRIES = 50
NUM_PLACES = 4  # to choose a start or a goal from
TRAVEL = 0.75  # share of the way to its goal that an object covers


class ClipKind(Enum):
    """What is hard about a clip."""

    LIKE_TEXTURE = 'like_texture'
    RETURNING = 'returning'
    PLAIN = 'plain'


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan:
    """What to generate; the same plan gives the same clip.

    Attributes:
        name: Name of the clip.
        seed: All that its random numbers depend on.
        kind: What is hard about it.
        size: Height and width.
        num_frames: Frames.
    """

    name: str
    seed: tuple[int, ...]
    kind: ClipKind
    size: tuple[int, int]
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
        labels: (T, height, width), object ids, 0 for the ground.
        num_objects: Objects of the first frame, ids 1 to ``num_objects``.
        like_texture: Whether two objects have like textures.
        returning_ids: Objects that leave the picture and return.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    num_objects: int
    like_texture: bool
    returning_ids: tuple[int, ...]

    @property
    def is_hard(self) -> bool:
        """Does it hold like textures, or an object that leaves and returns?"""
        return self.like_texture or bool(self.returning_ids)


def make_clip(plan: ClipPlan) -> SyntheticClip:
    """Generate a clip.

    Args:
        plan: What to generate.

    Returns:
        A clip that has the properties of the plan, as measured on its masks.

    Raises:
        RuntimeError: If no draw has them.
    """
    for draw in range(NUM_TRIES):
        clip = _draw_clip(plan, np.random.default_rng((*plan.seed, draw)))
        if clip is not None:
            return clip
    msg = f'{plan.name}: no draw of {NUM_TRIES} fits {plan}; try another seed or size'
    raise RuntimeError(msg)


def _draw_clip(plan: ClipPlan, rng: np.random.Generator) -> SyntheticClip | None:
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
    return SyntheticClip(
        frames=np.stack([frame for frame, _ in rendered]),
        labels=labels,
        num_objects=num_objects,
        like_texture=plan.kind is ClipKind.LIKE_TEXTURE,
        returning_ids=returning,
    )


def _draw_scene(plan: ClipPlan, rng: np.random.Generator, num_objects: int) -> Scene:
    textures = [object_texture(rng, TEXTURE_SIZE) for _ in range(num_objects)]
    if plan.kind is ClipKind.LIKE_TEXTURE:
        # The same pattern, cut elsewhere.
        textures[1] = np.roll(textures[0], TEXTURE_SIZE // 3, axis=(0, 1))
    side = min(plan.size)
    leaver = int(rng.integers(num_objects)) if plan.kind is ClipKind.RETURNING else -1
    objects: list[Body] = []
    for index, texture in enumerate(textures):
        radius = float(rng.uniform(0.14, 0.22)) * side
        others = [body.motion for body in objects]
        motion = _draw_motion(rng, plan.size, others, radius, leaves=index == leaver)
        objects.append(draw_body(rng, texture, radius, motion))
    occluder = None
    if rng.random() < 0.4:
        place = standing(rng.uniform((0.2, 0.2), (0.8, 0.8)) * plan.size[::-1])
        skin = object_texture(rng, TEXTURE_SIZE)
        occluder = draw_body(rng, skin, float(rng.uniform(0.08, 0.13)) * side, place)
    return Scene(
        ground=draw_ground(
            rng, plan.size, textures if plan.kind is ClipKind.LIKE_TEXTURE else ()
        ),
        pan=rng.uniform(-0.5, 0.5, 2) * side,
        objects=tuple(objects),
        occluder=occluder,
        light=float(rng.uniform(-0.3, 0.3)),
    )


def _draw_place(
    rng: np.random.Generator, size: tuple[int, int], taken: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Of some random places, the one farthest from those taken."""
    places = rng.uniform(0.18, 0.82, (NUM_PLACES, 2)) * size[::-1]
    distances = [
        min((float(np.hypot(*(place - other))) for other in taken), default=0.0)
        for place in places
    ]
    place: NDArray[np.float64] = places[int(np.argmax(distances))]
    return place


def _draw_motion(
    rng: np.random.Generator,
    size: tuple[int, int],
    others: list[Motion],
    radius: float,
    *,
    leaves: bool,
) -> Motion:
    extent = np.array(size[::-1], float)
    start = _draw_place(rng, size, [other.start for other in others])
    goal = _draw_place(rng, size, [other.start + other.drift for other in others])
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


def returning_objects(labels: NDArray[np.uint8], num_objects: int) -> tuple[int, ...]:
    """Find the objects that are wholly unseen for a while and seen again.

    Args:
        labels: (T, height, width).
        num_objects: Ids go from 1 to this.

    Returns:
        Ids of the objects with at least two unseen frames in a row between frames
        that show them.
    """
    found = []
    for object_id in range(1, num_objects + 1):
        seen = np.flatnonzero((labels == object_id).any(axis=(1, 2)))
        if len(seen) and int(np.diff(seen).max(initial=1)) > 2:
            found.append(object_id)
    return tuple(found)


def copy_iou(labels: NDArray[np.uint8], num_objects: int) -> float:
    """Score the repetition of each object's first mask.

    Args:
        labels: (T, height, width).
        num_objects: Ids go from 1 to this.

    Returns:
        IoU in [0, 1], the mean over objects and frames without the first and the
        last; 1 where both are empty.
    """
    scores = []
    for object_id in range(1, num_objects + 1):
        masks = labels[1:-1] == object_id
        first = labels[0] == object_id
        union = (masks | first).sum(axis=(1, 2))
        shared = (masks & first).sum(axis=(1, 2))
        scores.append(np.where(union > 0, shared / np.maximum(union, 1), 1.0).mean())
    return float(np.mean(scores))


def make_plans(
    *, split: str, num_clips: int, num_frames: int, size: int, seed: int
) -> list[ClipPlan]:
    """Plan the clips of a split: the kinds in turn, square, wide and tall.

    Args:
        split: Name of the split; its clips do not depend on the other splits.
        num_clips: Clips.
        num_frames: Frames of each.
        size: Side of the square ones, pixels.
        seed: Seed of the data set.

    Returns:
        One plan for each clip.
    """
    shapes: Sequence[tuple[int, int]] = (
        (size, size),
        (size * 3 // 4, size),
        (size, size),
        (size, size * 3 // 4),
    )
    kinds = tuple(ClipKind)
    split_seed = int.from_bytes(split.encode()[:4], 'big')
    return [
        ClipPlan(
            name=f'{split}_{index:05d}',
            seed=(seed, split_seed, index),
            kind=kinds[index % len(kinds)],
            size=shapes[index % len(shapes)],
            num_frames=num_frames,
        )
        for index in range(num_clips)
    ]
