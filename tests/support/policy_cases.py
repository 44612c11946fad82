"""Golden cases of memory policies: labels of memories, and videos that are played."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from golden_cases import GoldenCase
from golden_models import golden_model
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.models.memory_bank import (
    Decision,
    FrameNote,
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    Observation,
)
from projects.sam2.structures import DecoderStep, FrameMemory, TrackingMode
from variant_videos import case_frames


def labelled_memory(label: float) -> FrameMemory:
    """A memory whose tensors are unlike those of other frames."""
    return FrameMemory(
        spatial=torch.full((1, 2, 1, 1), label),
        object_pointer=torch.full((1, 4), label),
        ious=torch.ones(1, 1),
        object_score_logits=torch.ones(1, 1),
    )


def labelled_store(
    conditioning: Mapping[int, object], tracked: Mapping[int, object]
) -> MemoryStore:
    """A store of memories and of the notes of their frames."""
    store = MemoryStore()
    for notes in (conditioning, tracked):
        for frame, value in notes.items():
            is_prompted = notes is conditioning
            store.add(
                frame,
                labelled_memory(frame),
                conditioning=is_prompted,
                note=FrameNote(value=value, reverse=None if is_prompted else False),
            )
    return store


def query_of(frame: int, *, reverse: bool = False, length: int = 1000) -> MemoryQuery:
    """The query of a frame in a video session."""
    return MemoryQuery(
        frame_index=frame,
        num_video_frames=length,
        mode=TrackingMode.EVALUATION,
        reverse=reverse,
    )


def decoder_step(
    logits: Tensor, ious: Tensor, object_score: float = 10.0
) -> DecoderStep:
    """What was decoded for one object: (1, M, H4, W4) and (1, M)."""
    best = int(ious.argmax())
    pointers = torch.arange(ious.shape[1])[None, :, None].float()
    return DecoderStep(
        candidate_logits=logits,
        candidate_ious=ious,
        mask_logits=logits[:, best : best + 1],
        object_pointer=pointers[:, best],
        object_score_logits=torch.tensor([[object_score]]),
        candidate_pointers=pointers,
    )


def selected_labels(
    store: MemoryStore, selection: MemorySelection, bank: MemoryBank
) -> dict[str, Any]:
    """The selection in the labels of the golden files: ``c0``, ``n7``."""
    frames = {
        f'{letter}{frame}': memory
        for letter, memories in (('c', store.conditioning), ('n', store.tracked))
        for frame, memory in memories.items()
    }

    def label(tensor: Tensor, name: str) -> str:
        (found,) = (
            k for k, memory in frames.items() if getattr(memory, name) is tensor
        )
        return found

    labels: dict[str, Any] = {
        'spatial': [label(m.spatial, 'spatial') for m in selection.memories],
        'pointers': [label(p.pointer, 'object_pointer') for p in selection.pointers],
    }
    if selection.memories:
        labels['tpos_index'] = [
            (m.age - 1) % bank.num_frames for m in selection.memories
        ]
    return labels


@dataclass
class PolicyRun:
    """A golden video of a policy, while it is played.

    Attributes:
        predictor: Ours.
        state: The video.
        selected: Labels of what each frame attended to, in the order of tracking.
        observed: What the policy saw of each tracked frame, and what it decided.
    """

    case: GoldenCase
    predictor: SAM2VideoPredictor
    state: VideoState
    selected: list[dict[str, Any]] = field(default_factory=list)
    observed: dict[int, tuple[Observation, Decision]] = field(default_factory=dict)

    @classmethod
    def of(cls, case: GoldenCase, memory_bank: dict[str, Any]) -> 'PolicyRun':
        """Open the video of a case.

        Args:
            memory_bank: Config of the policy.
        """
        model = golden_model(case.spec['salt'], tracker__memory_bank=memory_bank)
        predictor = SAM2VideoPredictor(model, memory_dtype=torch.float32)
        state = predictor.init_state(case_frames(case))
        return cls(case=case, predictor=predictor, state=state)

    def propagate(self) -> dict[int, int]:
        """Track the video; give the area of the mask on each frame, in pixels."""
        bank: MemoryBank = self.predictor.model.tracker.memory_bank
        select, observe = bank.select, bank.observe

        def selected(store: MemoryStore, query: MemoryQuery) -> MemorySelection:
            selection = select(store, query)
            labels = selected_labels(store, selection, bank)
            self.selected.append({'frame': query.frame_index, 'obj': None, **labels})
            return selection

        def observed(store: MemoryStore, observation: Observation) -> Decision:
            decision = observe(store, observation)
            if not observation.is_prompted:
                frame = observation.query.frame_index
                self.observed[frame] = observation, decision
            return decision

        with (
            patch.object(bank, 'select', selected),
            patch.object(bank, 'observe', observed),
        ):
            return {
                shown.frame_index: int((shown.mask_logits > 0).sum())
                for shown in self.predictor.propagate_in_video(self.state)
            }
