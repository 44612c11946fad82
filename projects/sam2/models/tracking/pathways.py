"""Several histories of an object on its way through a video, for SAM2Long.

::

    VideoSession.step
      ├─ track_objects     an object with one history: the first frame after a prompt
      └─ track_pathways    the histories of all objects in one batch
          ├─ MemoryBank.select         for each history; equal ones are tracked once
          ├─ decode_frame              three candidates for each
          ├─ MemoryBankSAM2Long.choose    which candidates survive
          └─ encode_frame_memory       a memory for each survivor

Histories share the memories of the frames before they parted. The best one is that of
:class:`TrackedObject` and is shown; :class:`Pathways` holds the others. A prompt, a
conditioning frame, a jump or a turn ends them, and the object goes on from what is
shown.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import Self

from ...structures import DecoderStep, FrameMemory, ImageFeatures
from ..memory_bank import FrameNote, MemoryQuery, MemorySelection, MemoryStore
from ..policies.sam2long import Branch, MaskQuality, MemoryBankSAM2Long
from .frame import FrameTask, decode_frame, encode_frame_memory
from .objects import ObjectBatch, batch_selections, chunks
from .promptable import PromptableHeads, PromptableModel

Mask = tuple[Hashable, int]  # key of a selection, and index of the candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Pathways:
    """The histories of an object beside the one that is shown.

    Attributes:
        others: Their memories, the likelier histories first.
        totals: Sum of the logarithms of the estimated IoUs of each history, that of
            the shown one first.
        frame_index: The frame on which they were tracked last.
        reverse: The pass ran backwards in time.
    """

    others: tuple[MemoryStore, ...] = ()
    totals: tuple[float, ...] = (0.0,)
    frame_index: int
    reverse: bool

    def reach(self, query: MemoryQuery) -> bool:
        """Whether a frame follows the one on which they were tracked last."""
        before = query.frame_index - query.direction
        return (before, query.reverse) == (self.frame_index, self.reverse)

    def copy(self) -> 'Pathways':
        """Copy the histories; the copy shares the tensors, which are never changed."""
        return replace(self, others=tuple(store.copy() for store in self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """All histories of an object.

    Attributes:
        stores: Their memories.
        totals: Sum of the logarithms of the estimated IoUs of each.
    """

    stores: tuple[MemoryStore, ...]
    totals: tuple[float, ...]

    @classmethod
    def of(cls, shown: MemoryStore, pathways: Pathways, num_pathways: int) -> Self:
        """Collect the histories; a single one counts ``num_pathways`` times."""
        repeats = num_pathways if not pathways.others else 1
        return cls(
            stores=(shown, *pathways.others) * repeats,
            totals=pathways.totals * repeats,
        )

    def continued(
        self,
        survivors: Sequence['Survivor'],
        memories: Sequence[Sequence[FrameMemory]],
        query: MemoryQuery,
    ) -> tuple[MemoryStore, Pathways]:
        """Continue histories by the survivors of a frame.

        Args:
            survivors: In the order of the new histories.
            memories: Those of each batch of :class:`PathwayFrame`.

        Returns:
            The history that is shown, and the others.
        """
        stores = []
        for survivor in survivors:
            store = self.stores[survivor.branch.pathway].copy()
            store.add(
                query.frame_index,
                memories[survivor.batch][survivor.row],
                conditioning=False,
                note=FrameNote(value=survivor.quality, reverse=query.reverse),
            )
            stores.append(store)
        return stores[0], Pathways(
            others=tuple(stores[1:]),
            totals=tuple(survivor.branch.total for survivor in survivors),
            frame_index=query.frame_index,
            reverse=query.reverse,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A candidate that continues a history of an object.

    Attributes:
        branch: The history and the candidate.
        quality: Of its mask.
        batch: Index of the batch that holds its memory.
        row: Its row there.
    """

    branch: Branch
    quality: MaskQuality
    batch: int
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathwayFrame:
    """What became of the histories of objects on a frame.

    Attributes:
        histories: The histories before the frame, of each object, by its id.
        survivors: What continues them.
        batches: Masks and memories of the survivors, each once.
        num_shown: Number of batches, the first ones, that hold the masks to be shown.
    """

    histories: Mapping[int, Histories] = field(default_factory=dict)
    survivors: Mapping[int, tuple[Survivor, ...]] = field(default_factory=dict)
    batches: tuple[ObjectBatch, ...] = ()
    num_shown: int = 0

    @property
    def shown(self) -> tuple[ObjectBatch, ...]:
        """Masks and memories of the best history of each object."""
        return self.batches[: self.num_shown]


def tree_bank(model: PromptableModel) -> MemoryBankSAM2Long | None:
    """The memory bank of a model, if it keeps several histories of an object."""
    bank = model.tracker.memory_bank
    if isinstance(bank, MemoryBankSAM2Long) and bank.num_pathways > 1:
        return bank
    return None


def track_pathways(
    heads: PromptableHeads,
    bank: MemoryBankSAM2Long,
    histories: Mapping[int, Histories],
    features: ImageFeatures,
    query: MemoryQuery,
    *,
    max_batch_objects: int,
) -> PathwayFrame:
    """Track all histories of objects on a frame; the stores are not changed.

    Histories that attend to the same memories are tracked once: apart they would differ
    by rounding, which would then decide between them.

    Args:
        histories: Those of each object, by its id.
        features: Features of the frame, (1, ...).
        max_batch_objects: Largest number of histories in a batch.
    """
    selections: dict[Hashable, MemorySelection] = {}
    keys: dict[int, list[Hashable]] = {}  # of each history in ``selections``
    for object_id, of_object in histories.items():
        keys[object_id] = []
        for store in of_object.stores:
            selection = bank.select(store, query)
            key = object_id, _identity(selection)
            selections.setdefault(key, selection)
            keys[object_id].append(key)

    task = FrameTask(query=query)
    steps: dict[Hashable, DecoderStep] = {}
    for batch, selection in batch_selections(selections, max_batch_objects):
        (step,) = decode_frame(heads, features, selection, task)
        steps |= {key: step.select(slice(i, i + 1)) for i, key in enumerate(batch)}

    qualities = _qualities(steps)
    branches = {
        object_id: bank.choose(
            histories[object_id].totals,
            [[quality.iou for quality in qualities[key]] for key in of_object],
            [qualities[key][0].object_score for key in of_object],
        )
        for object_id, of_object in keys.items()
    }
    masks: dict[int, list[Mask]] = {  # of the survivors of each object
        object_id: [(keys[object_id][b.pathway], b.candidate) for b in of_object]
        for object_id, of_object in branches.items()
    }

    batches: list[ObjectBatch] = []
    rows: dict[Mask, tuple[int, int]] = {}  # batch and row of each mask
    num_shown = 0
    # Rank by rank: what is shown comes first, and where objects compete for pixels,
    # they do so with the histories of like rank of the others.
    for rank in range(bank.num_pathways):
        ids = {of_object[rank]: object_id for object_id, of_object in masks.items()}
        for batch in chunks([m for m in ids if m not in rows], max_batch_objects):
            step = _join([steps[key].choose([candidate]) for key, candidate in batch])
            output = encode_frame_memory(heads, features, (step,), task)
            rows |= {mask: (len(batches), row) for row, mask in enumerate(batch)}
            object_ids = tuple(ids[mask] for mask in batch)
            batches.append(ObjectBatch(object_ids=object_ids, output=output))
        num_shown = num_shown or len(batches)

    def survivor(branch: Branch, mask: Mask) -> Survivor:
        key, candidate = mask
        batch, row = rows[mask]
        quality = qualities[key][candidate]
        return Survivor(branch=branch, quality=quality, batch=batch, row=row)

    return PathwayFrame(
        histories=histories,
        survivors={
            object_id: tuple(map(survivor, branches[object_id], masks[object_id]))
            for object_id in branches
        },
        batches=tuple(batches),
        num_shown=num_shown,
    )


def _identity(selection: MemorySelection) -> Hashable:
    """Equal for selections of the same tensors, which are never changed."""
    return (
        tuple((id(memory.spatial), memory.age) for memory in selection.memories),
        tuple((id(p.pointer), p.time_offset) for p in selection.pointers),
        selection.key_scales,
    )


def _qualities(
    steps: Mapping[Hashable, DecoderStep],
) -> dict[Hashable, list[MaskQuality]]:
    """Quality of each candidate; all numbers come off the device in one transfer."""
    numbers = torch.cat(
        [
            torch.cat([step.object_score_logits, step.candidate_ious], dim=1)
            for step in steps.values()
        ]
    )
    return {
        key: [MaskQuality(iou=iou, object_score=score) for iou in ious]
        for key, (score, *ious) in zip(steps, numbers.tolist(), strict=True)
    }


def _join(steps: Sequence[DecoderStep]) -> DecoderStep:
    """Join the outputs of several objects."""

    def cat(name: str) -> Tensor:
        return torch.cat([getattr(step, name) for step in steps])

    return DecoderStep(
        candidate_logits=cat('candidate_logits'),
        candidate_ious=cat('candidate_ious'),
        mask_logits=cat('mask_logits'),
        object_pointer=cat('object_pointer'),
        object_score_logits=cat('object_score_logits'),
        candidate_pointers=cat('candidate_pointers'),
        chosen_ious=cat('chosen_ious'),
    )
