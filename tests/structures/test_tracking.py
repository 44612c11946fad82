"""Outputs of the tracker."""

import torch

from projects.sam2.structures import DecoderStep, FrameOutput


def _step(value: float) -> DecoderStep:
    return DecoderStep(
        candidate_logits=torch.full((1, 1, 2, 2), value),
        candidate_ious=torch.ones(1, 1),
        mask_logits=torch.full((1, 1, 2, 2), value),
        object_pointer=torch.zeros(1, 4),
        object_score_logits=torch.ones(1, 1),
    )


def test_final_answer_is_that_after_all_corrections() -> None:
    output = FrameOutput(frame_index=3, steps=(_step(1.0), _step(2.0)))
    assert output.final is output.steps[1]
