"""DAM4SAM: a memory of frames that tell the object from its distractors.

Videnović, Lukežič and Kristan, "A Distractor-Aware Memory for Visual Object Tracking
with SAM2" (CVPR 2025); training free, for the weights of SAM 2. The memory has two
parts:

===========  ==============================================================
distractor-  The conditioning frames, and tracked frames that the policy
resolving    adds. A frame is added where the decoder is sure of its mask
             while another candidate covers something else as well, as a
             distractor beside the object does. Its memory is encoded as that
             of a prompted frame, and it has the temporal position of one.
recent       The latest frames on which the object is visible. Frames without
             it tell nothing about it, and give neither memory nor pointer.
===========  ==============================================================

::

    select    before a frame   DAM4SAMNote of all frames ─▶ split_memory ─▶ memories
    observe   after a frame    next_note: mask, size, distractors ─▶ DAM4SAMNote

The original tracks one object forwards from frame 0. Here time is counted along the
pass from its first conditioning frame, so an object may start on any frame, and be
tracked backwards.
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from statistics import median
from typing import cast

import cv2
import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from ...ops import count_pixels, upsample_logits
from ...structures import FrameMemory, TrackingMode
from ..memory_bank import (
    Decision,
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    Observation,
    SelectedMemory,
    SelectedPointer,
)

Box = tuple[int, int, int, int]  # x and y of the first and of the last pixel
# The size of a mask is compared with the median of this many earlier ones, …
NUM_SIZES = 10
# … none of which is older than this many frames.
SIZE_WINDOW = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class DAM4SAMNote:
    """What is remembered of a frame.

    Attributes:
        is_visible: The mask has a pixel.
        is_added: The frame was added to the distractor-resolving memory.
        last_added: The frame that was added last, or None; this frame included.
        num_tracked: Number of frames tracked since the prompt; this frame included.
        sizes: The latest masks that are not empty: number of the tracked frame, and
            pixels.
    """

    is_visible: bool
    is_added: bool = False
    last_added: int | None = None
    num_tracked: int = 0
    sizes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMemory:
    """The frames that a frame attends to, by their time along the pass.

    Attributes:
        resolving: Of the distractor-resolving memory.
        recent: Of the recent memory, newest first.
    """

    resolving: tuple[int, ...]
    recent: tuple[int, ...]


def split_memory(
    now: int,
    prompted: Collection[int],
    added: Collection[int],
    visible: Collection[int],
    *,
    num_frames: int,
    max_resolving: int | None,
    stride: int,
) -> SplitMemory:
    """Choose the frames that a frame attends to.

    Time runs along the pass; the first conditioning frame has time 0. Other frames that
    a user prompted go before those that the policy added.

    Args:
        now: Time of the frame that attends.
        prompted: Conditioning frames.
        added: Earlier frames that were added to the distractor-resolving memory.
        visible: Earlier frames on which the object is visible.
        num_frames: Temporal positions; all frames of the distractor-resolving memory
            share one.
        max_resolving: Largest number of frames of the distractor-resolving memory; None
            for all.
        stride: Recent frames but the newest are at multiples of it.
    """
    adjacent = now - 1

    def nearest(times: Collection[int]) -> list[int]:
        # The adjacent frame is left to the recent memory.
        others = [time for time in sorted(times) if time != adjacent]
        return sorted(others, key=lambda time: abs(now - time))

    resolving = {*prompted, *added}
    newest = max((time for time in resolving if time < adjacent), default=0)
    # In this order, without repetition.
    ordered = dict.fromkeys((newest, 0, *nearest(prompted), *nearest(added)))
    chosen = tuple(ordered)[:max_resolving]

    tracked = sorted(set(visible) - resolving, reverse=True)
    if adjacent in visible and adjacent not in chosen:
        latest = [adjacent]
    else:
        latest = tracked[:1]
    grid = [time for time in tracked if time % stride == 0 and time < latest[0]]
    # Short banks keep one recent frame beside a full distractor-resolving memory.
    num_recent = min(max(num_frames - len(chosen), 1), num_frames - 1)
    return SplitMemory(resolving=chosen, recent=(*latest, *grid)[:num_recent])


def box_overlap(box: Box, other: Box) -> float:
    """IoU of two boxes whose last row and column do not count.

    As vot-toolkit 0.7.1 computes it: boxes that together are no longer than one pixel
    in a direction overlap completely.
    """
    left, top = min(box[0], other[0]), min(box[1], other[1])
    right, bottom = max(box[2], other[2]), max(box[3], other[3])
    if right - left <= 1 or bottom - top <= 1:
        return 1.0
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    intersection = max(width, 0) * max(height, 0)
    union = _box_area(box) + _box_area(other) - intersection
    return intersection / union if union > 0 else 0.0


def distractor_overlap(mask: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """How well the box of a mask stays if distractors are united with it.

    What another candidate covers beside the mask is a distractor, of which the largest
    connected component counts.

    Args:
        mask: The chosen candidate, (H, W), with at least one pixel.
        others: The other candidates, (M, H, W).

    Returns:
        The smallest overlap of the box of the mask with that of the union, at most 1;
        infinity if no candidate covers anything beside the mask.
    """
    overlaps = [math.inf]
    for candidate in others:
        beside = candidate & ~mask
        if beside.any():
            union = mask | _largest_component(beside)
            overlaps.append(box_overlap(_box_of(mask), _box_of(union)))
    return min(overlaps)


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 8-connected component of a mask that is not empty."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    areas = stats[1:, cv2.CC_STAT_AREA]  # label 0 is the background
    component: NDArray[np.bool_] = labels == 1 + areas.argmax()
    return component


def _box_of(mask: NDArray[np.bool_]) -> Box:
    """The tightest box around a mask that is not empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _box_area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


@MODELS.register_module()
class MemoryBankDAM4SAM(MemoryBank):
    """The policy of DAM4SAM, for one object or several.

    A tracked frame is added to the distractor-resolving memory if the estimated IoU of
    its mask exceeds ``min_iou``, its size is ``size_range`` times the median of the
    latest ones, more than ``min_interval`` frames have passed since another was added,
    and a distractor lowers the overlap of boxes to at most ``max_overlap``
    (:func:`distractor_overlap`). :func:`split_memory` says which frames are attended
    to, the first and the newest of the distractor-resolving memory among them.

    In training, memories are selected as :class:`MemoryBank` does. An object may be
    prompted in any way; the original takes a mask, and turns a box into one first.

    Args:
        num_frames: As in :class:`MemoryBank`.
        max_conditioning_frames: Largest number of frames of the distractor-resolving
            memory to attend to; None attends to all, however long the video is. Each
            beyond the first takes the place of a recent one.
        stride: As in :class:`MemoryBank`.
        max_pointers: As in :class:`MemoryBank`, besides those of the
            distractor-resolving memory.
        future_pointers: As in :class:`MemoryBank`.
        min_iou: Estimated IoU that the mask of an added frame exceeds.
        size_range: Smallest and largest size of an added mask, over the median.
        min_interval: Number of frames after an added one that are not added.
        max_overlap: Largest overlap of the box of the mask with that of its union with
            a distractor.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        num_frames: int = 7,
        max_conditioning_frames: int | None = 4,
        stride: int = 5,
        max_pointers: int = 16,
        future_pointers: bool = False,
        min_iou: float = 0.8,
        size_range: tuple[float, float] = (0.8, 1.2),
        min_interval: int = 5,
        max_overlap: float = 0.7,
    ) -> None:
        super().__init__(
            num_frames=num_frames,
            max_conditioning_frames=max_conditioning_frames,
            stride=stride,
            max_pointers=max_pointers,
            future_pointers=future_pointers,
        )
        low, high = size_range
        if not (0 <= min_iou <= 1 and 0 <= max_overlap <= 1 and 0 <= low <= high):
            msg = (
                f'min_iou, max_overlap and size_range are {min_iou}, {max_overlap} and '
                f'{size_range}; give two numbers from 0 to 1, and two that ascend'
            )
            raise ValueError(msg)
        if min_interval < 0:
            msg = f'min_interval is {min_interval}; give a number of frames, or 0'
            raise ValueError(msg)
        self.min_iou = min_iou
        self.size_range = size_range
        self.min_interval = min_interval
        self.max_overlap = max_overlap

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Select the memories and pointers that a frame attends to."""
        if query.mode is TrackingMode.TRAINING or not store.conditioning:
            return super().select(store, query)
        timeline = _Timeline(store, query)
        split = split_memory(
            timeline.now,
            timeline.prompted,
            timeline.added,
            timeline.visible,
            num_frames=self.num_frames,
            max_resolving=self.max_conditioning_frames,
            stride=self.stride,
        )
        ages = dict.fromkeys(split.resolving, 0)
        # Recent memories are told apart by their rank, not by their distance in time.
        ranks = {time: rank for rank, time in enumerate(split.recent, start=1)}
        ages |= dict(reversed(ranks.items()))
        return MemorySelection(
            memories=tuple(
                SelectedMemory(spatial=timeline.memory(time).spatial, age=age)
                for time, age in ages.items()
            ),
            pointers=tuple(
                SelectedPointer(
                    pointer=timeline.pointer(time), time_offset=timeline.now - time
                )
                for time in self._pointer_times(timeline, split.resolving)
            ),
            max_pointers=min(timeline.num_seen, self.max_pointers),
        )

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Note whether the object is visible, and whether the frame is added."""
        step = observation.step
        is_visible = (step.mask_logits > 0).any()
        if observation.is_prompted:
            # The user has said what the object is: compare with no earlier frame.
            return Decision(note=DAM4SAMNote(is_visible=bool(is_visible)))
        mask = upsample_logits(step.mask_logits, observation.video_size) > 0
        numbers = (is_visible, count_pixels(mask)[0, 0], step.ious[0, 0])
        # One transfer from the device for all of them.
        visible, size, iou = torch.stack([n.float() for n in numbers]).tolist()

        def overlap() -> float:
            logits = upsample_logits(step.candidate_logits, observation.video_size)
            masks = (logits[0] > 0).cpu().numpy()  # (M, H, W)
            chosen = int(step.candidate_ious[0].argmax())
            return distractor_overlap(masks[chosen], np.delete(masks, chosen, axis=0))

        note = self.next_note(
            self.previous_note(store, observation.query),
            frame_index=observation.query.frame_index,
            is_visible=bool(visible),
            size=int(size),
            iou=iou,
            overlap=overlap,
        )
        return Decision(note=note, conditions=note.is_added)

    def next_note(
        self,
        previous: object,
        *,
        frame_index: int,
        is_visible: bool,
        size: int,
        iou: float,
        overlap: Callable[[], float],
    ) -> DAM4SAMNote:
        """The note of a tracked frame, with the decision whether the frame is added.

        Args:
            previous: Note of the frame before, along the pass; anything else, such as
                None, starts afresh.
            is_visible: The mask has a pixel.
            size: Area of the mask at the size of the video, in pixels.
            iou: Estimated IoU of the mask.
            overlap: Computes :func:`distractor_overlap`; only called where all else
                speaks for adding the frame.
        """
        if not isinstance(previous, DAM4SAMNote):
            previous = DAM4SAMNote(is_visible=False)
        number = previous.num_tracked + 1
        sizes = previous.sizes + (((number, size),) if size else ())
        sizes = tuple(s for s in sizes if number - s[0] < SIZE_WINDOW)[-NUM_SIZES:]
        last_added = previous.last_added
        low, high = self.size_range
        is_added = (
            size > 0
            and number > 1  # there is a size to compare with
            and iou > self.min_iou
            and low <= size / median(pixels for _, pixels in sizes) <= high
            and (
                last_added is None or abs(frame_index - last_added) > self.min_interval
            )
            and overlap() <= self.max_overlap
        )
        return DAM4SAMNote(
            is_visible=is_visible,
            is_added=is_added,
            last_added=frame_index if is_added else last_added,
            num_tracked=number,
            sizes=sizes,
        )

    def kept_frames(self, store: MemoryStore, query: MemoryQuery) -> Collection[int]:
        """Tracked frames that later ones attend to, however far they are.

        The distractor-resolving memory, and what the object looked like before a long
        absence: a bounded number of frames.
        """
        timeline = _Timeline(store, query)
        tracked = timeline.visible - timeline.prompted - timeline.added
        latest = sorted(tracked, reverse=True)
        grid = [time for time in latest if time % self.stride == 0]
        kept = (
            *sorted(timeline.added, reverse=True)[: self.max_conditioning_frames],
            *latest[:1],
            *grid[: self.num_frames - 1],
        )
        return {timeline.frame(time) for time in kept}

    def _pointer_times(
        self, timeline: '_Timeline', resolving: tuple[int, ...]
    ) -> Iterable[int]:
        """Times of the frames whose pointers are attended to."""
        for time in resolving:
            if time < timeline.now or self.future_pointers:
                yield time
        for time in range(timeline.now - 1, timeline.now - self.max_pointers, -1):
            if time in timeline.visible and time not in resolving:
                yield time


class _Timeline:
    """The frames of a store by their time, which runs along the pass.

    Attributes:
        now: Time of the query; the first conditioning frame has time 0.
        prompted: Conditioning frames.
        added: Earlier frames that were added to the distractor-resolving memory.
        visible: Earlier frames on which the object is visible.
    """

    def __init__(self, store: MemoryStore, query: MemoryQuery) -> None:
        self._store, self._query = store, query
        direction = query.direction
        self._first = min(store.conditioning, key=lambda frame: frame * direction)
        self.now = self.time(query.frame_index)
        self.prompted = {self.time(frame) for frame in store.conditioning}
        self.added: set[int] = set()
        self.visible: set[int] = set()
        # Frames before the first conditioning one are those of another pass.
        start = 0 if self.now > 0 else -math.inf
        for frame, note in store.notes.items():
            time, value = self.time(frame), note.value
            if start <= time < self.now and isinstance(value, DAM4SAMNote):
                if value.is_visible:
                    self.visible.add(time)
                if value.is_added:
                    self.added.add(time)

    @property
    def num_seen(self) -> int:
        """Number of frames from the first conditioning frame on, with this one."""
        return self.now + 1 if self.now > 0 else self._query.num_video_frames

    def time(self, frame: int) -> int:
        """Time of a frame."""
        return (frame - self._first) * self._query.direction

    def frame(self, time: int) -> int:
        """Frame at a time."""
        return self._first + time * self._query.direction

    def memory(self, time: int) -> FrameMemory:
        """Look up the memory of a frame."""
        return cast('FrameMemory', self._store.memory(self.frame(time)))

    def pointer(self, time: int) -> Tensor:
        """Look up the object pointer of a frame, (O, C)."""
        return cast('Tensor', self._store.pointer(self.frame(time)))
