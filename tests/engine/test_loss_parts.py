"""Terms of the loss are told apart by kind of step and by frame."""

import pytest
import torch
from torch import Tensor

from projects.sam2.engine.hooks.diagnostics_hook import LossParts, kind_of_step
from projects.sam2.structures import DecoderStep, FrameOutput, PointPrompt

POINTS = PointPrompt(coords=torch.zeros(2, 1, 2), labels=torch.ones(2, 1))


def _step(
    *, given: bool = False, points: PointPrompt | None = None, num_objects: int = 2
) -> DecoderStep:
    masks = torch.zeros(num_objects, 1, 4, 4)
    return DecoderStep(
        candidate_logits=masks,
        candidate_ious=torch.zeros(num_objects, 1),
        mask_logits=masks,
        object_pointer=torch.zeros(num_objects, 8),
        object_score_logits=torch.zeros(num_objects, 1),
        full_logits=masks if given else None,
        points=points,
    )


def _frame(index: int, *steps: DecoderStep) -> FrameOutput:
    return FrameOutput(frame_index=index, steps=steps)


def _terms(mask: float, dice: float) -> dict[str, Tensor]:
    return {'loss_mask': torch.tensor(mask), 'loss_dice': torch.tensor(dice)}


def test_kinds_of_steps_are_told_apart() -> None:
    clicked = _step(points=POINTS)
    assert kind_of_step(_step(given=True), 0) == 'mask'
    assert kind_of_step(clicked, 0) == 'points'
    assert kind_of_step(_step(), 0) == 'tracked'
    assert kind_of_step(clicked, 1) == 'corrected'


def test_means_are_of_steps_and_objects() -> None:
    parts = LossParts()
    clicked = _step(points=POINTS)
    parts.add(_frame(0, clicked, clicked), [_terms(8.0, 4.0), _terms(6.0, 2.0)])
    parts.add(_frame(1, _step()), [_terms(2.0, 2.0)])
    parts.add(_frame(1, _step()), [_terms(4.0, 0.0)])
    # Two objects; frame 0 has two steps, and so has frame 1 in two clips.
    assert parts.take() == pytest.approx(
        {
            'step/points/loss_mask': 4.0,
            'step/points/loss_dice': 2.0,
            'step/corrected/loss_mask': 3.0,
            'step/corrected/loss_dice': 1.0,
            'step/tracked/loss_mask': 1.5,
            'step/tracked/loss_dice': 0.5,
            'frame/00/loss_mask': 3.5,
            'frame/00/loss_dice': 1.5,
            'frame/01/loss_mask': 1.5,
            'frame/01/loss_dice': 0.5,
        }
    )
    assert parts.take() == {}


def test_objects_count_alike_in_whatever_groups_they_come() -> None:
    parts = LossParts()
    parts.add(_frame(0, _step(num_objects=3)), [_terms(9.0, 6.0)])
    parts.add(_frame(0, _step(num_objects=1)), [_terms(1.0, 0.0)])
    found = parts.take()
    assert found['step/tracked/loss_mask'] == pytest.approx(2.5)
    assert found['frame/00/loss_dice'] == pytest.approx(1.5)
