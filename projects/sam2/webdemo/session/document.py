"""What was annotated, without the masks: objects, their names and their prompts.

The records are immutable: a change makes a new :class:`Document`, so that any thread
may read one. Masks are in the :mod:`.mask_log`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

Point = tuple[float, float, int]  # x, y, label (1 on the object, 0 outside of it)
Box = tuple[float, float, float, float]
FrameRange = tuple[int, int]  # start, stop

# Each has a contrast of at least 3.05 to white and to the dark panel of the page; the
# first ones are the furthest apart. The page has the same list.
OBJECT_COLORS = (
    *('#1f77b4', '#989800', '#ff0050', '#b000ff', '#007858', '#985800', '#a88898'),
    *('#38a0a8', '#686830', '#ff10b0', '#00a800', '#a04868', '#889880', '#e87018'),
    *('#606098', '#307078', '#c08800', '#207800', '#9888c8', '#886058', '#d00018'),
    *('#6890f0', '#988860', '#b08878', '#e07060', '#688898', '#ff3000', '#709048'),
    *('#9868ff', '#806848', '#b868a8', '#009858', '#907800', '#607860', '#b05838'),
    *('#f06088', '#0098d0', '#f000ff', '#3068ff', '#58a088', '#805880', '#807890'),
    *('#e01870', '#9048b0', '#b06870', '#b83848', '#c00888', '#b07848', '#108880'),
    '#6848e8',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an object was prompted with on one frame.

    Attributes:
        points: In pixels of the frame, in the order in which they were given.
        box: Corners ``(x, y, x, y)``, or None.
        mask: The mask of the frame is the prompt: it was drawn, imported, merged or
            accepted.
        offset: Of that mask in the mask log; -1 without one.
        correction: The frame was tracked before, so that the points alone do not give
            its mask.
        earlier: The prompts before this one on the same frame. The model refines the
            mask of one prompt with the next, so it needs all of them to find the same
            mask again.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: bool = False
    offset: int = -1
    correction: bool = False
    earlier: tuple['Prompt', ...] = ()

    def to_json(self, *, with_history: bool = False) -> dict[str, Any]:
        """Convert to JSON.

        Args:
            with_history: With all that is needed to give the prompt to a model again.
        """
        data: dict[str, Any] = {
            'points': [list(point) for point in self.points],
            'box': None if self.box is None else list(self.box),
            'mask': self.mask,
        }
        if with_history:
            data['offset'] = self.offset
            data['correction'] = self.correction
            data['earlier'] = [p.to_json(with_history=True) for p in self.earlier]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> 'Prompt':
        """Read what :meth:`to_json` returned."""
        box = data['box']
        return cls(
            points=tuple((float(x), float(y), int(n)) for x, y, n in data['points']),
            box=None if box is None else (box[0], box[1], box[2], box[3]),
            mask=data['mask'],
            offset=data.get('offset', -1),
            correction=data.get('correction', False),
            earlier=tuple(map(cls.from_json, data.get('earlier', ()))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedObject:
    """One object of a video.

    Attributes:
        object_id: Its id, from 1 on; those of deleted objects are not used again.
        name: Its name.
        category: Its class, '' if it has none.
        color: ``#rrggbb``.
        hidden: Its masks are not shown.
        locked: Nothing about it may change but this.
        prompts: Its prompts by frame, in the order in which the frames were prompted.
        locked_frames: Ranges ``[start, stop)`` of frames whose masks may not change,
            sorted, neither overlapping nor touching.
    """

    object_id: int
    name: str
    category: str = ''
    color: str = OBJECT_COLORS[0]
    hidden: bool = False
    locked: bool = False
    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    locked_frames: tuple[FrameRange, ...] = ()

    def is_locked(self, frame_index: int) -> bool:
        """Whether the mask of a frame may not change."""
        return self.locked or overlaps(self.locked_frames, frame_index, frame_index + 1)

    def with_prompt(self, frame_index: int, prompt: Prompt | None) -> 'AnnotatedObject':
        """Set the prompt of a frame, or remove it."""
        prompts = dict(self.prompts)
        if prompt is None:
            prompts.pop(frame_index, None)
        else:
            prompts[frame_index] = prompt
        return replace(self, prompts=MappingProxyType(prompts))

    def to_json(self, *, with_history: bool = False) -> dict[str, Any]:
        """Convert to JSON, see :meth:`Prompt.to_json`."""
        return {
            'id': self.object_id,
            'name': self.name,
            'category': self.category,
            'color': self.color,
            'hidden': self.hidden,
            'locked': self.locked,
            'prompts': {
                str(frame): prompt.to_json(with_history=with_history)
                for frame, prompt in self.prompts.items()
            },
            'locked_frames': [list(frames) for frames in self.locked_frames],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> 'AnnotatedObject':
        """Read what :meth:`to_json` returned."""
        return cls(
            object_id=data['id'],
            name=data['name'],
            category=data['category'],
            color=data['color'],
            hidden=data['hidden'],
            locked=data['locked'],
            prompts=MappingProxyType(
                {int(f): Prompt.from_json(p) for f, p in data['prompts'].items()}
            ),
            locked_frames=tuple((start, stop) for start, stop in data['locked_frames']),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All objects of a video.

    Attributes:
        objects: By id, in the order of creation.
        categories: All classes that objects had, in the order of their first use.
        broken_frames: Frames that could not be read, sorted.
        revision: Grows with each change of the document or of a mask, also over
            restarts.
    """

    objects: Mapping[int, AnnotatedObject] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    broken_frames: tuple[int, ...] = ()
    revision: int = 0

    def get_object(self, object_id: int) -> AnnotatedObject:
        """Look up an object.

        Raises:
            ValueError: If there is no object with this id.
        """
        if object_id not in self.objects:
            known = ', '.join(map(str, self.objects)) or 'none yet'
            msg = f'There is no object {object_id}; known objects: {known}'
            raise ValueError(msg)
        return self.objects[object_id]

    def with_objects(self, changed: Mapping[int, AnnotatedObject | None]) -> 'Document':
        """Set objects by id; None deletes one."""
        merged = {**self.objects, **changed}
        objects = {key: obj for key, obj in sorted(merged.items()) if obj is not None}
        used = (obj.category for obj in objects.values() if obj.category)
        return replace(
            self,
            objects=MappingProxyType(objects),
            categories=tuple(dict.fromkeys((*self.categories, *used))),
        )

    def to_json(self, *, with_history: bool = False) -> dict[str, Any]:
        """Convert to JSON, see :meth:`Prompt.to_json`."""
        return {
            'objects': {
                str(key): obj.to_json(with_history=with_history)
                for key, obj in self.objects.items()
            },
            'order': list(self.objects),
            'categories': list(self.categories),
            'broken_frames': list(self.broken_frames),
            'revision': self.revision,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> 'Document':
        """Read what :meth:`to_json` returned."""
        objects = [AnnotatedObject.from_json(obj) for obj in data['objects'].values()]
        return cls(
            objects=MappingProxyType({obj.object_id: obj for obj in objects}),
            categories=tuple(data['categories']),
            broken_frames=tuple(data['broken_frames']),
            revision=data['revision'],
        )


def choose_color(object_id: int, used: Collection[str]) -> str:
    """Choose the color of a new object, if possible one that is not used yet."""
    preferred = OBJECT_COLORS[(object_id - 1) % len(OBJECT_COLORS)]
    candidates = (preferred, *OBJECT_COLORS)
    return next((color for color in candidates if color not in used), preferred)


def overlaps(ranges: Sequence[FrameRange], start: int, stop: int) -> bool:
    """Whether any of the ranges has a frame in ``[start, stop)``."""
    return any(first < stop and start < last for first, last in ranges)


def add_range(
    ranges: Sequence[FrameRange], start: int, stop: int
) -> tuple[FrameRange, ...]:
    """Add ``[start, stop)`` to sorted ranges, joining those that touch it."""
    touching = [r for r in ranges if r[0] <= stop and start <= r[1]]
    joined = (
        min([start, *(first for first, _ in touching)]),
        max([stop, *(last for _, last in touching)]),
    )
    return tuple(sorted([*(r for r in ranges if r not in touching), joined]))


def remove_range(
    ranges: Sequence[FrameRange], start: int, stop: int
) -> tuple[FrameRange, ...]:
    """Remove ``[start, stop)`` from sorted ranges."""
    parts = [
        part
        for first, last in ranges
        for part in ((first, min(last, start)), (max(first, stop), last))
        if part[0] < part[1]
    ]
    return tuple(parts)
