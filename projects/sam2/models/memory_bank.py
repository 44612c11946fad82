"""What a frame asks of the memory bank, and what it is given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..structures import FrameMemory, TrackingMode


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
class SelectedMemory:
    """A spatial memory and how long ago it was made.

    Attributes:
        spatial: (O, Cm, H16, W16).
        age: 0 for a conditioning frame, else 1 (adjacent) to ``num_frames - 1``.
    """

    spatial: Tensor
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedPointer:
    """An object pointer and its distance in time.

    Attributes:
        pointer: (O, C).
        time_offset: Frames back along the pass, negative for frames still ahead; one
            number for all objects, or one for each.
    """

    pointer: Tensor
    time_offset: int | tuple[int, ...]

    def offsets(self, num_objects: int) -> tuple[int, ...]:
        """Distance in time of each object."""
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

    memories: tuple[SelectedMemory, ...]
    pointers: tuple[SelectedPointer, ...]
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
            SelectedMemory(
                spatial=torch.cat([one.spatial for one in same]), age=same[0].age
            )
            for same in memories
        ),
        pointers=tuple(_join_pointers(same) for same in pointers),
        pointer_horizon=first.pointer_horizon,
    )


def _join_pointers(pointers: Sequence[SelectedPointer]) -> SelectedPointer:
    """Pointers of several objects; their distances stay their own."""
    offsets = [offset for one in pointers for offset in one.offsets(len(one.pointer))]
    return SelectedPointer(
        pointer=torch.cat([one.pointer for one in pointers]),
        time_offset=offsets[0] if len(set(offsets)) == 1 else tuple(offsets),
    )


@dataclass(slots=True)
class MemoryStore:
    """Memories of one group of objects in one video, by frame.

    Attributes:
        conditioning: Memories of prompted frames, in the order of prompting.
        tracked: Memories of all other frames.
    """

    conditioning: dict[int, FrameMemory] = field(default_factory=dict)
    tracked: dict[int, FrameMemory] = field(default_factory=dict)

    @property
    def can_restore(self) -> bool:
        """Memories that were dropped can be looked up, since they lie elsewhere."""
        return False

    def add(self, frame_index: int, memory: FrameMemory, *, conditioning: bool) -> None:
        """Keep the memory of a frame, in place of an earlier one of that frame."""
        kept, other = self.conditioning, self.tracked
        if not conditioning:
            kept, other = other, kept
        other.pop(frame_index, None)
        kept[frame_index] = memory

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a frame that does not condition the video.

        Returns:
            The memory, or None.
        """
        return self.tracked.get(frame_index)

    def tracked_pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer of a frame that does not condition the video.

        Returns:
            (O, C), or None.
        """
        memory = self.tracked_memory(frame_index)
        return None if memory is None else memory.object_pointer

    def evict(self, frame_index: int) -> None:
        """Let go of a tracked memory that the running pass reaches no more."""
        del self.tracked[frame_index]


@MODELS.register_module()
class MemoryBank:
    """The policy by which memories are selected and forgotten.

    A frame attends to the conditioning frames and to the ``num_frames - 1`` latest
    others; spatial memories and object pointers read one selection of conditioning
    frames.

    Args:
        num_frames: Temporal positions, one of them for all conditioning frames.
        max_conditioning_frames: Take at most so many conditioning frames, those
            nearest in time; None takes all. Those left out count as tracked ones.
        stride: Distance between the tracked frames taken in evaluation; the adjacent
            frame is always among them.
        max_pointers: Take object pointers of at most so many frames.
        future_pointers: In evaluation, take the pointers of conditioning frames that
            are still ahead, too (training always does).

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        num_frames: int = 7,
        max_conditioning_frames: int | None = None,
        stride: int = 1,
        max_pointers: int = 16,
        future_pointers: bool = False,
    ) -> None:
        if num_frames < 1 or stride < 1 or max_pointers < 1:
            msg = (
                f'num_frames, stride and max_pointers start at 1, but got '
                f'{num_frames}, {stride} and {max_pointers}'
            )
            raise ValueError(msg)
        if max_conditioning_frames is not None and max_conditioning_frames < 2:
            msg = (
                f'max_conditioning_frames is {max_conditioning_frames}; give at least '
                f'2 (the nearest on either side), or None for all'
            )
            raise ValueError(msg)
        self.num_frames = num_frames
        self.max_conditioning_frames = max_conditioning_frames
        self.stride = stride
        self.max_pointers = max_pointers
        self.future_pointers = future_pointers

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Choose what a frame attends to.

        Raises:
            ValueError: If no frame was prompted yet.
        """
        if not store.conditioning:
            msg = (
                f'Frame {query.frame_index} has no conditioning frame to attend to; '
                f'prompt the objects on some frame first'
            )
            raise ValueError(msg)
        chosen = self._nearest(tuple(store.conditioning), query.frame_index)
        memories = [
            SelectedMemory(spatial=store.conditioning[frame].spatial, age=0)
            for frame in chosen
        ]
        for age, frame in self._tracked_frames(query):
            memory = _ordinary(store, chosen, frame)
            if memory is not None:
                memories.append(SelectedMemory(spatial=memory.spatial, age=age))
        horizon = min(query.num_video_frames, self.max_pointers)
        return MemorySelection(
            memories=tuple(memories),
            pointers=(
                *self._conditioning_pointers(store, chosen, query),
                *_tracked_pointers(store, chosen, horizon, query),
            ),
            pointer_horizon=horizon,
        )

    def evict_unreachable(self, store: MemoryStore, query: MemoryQuery) -> None:
        """Drop the tracked memories that the running pass cannot reach any more."""
        # The stride's grid may lie up to stride - 1 frames before the second latest.
        spatial_reach = 1 + self.stride * max(self.num_frames - 2, 0)
        reach = max(spatial_reach, self.max_pointers - 1)
        for frame in tuple(store.tracked):
            distance = (query.frame_index - frame) * query.direction
            # Of frames far ahead, a later pass may want the memories.
            if distance > reach or (store.can_restore and distance < -reach):
                store.evict(frame)

    def _nearest(self, frames: tuple[int, ...], frame_index: int) -> tuple[int, ...]:
        """Conditioning frames to attend to, in the order in which they are read."""
        limit = self.max_conditioning_frames
        if limit is None or len(frames) <= limit:
            return frames
        before = [frame for frame in frames if frame < frame_index]
        after = [frame for frame in frames if frame >= frame_index]
        nearest = [max(before)] if before else []
        nearest += [min(after)] if after else []
        rest = sorted(
            (frame for frame in frames if frame not in nearest),
            key=lambda frame: abs(frame - frame_index),
        )
        return (*nearest, *rest[: limit - len(nearest)])

    def _tracked_frames(self, query: MemoryQuery) -> Iterable[tuple[int, int]]:
        """Pairs of age and frame, oldest first."""
        stride = 1 if query.mode is TrackingMode.TRAINING else self.stride
        # Time runs along the pass: reverse passes count negative frames.
        now = query.frame_index * query.direction
        for age in range(self.num_frames - 1, 0, -1):
            if age == 1:
                moment = now - 1
            else:
                moment = (now - 2) // stride * stride - (age - 2) * stride
            yield age, moment * query.direction

    def _conditioning_pointers(
        self, store: MemoryStore, chosen: tuple[int, ...], query: MemoryQuery
    ) -> Iterable[SelectedPointer]:
        """Pointers of the conditioning frames, those ahead left out in evaluation."""
        all_of_time = query.mode is TrackingMode.TRAINING or self.future_pointers
        for frame in chosen:
            offset = (query.frame_index - frame) * query.direction
            if all_of_time or offset >= 0:
                yield SelectedPointer(
                    pointer=store.conditioning[frame].object_pointer,
                    time_offset=offset,
                )


def _ordinary(
    store: MemoryStore, chosen: tuple[int, ...], frame_index: int
) -> FrameMemory | None:
    """Memory of a tracked frame, or of a conditioning frame that was not chosen."""
    if frame_index in store.conditioning:
        return None if frame_index in chosen else store.conditioning[frame_index]
    return store.tracked_memory(frame_index)


def _tracked_pointers(
    store: MemoryStore, chosen: tuple[int, ...], horizon: int, query: MemoryQuery
) -> Iterable[SelectedPointer]:
    """Pointers of the latest tracked frames, latest first."""
    for offset in range(1, horizon):
        frame = query.frame_index - offset * query.direction
        if frame in chosen:
            continue
        conditioning = store.conditioning.get(frame)
        if conditioning is None:
            pointer = store.tracked_pointer(frame)
        else:
            pointer = conditioning.object_pointer
        if pointer is not None:
            yield SelectedPointer(pointer=pointer, time_offset=offset)


@MODELS.register_module()
class MemoryBankEmpty(MemoryBank):
    """Remembers nothing: tells how much of a score is owed to memory.

    Each frame is segmented as if it were the first, without a prompt.
    """

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Choose nothing."""
        del store
        return MemorySelection(
            memories=(), pointers=(), pointer_horizon=query.num_video_frames
        )
