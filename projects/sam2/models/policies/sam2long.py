"""SAM2Long's memory tree (Ding et al., 2024): several histories of one object.

SAM 2 commits to one mask on each frame, and an error stays in the memory. Here each
object has up to ``num_pathways`` histories. On each frame every history proposes three
masks, and of all candidates those survive whose estimated IoUs, multiplied along their
history, are largest. Two further changes keep doubtful frames out of the memory:

- A frame attends to the latest frames whose mask is good and whose object is present.
- Of the memories that it attends to, the keys of the more certain ones are larger.

The bank chooses and selects (this file, without state); :mod:`..tracking.pathways`
carries the histories through a video.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from mmengine.registry import MODELS
from torch import Tensor

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

LOG_OFFSET = 1e-5  # an estimated IoU of 0 has a logarithm
PROMPTED_SCORE = 10.0  # object score of prompted frames
IOU_DECIMALS = 2  # candidates that agree so far are alike


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskQuality:
    """How good the mask of a frame is; the note of :class:`MemoryBankSAM2Long`.

    Attributes:
        iou: Estimated IoU of the mask.
        object_score: Whether the object is in the frame, as a logit.
    """

    iou: float
    object_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A candidate mask that continues a history.

    Attributes:
        pathway: Index of the history.
        candidate: Index of the mask among those that it proposes.
        total: Sum of the logarithms of the estimated IoUs along the history.
    """

    pathway: int
    candidate: int
    total: float


def choose_branches(
    totals: Sequence[float],
    ious: Sequence[Sequence[float]],
    object_scores: Sequence[float],
    *,
    num_pathways: int,
    uncertainty: float,
) -> tuple[Branch, ...]:
    """Choose the candidates that survive a frame.

    Where at least one history is certain whether the object is in the frame, the best
    candidates survive. Otherwise they should differ: candidates are taken in order, but
    only one of those whose estimated IoUs are alike and who agree on whether the object
    is there. Histories without a candidate then add their best one.

    Args:
        totals: Sum of each history before the frame.
        ious: Estimated IoU of each candidate of each history.
        object_scores: Object score of each history, a logit.
        num_pathways: Largest number of survivors.
        uncertainty: Object scores up to this size, of either sign, are uncertain.

    Returns:
        The survivors, the best one first unless histories were filled up.
    """
    branches = [
        Branch(
            pathway=pathway,
            candidate=candidate,
            # Decoders without a sigmoid (`iou_sigmoid=False`) may estimate less than 0.
            total=total + math.log(max(iou, 0.0) + LOG_OFFSET),
        )
        for pathway, (total, row) in enumerate(zip(totals, ious, strict=True))
        for candidate, iou in enumerate(row)
    ]
    branches.sort(key=lambda branch: -branch.total)  # stable
    if max(map(abs, object_scores)) > uncertainty:
        return tuple(branches[:num_pathways])
    chosen: dict[float, Branch] = {}
    for branch in branches:
        iou = ious[branch.pathway][branch.candidate]
        signed = iou if object_scores[branch.pathway] > 0 else -iou
        chosen.setdefault(round(signed, IOU_DECIMALS), branch)
    kept = list(chosen.values())[:num_pathways]
    represented = {branch.pathway for branch in kept}
    for pathway in range(len(totals)):
        if len(kept) < num_pathways and pathway not in represented:
            kept.append(next(b for b in branches if b.pathway == pathway))
    return tuple(kept)


def scales_by_score(
    scores: Sequence[float], limits: tuple[float, float]
) -> tuple[float, ...]:
    """Spread factors evenly between limits, the larger ones on higher scores."""
    low, high = limits
    step = (high - low) / max(len(scores) - 1, 1)
    ascending = sorted(range(len(scores)), key=scores.__getitem__)
    scales = [low] * len(scores)
    for rank, index in enumerate(ascending):
        scales[index] = low + step * rank
    return tuple(scales)


@MODELS.register_module()
class MemoryBankSAM2Long(MemoryBank):
    """Keeps several histories of each object (SAM2Long, Ding et al., 2024).

    A frame attends to the conditioning frames, as with :class:`MemoryBank`, and to the
    latest tracked frames whose estimated IoU is above ``iou_threshold`` and whose
    object is present; the adjacent frame is always among them. They are counted from
    the first conditioning frame along the pass on, and their age is their rank.

    In training, memories are selected as by :class:`MemoryBank`.

    Args:
        num_frames: As for :class:`MemoryBank`, as are ``max_conditioning_frames``,
            ``max_pointers`` and ``future_pointers``.
        num_pathways: Largest number of histories of an object.
        iou_threshold: Frames whose mask has a higher estimated IoU are attended to.
        uncertainty: Object scores up to this size are uncertain; see
            :func:`choose_branches`.
        modulation: Least and largest factor of the keys of memories.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> bank = MemoryBankSAM2Long(num_pathways=2)
        >>> ious = [[0.9, 0.6, 0.2], [0.7, 0.8, 0.1]]
        >>> branches = bank.choose([0.0, -0.5], ious, object_scores=[4.0, 3.0])
        >>> [(branch.pathway, branch.candidate) for branch in branches]
        [(0, 0), (0, 1)]
    """

    scales_keys = True

    def __init__(
        self,
        *,
        num_frames: int = 7,
        max_conditioning_frames: int | None = None,
        max_pointers: int = 16,
        future_pointers: bool = False,
        num_pathways: int = 3,
        iou_threshold: float = 0.1,
        uncertainty: float = 2.0,
        modulation: tuple[float, float] = (0.95, 1.05),
    ) -> None:
        super().__init__(
            num_frames=num_frames,
            max_conditioning_frames=max_conditioning_frames,
            max_pointers=max_pointers,
            future_pointers=future_pointers,
        )
        if num_pathways < 1:
            msg = f'num_pathways is {num_pathways}; give at least one history'
            raise ValueError(msg)
        if not 0 <= iou_threshold <= 1:
            msg = f'iou_threshold is {iou_threshold}; give an IoU, in [0, 1]'
            raise ValueError(msg)
        if uncertainty < 0:
            msg = f'uncertainty is {uncertainty}; give the size of a score, at least 0'
            raise ValueError(msg)
        low, high = modulation
        if not 0 < low <= high:
            msg = f'modulation is {modulation}; give two factors above 0, ascending'
            raise ValueError(msg)
        self.num_pathways = num_pathways
        self.iou_threshold = iou_threshold
        self.uncertainty = uncertainty
        self.modulation = (low, high)

    def choose(
        self,
        totals: Sequence[float],
        ious: Sequence[Sequence[float]],
        object_scores: Sequence[float],
    ) -> tuple[Branch, ...]:
        """Choose the candidates that survive a frame; see :func:`choose_branches`."""
        return choose_branches(
            totals,
            ious,
            object_scores,
            num_pathways=self.num_pathways,
            uncertainty=self.uncertainty,
        )

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Note how good the mask is that the decoder judges best."""
        del store
        step = observation.step
        if observation.is_prompted:
            iou, object_score = 1.0, PROMPTED_SCORE
        else:
            numbers = torch.cat([step.ious, step.object_score_logits], dim=1)  # (1, 2)
            iou, object_score = numbers[0].tolist()  # one transfer from the device
        return Decision(note=MaskQuality(iou=iou, object_score=object_score))

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Select the memories and pointers that a frame attends to.

        Raises:
            ValueError: If there is no conditioning frame yet.
        """
        if query.mode is TrackingMode.TRAINING or not store.notes:
            return super().select(store, query)  # clips are not observed
        conditioning = self._nearest(tuple(store.conditioning), query.frame_index)
        memories = [
            SelectedMemory(spatial=store.conditioning[frame].spatial, age=0)
            for frame in conditioning
        ]
        pointers = list(self._conditioning_pointers(store, conditioning, query))
        memory_scores = [PROMPTED_SCORE] * len(memories)
        pointer_scores = [PROMPTED_SCORE] * len(pointers)
        listed = self._listed_frames(store, query, without=conditioning)
        # Every listed frame has a memory. The oldest one gives no pointer.
        for rank, frame in enumerate(listed[:-1], 1):
            pointer = cast('Tensor', store.pointer(frame))
            pointers.append(SelectedPointer(pointer=pointer, time_offset=rank))
            pointer_scores.append(_quality(store, frame).object_score)
        latest = listed[: self.num_frames - 1]
        for age, frame in reversed(list(enumerate(latest, 1))):
            memory = cast('FrameMemory', store.memory(frame))
            memories.append(SelectedMemory(spatial=memory.spatial, age=age))
            memory_scores.append(_quality(store, frame).object_score)
        return MemorySelection(
            memories=tuple(memories),
            pointers=tuple(pointers),
            max_pointers=min(query.num_video_frames, self.max_pointers),
            key_scales=self.key_scales(memory_scores, pointer_scores),
        )

    def key_scales(
        self, memory_scores: Sequence[float], pointer_scores: Sequence[float]
    ) -> tuple[tuple[float, ...]] | None:
        """Factors of the keys of memories and pointers of an object, by object score.

        Returns:
            One row for :class:`MemorySelection`; None with a single memory, which has
            nothing to be compared with.
        """
        if len(memory_scores) < 2:
            return None
        parts = (memory_scores, pointer_scores)
        return (tuple(s for p in parts for s in scales_by_score(p, self.modulation)),)

    def kept_frames(self, store: MemoryStore, query: MemoryQuery) -> Collection[int]:
        """Listed frames, which may be attended to long after they were tracked."""
        kept: set[int] = set()
        # A prompt on the frame, and the next frame.
        for reader in (query, query.following):
            kept |= {*self._listed_frames(store, reader, without=store.conditioning)}
        return kept

    def _listed_frames(
        self, store: MemoryStore, query: MemoryQuery, *, without: Collection[int]
    ) -> list[int]:
        """The adjacent frame and the latest reliable ones, latest first.

        Args:
            without: Conditioning frames that are attended to anyway.
        """
        # Time runs along the pass, so reverse passes count in negative frames.
        now = query.frame_index * query.direction
        prompted = [frame * query.direction for frame in store.conditioning]
        start = min((time for time in prompted if time < now), default=None)
        if start is None:
            start = min((f * query.direction for f in store.notes), default=now) - 1
        listed: list[int] = []
        num_reliable = 0
        for time in range(now - 1, start, -1):
            frame = time * query.direction
            if num_reliable == self.max_pointers - 1:
                break
            if frame in without or frame not in store.notes:
                continue
            quality = _quality(store, frame)
            is_reliable = quality.iou > self.iou_threshold and quality.object_score > 0
            if is_reliable or time == now - 1:
                listed.append(frame)
                num_reliable += is_reliable
        return listed


def _quality(store: MemoryStore, frame_index: int) -> MaskQuality:
    return cast('MaskQuality', store.notes[frame_index].value)
