"""Objects with memories of their own on one frame of a video.

::

    track_objects
    ├─ MemoryBank.select      the memories that each object attends to
    ├─ batch_selections       objects whose memories have the same shape
    └─ for each batch
        ├─ decode_frame
        ├─ observe_objects        MemoryBank.observe: which candidate, what is noted
        └─ encode_frame_memory
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...structures import DecoderStep, EncodedFrame, ImageFeatures
from ..memory_bank import (
    Decision,
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    Observation,
    join_selections,
)
from .frame import FrameTask, decode_frame, encode_frame_memory
from .promptable import PromptableHeads

Key = TypeVar('Key')


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBatch:
    """Objects that were tracked in one batch.

    Attributes:
        object_ids: One for each row of ``output``.
        output: Their masks and memories.
        decisions: Of the memory bank, for each row; None if it does not observe frames.
    """

    object_ids: tuple[int, ...]
    output: EncodedFrame
    decisions: tuple[Decision, ...] | None = None


def track_objects(
    heads: PromptableHeads,
    stores: Mapping[int, MemoryStore],
    features: ImageFeatures,
    query: MemoryQuery,
    *,
    max_batch_objects: int,
    video_size: tuple[int, int] | None = None,
) -> Iterator[ObjectBatch]:
    """Track objects with separate memories on a frame; the stores are not changed.

    Objects whose selected memories have the same shape go into one batch. Results that
    do not depend on memories, such as the first self-attention, are computed once for
    a batch.

    Args:
        stores: The memories of each object, by its id.
        features: Features of the frame, (1, ...).
        max_batch_objects: Largest number of objects in a batch.
        video_size: Height and width of the video, for a memory bank that observes
            frames; by default those of the frame that the model sees.
    """
    bank = heads.tracker.memory_bank
    selections = {
        object_id: bank.select(store, query) for object_id, store in stores.items()
    }
    task = FrameTask(query=query)
    for batch, selection in batch_selections(selections, max_batch_objects):
        # Memories expand the shared features to O objects; without any, do it here.
        shared = features if selection.memories else features.repeated(len(batch))
        steps = decode_frame(heads, shared, selection, task)
        decisions = None
        if bank.observes_frames:
            decisions = observe_objects(
                bank,
                [stores[object_id] for object_id in batch],
                steps[-1],
                query,
                frame_size=features.frame_size,
                video_size=video_size,
            )
            chosen = steps[-1].choose([d.candidate for d in decisions])
            steps = (*steps[:-1], chosen)
        output = encode_frame_memory(
            heads,
            shared,
            steps,
            task,
            conditions=[decision.conditions for decision in decisions or ()],
        )
        yield ObjectBatch(object_ids=batch, output=output, decisions=decisions)


def batch_selections(
    selections: Mapping[Key, MemorySelection], max_batch_objects: int
) -> Iterator[tuple[tuple[Key, ...], MemorySelection]]:
    """Join selections of equal shape.

    Yields:
        Up to ``max_batch_objects`` keys, and their joined selection.
    """
    groups: dict[object, list[Key]] = {}
    for key, selection in selections.items():
        groups.setdefault(selection.shape, []).append(key)
    for group in groups.values():
        for batch in chunks(group, max_batch_objects):
            yield batch, join_selections([selections[key] for key in batch])


def chunks(items: Sequence[Key], size: int) -> Iterator[tuple[Key, ...]]:
    """Split a sequence into parts of a size; the last one may be smaller."""
    for first in range(0, len(items), size):
        yield tuple(items[first : first + size])


def observe_objects(
    bank: MemoryBank,
    stores: Sequence[MemoryStore],
    step: DecoderStep,
    query: MemoryQuery,
    *,
    frame_size: tuple[int, int],
    video_size: tuple[int, int] | None,
    is_prompted: bool = False,
) -> tuple[Decision, ...]:
    """Let the memory bank look at what was decoded for each object.

    Args:
        stores: The memories of each object.
        step: One row for each object.
        frame_size: As in :class:`Observation`, as is ``is_prompted``.
        video_size: Likewise; None where no frame of the video was read.
    """
    return tuple(
        bank.observe(
            store,
            Observation(
                query=query,
                step=step.select(slice(row, row + 1)),
                is_prompted=is_prompted,
                frame_size=frame_size,
                video_size=video_size or frame_size,
            ),
        )
        for row, store in enumerate(stores)
    )
