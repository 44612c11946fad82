"""The memory bank: which memories a frame attends to, and which are kept.

The paper's bank is two things here: :class:`MemoryStore` holds the memories, and
:class:`MemoryBank` is the policy, without state, that selects and evicts them.

To write another policy, register a subclass of :class:`MemoryBank` in its own file
(:mod:`.policies` has some). Override :meth:`MemoryBank.observe` (what is remembered of
a frame, and which candidate is its mask), :meth:`MemoryBank.tracked_frames` (which
frames are attended to) and :meth:`MemoryBank.kept_frames` (which memories stay in RAM).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..ops import send_to_device
from ..structures import DecoderStep, FrameMemory, TrackingMode


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuery:
    """The frame that attends to memories.

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

    @property
    def following(self) -> 'MemoryQuery':
        """The next frame of the pass."""
        return replace(self, frame_index=self.frame_index + self.direction)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedMemory:
    """A spatial memory and its age.

    Attributes:
        spatial: As in :class:`FrameMemory`.
        age: 0 for a conditioning frame, else 1 (adjacent) to ``num_frames - 1``; it
            selects the temporal embedding.
    """

    spatial: Tensor
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedPointer:
    """An object pointer and its distance in time.

    Attributes:
        pointer: (O, C).
        time_offset: Frames back along the pass, negative for later frames; one
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
    """The memories and pointers that a frame attends to, conditioning frames first.

    Attributes:
        memories: Spatial memories.
        pointers: Object pointers.
        max_pointers: Largest number of pointers that a frame of this video can have;
            the distance in time of the pointers is scaled by it.
        key_scales: For each object, the factors of the keys of its memories, then of
            its pointers; None scales nothing.
    """

    memories: tuple[SelectedMemory, ...]
    pointers: tuple[SelectedPointer, ...]
    max_pointers: int
    key_scales: tuple[tuple[float, ...], ...] | None = None

    @property
    def shape(self) -> tuple[tuple[int, ...], int, int, bool]:
        """Ages and counts; objects of equal shape can be tracked in one batch."""
        ages = tuple(memory.age for memory in self.memories)
        return ages, len(self.pointers), self.max_pointers, self.key_scales is None

    def stacked_pointers(self) -> tuple[Tensor, Tensor]:
        """Stack the K pointers, of which there is at least one.

        Returns:
            Pointers (O, K, C), and their distances in time over the largest one,
            (1 | O, K); one row where the pointers of all objects are equally old.
        """
        pointers = torch.stack([p.pointer for p in self.pointers], dim=1)
        is_shared = all(isinstance(p.time_offset, int) for p in self.pointers)
        num_rows = 1 if is_shared else pointers.shape[0]
        columns = [p.offsets(num_rows) for p in self.pointers]
        offsets = torch.tensor(columns, dtype=torch.float32).T
        offsets = send_to_device(offsets, pointers.device)
        # A bank of one pointer has no distance to scale by.
        return pointers, offsets / max(self.max_pointers - 1, 1)

    def stacked_key_scales(self) -> tuple[Tensor, Tensor] | None:
        """Stack the factors of the keys.

        Returns:
            Those of R memories (O, R), of which there is at least one, and of K
            pointers (O, K); None if nothing is scaled.
        """
        if self.key_scales is None:
            return None
        scales = torch.tensor(self.key_scales, dtype=torch.float32)  # (O, R + K)
        scales = send_to_device(scales, self.memories[0].spatial.device)
        num_memories = len(self.memories)
        return scales[:, :num_memories], scales[:, num_memories:]


def join_selections(selections: Sequence[MemorySelection]) -> MemorySelection:
    """Join the selections of several objects, to track them in one batch.

    Raises:
        ValueError: If the selections differ in shape.
    """
    if len({selection.shape for selection in selections}) != 1:
        msg = 'Selections of different shapes cannot be joined; group them by shape'
        raise ValueError(msg)
    first = selections[0]
    if len(selections) == 1:
        return first
    memories = zip(*(selection.memories for selection in selections), strict=True)
    pointers = zip(*(selection.pointers for selection in selections), strict=True)
    return MemorySelection(
        memories=tuple(
            SelectedMemory(
                spatial=torch.cat([m.spatial for m in same]), age=same[0].age
            )
            for same in memories
        ),
        pointers=tuple(_join_pointers(same) for same in pointers),
        max_pointers=first.max_pointers,
        key_scales=None
        if first.key_scales is None
        else tuple(row for s in selections for row in s.key_scales or ()),
    )


def _join_pointers(pointers: Sequence[SelectedPointer]) -> SelectedPointer:
    offsets = [offset for p in pointers for offset in p.offsets(len(p.pointer))]
    return SelectedPointer(
        pointer=torch.cat([p.pointer for p in pointers]),
        time_offset=offsets[0] if len(set(offsets)) == 1 else tuple(offsets),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameNote:
    """What a policy remembers of a frame, besides the memory.

    Attributes:
        value: Chosen by the policy, and never changed: copies of a store share it.
        reverse: Whether the pass that tracked the frame ran backwards in time; None on
            a prompted frame.
    """

    value: object
    reverse: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy sees of one object, before its memory is encoded.

    Attributes:
        query: The frame, and the direction of the pass.
        step: What was decoded, O = 1: three candidates with their pointers, or one if
            the prompt is clear.
        is_prompted: The frame was prompted.
        frame_size: Height and width of the frame that the model sees, in pixels.
        video_size: Those of the video.
    """

    query: MemoryQuery
    step: DecoderStep
    is_prompted: bool
    frame_size: tuple[int, int]
    video_size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy decides after a frame was decoded.

    Attributes:
        candidate: Index of the candidate that becomes the mask; None chooses the one
            with the highest estimated IoU. The mask of a prompted frame is not changed.
        note: What the policy remembers of the frame; None if nothing.
        conditions: Encode the memory from the thresholded mask, as that of a prompted
            frame. Whether the frame then counts as a conditioning frame is up to
            :meth:`MemoryBank.select`.
    """

    candidate: int | None = None
    note: object = None
    conditions: bool = False


@dataclass(slots=True, kw_only=True)
class MemoryStore:
    """Memories by frame, of objects that are tracked together.

    In training one store holds the objects of all clips of the batch, (O, …); in a
    video each object has a store of its own, O = 1.

    Attributes:
        conditioning: Memories of conditioning frames, in the order of prompting.
        tracked: Memories of all other frames.
        notes: What the policy remembers of frames that have a memory.
    """

    conditioning: dict[int, FrameMemory] = field(default_factory=dict)
    tracked: dict[int, FrameMemory] = field(default_factory=dict)
    notes: dict[int, FrameNote] = field(default_factory=dict)

    @property
    def can_restore(self) -> bool:
        """Evicted memories can still be looked up."""
        return False

    def add(
        self,
        frame_index: int,
        memory: FrameMemory,
        *,
        conditioning: bool,
        note: FrameNote | None = None,
    ) -> None:
        """Add the memory and note of a frame, in place of earlier ones."""
        self.erase(frame_index)
        self.notes.pop(frame_index, None)
        if conditioning:
            self.conditioning[frame_index] = memory
        else:
            self.conditioning.pop(frame_index, None)
            self.tracked[frame_index] = memory
        if note is not None:
            self.notes[frame_index] = note

    def erase(self, frame_index: int) -> None:
        """Delete the tracked memory of a frame and its note, if there is one."""
        self.tracked.pop(frame_index, None)
        if frame_index not in self.conditioning:
            self.notes.pop(frame_index, None)

    def evict(self, frame_index: int) -> None:
        """Remove a tracked memory that the running pass cannot reach any more."""
        del self.tracked[frame_index]
        self.notes.pop(frame_index, None)

    def memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of any frame."""
        memory = self.conditioning.get(frame_index)
        return self.tracked_memory(frame_index) if memory is None else memory

    def pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer of any frame, (O, C)."""
        memory = self.conditioning.get(frame_index)
        if memory is None:
            return self.tracked_pointer(frame_index)
        return memory.object_pointer

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a tracked frame."""
        return self.tracked.get(frame_index)

    def tracked_pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer of a tracked frame, (O, C)."""
        memory = self.tracked_memory(frame_index)
        return None if memory is None else memory.object_pointer

    def copy(self) -> 'MemoryStore':
        """Copy the store; the copy shares the tensors, which are never changed."""
        return MemoryStore(
            conditioning=dict(self.conditioning),
            tracked=dict(self.tracked),
            notes=dict(self.notes),
        )


@MODELS.register_module()
class MemoryBank:
    """The policy by which memories are selected and evicted.

    A frame attends to the conditioning frames and to the ``num_frames - 1`` latest
    others (Ravi et al., 2024, section 4); spatial memories and object pointers share
    one selection of conditioning frames.

    Args:
        num_frames: Temporal positions, one of them for all conditioning frames. The
            tracker learns an embedding for each, so weights fit one number only.
        max_conditioning_frames: Largest number of conditioning frames to attend to,
            the nearest in time; None attends to all. The rest count as tracked frames.
        stride: Distance between the tracked frames in evaluation; the adjacent frame
            is always among them.
        max_pointers: Largest number of frames whose object pointers are attended to.
        future_pointers: In evaluation, attend to pointers of later conditioning
            frames as well, as training always does.

    Attributes:
        presence_threshold: In evaluation, an object with a higher object score counts
            as present: it has a mask and an object pointer. Spatial memories are
            encoded with 0.
        scales_keys: :meth:`select` scales keys; exported graphs then take the factors.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> bank, store = MemoryBank(max_conditioning_frames=4), MemoryStore()
        >>> store.add(0, memory, conditioning=True)  # a FrameMemory
        >>> query = MemoryQuery(
        ...     frame_index=1, num_video_frames=8, mode=TrackingMode.EVALUATION
        ... )
        >>> selection = bank.select(store, query)  # for SAM2Tracker
        >>> bank.evict_unreachable(store, query)  # after frame 1 was tracked
    """

    presence_threshold: float = 0.0
    scales_keys: bool = False

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
        """Select the memories and pointers that a frame attends to.

        Raises:
            ValueError: If there is no conditioning frame yet.
        """
        if not store.conditioning:
            msg = (
                f'Frame {query.frame_index} has no conditioning frame to attend to; '
                f'prompt the objects on some frame first'
            )
            raise ValueError(msg)
        conditioning = self._nearest(tuple(store.conditioning), query.frame_index)
        memories = [
            SelectedMemory(spatial=store.conditioning[frame].spatial, age=0)
            for frame in conditioning
        ]
        for age, frame in self.tracked_frames(store, query):
            memory = None if frame in conditioning else store.memory(frame)
            if memory is not None:
                memories.append(SelectedMemory(spatial=memory.spatial, age=age))
        max_pointers = min(query.num_video_frames, self.max_pointers)
        return MemorySelection(
            memories=tuple(memories),
            pointers=(
                *self._conditioning_pointers(store, conditioning, query),
                *_tracked_pointers(store, conditioning, max_pointers, query),
            ),
            max_pointers=max_pointers,
        )

    def tracked_frames(
        self, store: MemoryStore, query: MemoryQuery
    ) -> Iterable[tuple[int, int]]:
        """Pairs of age and frame of the spatial memories to attend to, oldest first.

        Ages are 1 to ``num_frames - 1``; frames without a memory are skipped.
        ``store.tracked`` lacks memories on disk: :meth:`MemoryStore.tracked_memory`
        reads them.
        """
        del store  # this policy depends on time alone
        stride = 1 if query.mode is TrackingMode.TRAINING else self.stride
        # Time runs along the pass, so reverse passes count in negative frames.
        now = query.frame_index * query.direction
        for age in range(self.num_frames - 1, 0, -1):
            time = now - 1
            if age > 1:
                time = (now - 2) // stride * stride - (age - 2) * stride
            yield age, time * query.direction

    @property
    def observes_frames(self) -> bool:
        """Whether :meth:`observe` is to be called; it costs the pointers of masks."""
        return type(self).observe is not MemoryBank.observe

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Look at what was decoded on a frame, before its memory is encoded.

        A video session calls it for each object and frame, prompted ones included;
        clips (:mod:`.tracking.clip`) are not observed. The decision may depend on the
        store and the observation alone: a policy has no state of its own, so that a
        session may turn, return to any frame, or be copied.
        """
        del store, observation  # this policy takes what the decoder judges best
        return Decision()

    def previous_note(self, store: MemoryStore, query: MemoryQuery) -> object:
        """Look up the note of the frame before, along the pass.

        Returns:
            The value, or None without a note, or if that frame was tracked by a pass
            in the other direction.
        """
        note = store.notes.get(query.frame_index - query.direction)
        is_same_pass = note is not None and note.reverse in (None, query.reverse)
        return note.value if note is not None and is_same_pass else None

    def evict_unreachable(self, store: MemoryStore, query: MemoryQuery) -> None:
        """Evict the tracked memories that the running pass cannot reach any more.

        A video session calls it after each tracked frame, with the query of that
        frame, or of the oldest frame that a stream may still be prompted on; training
        keeps all memories of a clip. What eviction does is up to the store: it deletes
        the memory, or writes it to disk (:class:`OffloadedMemoryStore`).
        """
        # The stride's grid may lie up to stride - 1 frames before the second latest.
        spatial_reach = 1 + self.stride * max(self.num_frames - 2, 0)
        reach = max(spatial_reach, self.max_pointers - 1)
        kept = self.kept_frames(store, query)
        for frame in tuple(store.tracked):
            if frame in kept:
                continue
            distance = (query.frame_index - frame) * query.direction
            # Later frames may be needed by a later pass: evict them only to disk.
            if distance > reach or (store.can_restore and distance < -reach):
                store.evict(frame)

    def kept_frames(self, store: MemoryStore, query: MemoryQuery) -> Collection[int]:
        """Tracked frames that later ones attend to, however far they are.

        Args:
            query: As for :meth:`evict_unreachable`.
        """
        del store, query  # this policy depends on time alone
        return ()

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

    def _conditioning_pointers(
        self, store: MemoryStore, conditioning: tuple[int, ...], query: MemoryQuery
    ) -> Iterable[SelectedPointer]:
        """Pointers of the conditioning frames; in evaluation, of past ones only."""
        with_later = query.mode is TrackingMode.TRAINING or self.future_pointers
        for frame in conditioning:
            offset = (query.frame_index - frame) * query.direction
            if with_later or offset >= 0:
                pointer = store.conditioning[frame].object_pointer
                yield SelectedPointer(pointer=pointer, time_offset=offset)


def _tracked_pointers(
    store: MemoryStore,
    conditioning: tuple[int, ...],
    max_pointers: int,
    query: MemoryQuery,
) -> Iterable[SelectedPointer]:
    """Pointers of the latest tracked frames, latest first."""
    for offset in range(1, max_pointers):
        frame = query.frame_index - offset * query.direction
        pointer = None if frame in conditioning else store.pointer(frame)
        if pointer is not None:
            yield SelectedPointer(pointer=pointer, time_offset=offset)


@MODELS.register_module()
class MemoryBankEmpty(MemoryBank):
    """Selects no memory, to measure how much memory contributes to a score.

    Each frame is segmented as if it were the first, without a prompt.
    """

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Select nothing."""
        del store
        return MemorySelection(
            memories=(), pointers=(), max_pointers=query.num_video_frames
        )
