"""Tracks objects that have memories of their own in one batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from projects.sam2.models.frame_tracking import (
    FrameTask,
    decode_frame,
    remember_frame,
)
from projects.sam2.models.mask_heads import MaskHeads
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.memory_selection import join_selections
from projects.sam2.structures import ImageFeatures, RememberedFrame

__all__ = ['ObjectBatch', 'follow_objects']


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBatch:
    """Objects that were tracked together on a frame.

    Attributes:
        positions: Which of the objects asked for, one for each row of ``output``.
        output: What was decoded and remembered of them.
    """

    positions: tuple[int, ...]
    output: RememberedFrame


def follow_objects(
    heads: MaskHeads,
    stores: Sequence[MemoryStore],
    features: ImageFeatures,
    query: MemoryQuery,
    *,
    max_batch_objects: int,
) -> Iterator[ObjectBatch]:
    """Track objects on a frame without a prompt; nothing is changed.

    Objects that attend to the same number of memories go in one batch. What does not
    depend on memories, like the first self-attention, is done once for all.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        stores: Memories of each object, each prompted on some frame.
        features: Of the one frame.
        query: The frame.
        max_batch_objects: Objects tracked in one batch.

    Yields:
        Batches that hold each object once.
    """
    recalled = [heads.tracker.memory_bank.select(store, query) for store in stores]
    groups: dict[object, list[int]] = {}
    for position, selection in enumerate(recalled):
        groups.setdefault(selection.shape, []).append(position)
    for members in groups.values():
        for first in range(0, len(members), max_batch_objects):
            batch = tuple(members[first : first + max_batch_objects])
            selection = join_selections([recalled[position] for position in batch])
            shared = features
            if not selection.memories:  # nothing says how many objects there are
                device = features.embedding.device
                every = torch.zeros(len(batch), dtype=torch.int64, device=device)
                shared = features.select(every)
            task = FrameTask(query=query)
            steps = decode_frame(heads, shared, selection, task)
            yield ObjectBatch(
                positions=batch,
                output=remember_frame(heads, shared, steps, task),
            )
