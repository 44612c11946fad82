"""What a frame asks of the memory bank, and what it is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from projects.sam2.structures import TrackingMode

__all__ = [
    'MemoryQuery',
    'MemorySelection',
    'RecalledMemory',
    'RecalledPointer',
    'join_selections',
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuery:
    """The frame that asks for memories.

    Attributes:
        frame_index: Position in the clip or video.
        num_video_frames: Length of the clip or video.
        mode: Training or evaluation.
        reverse: The pass runs backwards in time.
    """

    frame_index: int
    num_video_frames: int
    mode: TrackingMode
    reverse: bool = False

    @property
    def direction(self) -> int:
        """+1 where the pass runs forwards in time, -1 where backwards."""
        return -1 if self.reverse else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledMemory:
    """A spatial memory and how long ago it was made.

    Attributes:
        spatial: (O, Cm, H16, W16).
        age: 0 for a conditioning frame, else 1 (adjacent) to ``num_frames - 1``.
    """

    spatial: Tensor
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledPointer:
    """An object pointer and its distance in time.

    Attributes:
        pointer: (O, C).
        time_offset: Frames back along the pass, negative for frames still ahead; one
            number for all objects, or one for each.
    """

    pointer: Tensor
    time_offset: int | tuple[int, ...]

    def offsets(self, num_objects: int) -> tuple[int, ...]:
        """Distance in time of each object.

        Args:
            num_objects: O.

        Returns:
            O numbers.
        """
        if isinstance(self.time_offset, tuple):
            return self.time_offset
        return (self.time_offset,) * num_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySelection:
    """All that one frame attends to.

    Attributes:
        memories: Spatial memories, conditioning frames first.
        pointers: Object pointers, conditioning frames first.
        pointer_horizon: Number of pointers that the video allows; scales their time.
    """

    memories: tuple[RecalledMemory, ...]
    pointers: tuple[RecalledPointer, ...]
    pointer_horizon: int

    @property
    def shape(self) -> tuple[tuple[int, ...], int, int]:
        """What selections must have in common to be joined.

        Ages of the memories, number of pointers, and their horizon.
        """
        ages = tuple(memory.age for memory in self.memories)
        return ages, len(self.pointers), self.pointer_horizon


def join_selections(selections: Sequence[MemorySelection]) -> MemorySelection:
    """Join what objects attend to, so that they are tracked in one batch.

    Args:
        selections: Of some objects each, all of one shape.

    Returns:
        The selection of all their objects, in this order.

    Raises:
        ValueError: If the selections differ in shape.
    """
    shapes = {selection.shape for selection in selections}
    if len(shapes) != 1:
        msg = f'Selections of {len(shapes)} shapes cannot be joined; group them first'
        raise ValueError(msg)
    if len(selections) == 1:
        return selections[0]
    first = selections[0]
    memories = zip(*(selection.memories for selection in selections), strict=True)
    pointers = zip(*(selection.pointers for selection in selections), strict=True)
    return MemorySelection(
        memories=tuple(
            RecalledMemory(
                spatial=torch.cat([one.spatial for one in same]), age=same[0].age
            )
            for same in memories
        ),
        pointers=tuple(_join_pointers(same) for same in pointers),
        pointer_horizon=first.pointer_horizon,
    )


def _join_pointers(pointers: Sequence[RecalledPointer]) -> RecalledPointer:
    """Pointers of several objects; their distances stay their own."""
    offsets = [offset for one in pointers for offset in one.offsets(len(one.pointer))]
    return RecalledPointer(
        pointer=torch.cat([one.pointer for one in pointers]),
        time_offset=offsets[0] if len(set(offsets)) == 1 else tuple(offsets),
    )
