"""Batches of objects: who goes together, and what an answer holds."""

from collections.abc import Callable

import pytest
import torch

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.models.tracking import frame as mask_heads
from toy_videos import click, toy_frames, toy_model, track


def _batches(monkeypatch: pytest.MonkeyPatch, prompts: dict[int, int]) -> list[int]:
    """Sizes of the batches decoded on frame 20, objects prompted as given."""
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(21))
    for number, frame in prompts.items():
        click(predictor, state, number=number, frame=frame)
    track(predictor, state, max_frame_num_to_track=19)
    sizes: list[int] = []
    original = mask_heads.SAMHeads.decode

    def decode(self: mask_heads.SAMHeads, **inputs: torch.Tensor) -> object:
        sizes.append(len(inputs['embedding']))
        return original(self, **inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(mask_heads.SAMHeads, 'decode', decode)
    track(predictor, state, start_frame_idx=20)
    return sizes


def test_objects_with_full_memories_go_in_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _batches(monkeypatch, {1: 0, 2: 0, 3: 2}) == [3]


def test_objects_with_fewer_memories_go_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(4))
    click(predictor, state, number=1)
    track(predictor, state, max_frame_num_to_track=2)
    click(predictor, state, number=2, frame=2)
    sizes: list[int] = []
    original = mask_heads.SAMHeads.decode

    def decode(self: mask_heads.SAMHeads, **inputs: torch.Tensor) -> object:
        sizes.append(len(inputs['embedding']))
        return original(self, **inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(mask_heads.SAMHeads, 'decode', decode)
    track(predictor, state, start_frame_idx=3)
    assert sizes == [1, 1]


def test_what_needs_no_memory_is_done_once_for_all_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(2))
    for number in (1, 2, 3):
        click(predictor, state, number=number)
    predictor.propagate_in_video_preflight(state)
    attended: list[int] = []
    for layer in predictor.model.tracker.memory_attention.layers:
        original = layer.self_attention.forward

        def noted(
            query: torch.Tensor,
            *others: torch.Tensor,
            original: Callable[..., torch.Tensor] = original,
            **how: object,
        ) -> torch.Tensor:
            attended.append(len(query))
            return original(query, *others, **how)

        monkeypatch.setattr(layer.self_attention, 'forward', noted)
    track(predictor, state)
    assert attended == [1, 3]


def test_objects_are_told_apart_without_memories() -> None:
    predictor = SAM2VideoPredictor(
        toy_model(tracker__memory_bank={'type': 'MemoryBankEmpty'})
    )
    state = predictor.init_state(toy_frames(2))
    for number in (1, 2):
        click(predictor, state, number=number)
    last = track(predictor, state)[1]
    assert last.mask_logits.shape[0] == last.ious.shape[0] == 2
