"""Previewed prompts are those of training."""

import pytest
import torch

from golden_models import golden_model
from projects.sam2.models import SAM2PromptSimulator
from projects.sam2.models.prompt_preview import preview_clicks, preview_prompts
from projects.sam2.models.prompt_simulator import (
    ClickGenerators,
    PromptKind,
    PromptPlan,
)
from projects.sam2.structures import ClipBatch, ClipTargets, FramePrompt, TrackingMode


class NotedPrompts(SAM2PromptSimulator):
    """Notes the first prompts that it gave."""

    def __init__(self) -> None:
        super().__init__(num_corrections=2)
        self.given: list[FramePrompt] = []

    def first_prompt(
        self, kind: PromptKind, truth: torch.Tensor, clicks: ClickGenerators
    ) -> FramePrompt:
        """Note the prompt; it is the usual one."""
        self.given.append(super().first_prompt(kind, truth, clicks))
        return self.given[-1]


def two_clips() -> ClipBatch:
    """Two clips of three frames, one of two objects; a frame lacks an annotation."""
    generator = torch.Generator().manual_seed(0)
    annotated = torch.ones(3, 3, dtype=torch.bool)
    annotated[1, 2] = False
    return ClipBatch(
        frames=torch.randn(6, 3, 64, 64, generator=generator),
        num_frames=3,
        targets=ClipTargets(
            masks=torch.rand(3, 3, 64, 64, generator=generator) > 0.7,
            void=None,
            annotated=annotated,
        ),
        video_of_object=torch.tensor([0, 0, 1]),
        seeds=(3, 4),
    )


@pytest.mark.parametrize(
    'kinds',
    [
        (PromptKind.POINT, PromptKind.POINT),
        (PromptKind.BOX, PromptKind.POINT),
        (PromptKind.MASK, PromptKind.MASK),
    ],
)
def test_prompts_equal_those_of_training(kinds: tuple[PromptKind, PromptKind]) -> None:
    batch = two_clips()
    plan = PromptPlan(
        prompts={0: kinds[0], 1: kinds[1], 2: kinds[1]},
        correction_frames=frozenset({0, 2}),
        conditioning_frames=frozenset({0, 2}),
    )
    model = golden_model('preview:', tracker={'gate_training_masks': False})
    model.prompt_simulator = simulator = NotedPrompts()
    with torch.no_grad():
        model.track(batch, plan, TrackingMode.TRAINING)
    trained = list(simulator.given)
    previewed = preview_prompts(simulator, batch, plan)
    assert list(previewed) == [0, 2]  # frame 1 is not annotated in all clips
    for ours, theirs in zip(previewed.values(), trained, strict=True):
        for one, other in ((ours.mask, theirs.mask), (ours.points, theirs.points)):
            assert (one is None) == (other is None)
        if ours.points is not None and theirs.points is not None:
            assert torch.equal(ours.points.coords, theirs.points.coords)
            assert torch.equal(ours.points.labels, theirs.points.labels)


def test_clicks_on_a_model_are_those_that_training_gives_it() -> None:
    batch = two_clips()
    plan = PromptPlan(
        prompts={0: PromptKind.BOX},
        correction_frames=frozenset({0, 2}),
        conditioning_frames=frozenset({0, 2}),
    )
    model = golden_model('preview:', prompt_simulator={'num_corrections': 2})
    with torch.no_grad():
        outputs = model.track(batch, plan, TrackingMode.TRAINING)
    clicks = preview_clicks(model, batch, plan)
    assert list(clicks) == [0, 2]
    for frame, count in ((0, 2 + 2), (2, 2)):  # a box is two points
        found, given = clicks[frame].points, outputs[frame].final.points
        assert found is not None
        assert given is not None
        assert torch.equal(found.coords, given.coords)
        assert found.coords.shape == (3, count, 2)
