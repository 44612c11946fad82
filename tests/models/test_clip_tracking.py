"""A training step and its gradients, against the golden cases."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_near,
    discover,
    golden_weights,
)
from golden_clips import RecordedPrompts, golden_batch
from golden_models import golden_model
from projects.sam2.checkpoints.key_map import to_released
from projects.sam2.models import SAM2, SAM2PromptSimulator
from projects.sam2.models.prompt_simulator import (
    ClickGenerators,
    PromptKind,
    PromptPlan,
)
from projects.sam2.models.tracking.clip import preview_prompts
from projects.sam2.structures import (
    ClipBatch,
    ClipTargets,
    EncodedFrame,
    FrameOutput,
    FramePrompt,
    PointPrompt,
    TrackingMode,
)

LOSSES = {
    'loss_mask': ('loss_mask', 20.0),
    'loss_dice': ('loss_dice', 1.0),
    'loss_iou': ('loss_iou', 1.0),
    'loss_class': ('loss_class', 1.0),
}


def golden_plan(case: GoldenCase) -> PromptPlan:
    """Which frames the golden run prompted."""
    decisions = case.spec['decisions']
    kind = PromptKind.POINT if decisions['use_pt_input'] else PromptKind.MASK
    return PromptPlan(
        prompts=dict.fromkeys(decisions['init_cond_frames'], kind),
        correction_frames=frozenset(decisions['frames_to_add_correction_pt']),
        conditioning_frames=frozenset(decisions['stored_as_cond']),
    )


def recorded_run(
    case: GoldenCase,
) -> tuple[SAM2, ClipBatch, tuple[FrameOutput, ...]]:
    """Model, batch and outputs of a golden training step."""
    setup = case.spec['case']
    model = golden_model(setup['salt']).train()
    model.prompt_simulator = RecordedPrompts(
        case.spec['sampled_points_in_call_order'],
        len(case.spec['decisions']['init_cond_frames']),
        case.spec['model_config']['num_correction_pt_per_frame'],
    )
    batch = golden_batch(setup, case.arrays['masks_bits'])
    outputs = model.track(batch, golden_plan(case), TrackingMode.TRAINING)
    return model, batch, outputs


def _outputs_by_name(outputs: tuple[FrameOutput, ...]) -> Iterator[tuple[str, Tensor]]:
    for output in outputs:
        name = f'f{output.frame_index}'
        lows = [step.mask_logits for step in output.steps]
        yield f'{name}/pred_low', torch.cat(lows, dim=1)
        if isinstance(output, EncodedFrame):
            yield f'{name}/mem', output.memory.spatial
        yield f'{name}/ptr', output.final.object_pointer
        for number, step in enumerate(output.steps):
            yield f'{name}/s{number}/iou', step.candidate_ious
            yield f'{name}/s{number}/score', step.object_score_logits
            if step.candidate_logits.shape[1] > 1:
                yield f'{name}/s{number}/multi_low', step.candidate_logits


@pytest.mark.golden
@pytest.mark.parametrize(
    'case', discover('train_*', without=('train_eval_', 'train_steps_'))
)
def test_training_step_equals_the_released_one(case: GoldenCase) -> None:
    model, batch, outputs = recorded_run(case)
    for name, value in _outputs_by_name(outputs):
        assert_close(value, case.arrays[name], 1e-4, f'{case.name}/{name}')
    is_encoded = [isinstance(output, EncodedFrame) for output in outputs]
    # Nothing attends to the frame that is tracked last.
    assert sum(is_encoded) == len(outputs) - 1
    assert model.loss_module is not None
    terms = model.loss_module(outputs, batch.targets)
    for ours, (released, weight) in LOSSES.items():
        expected = case.spec['loss'][released] * weight
        assert_near(terms[ours].item(), expected, 1e-5, ours)
    total = sum(terms[name] for name in LOSSES)
    assert isinstance(total, Tensor)
    assert_near(total.item(), case.spec['loss']['core_loss'], 1e-5, 'core loss')
    total.backward()
    _check_gradients(model, case)


def _check_gradients(model: SAM2, case: GoldenCase) -> None:
    expected = case.spec['grads_norm_probe']
    floor = 1e-6 * max(norm for norm, _ in filter(None, expected.values()))
    for key, parameter in model.named_parameters():
        released = to_released(key)
        if expected[released] is None:
            assert parameter.grad is None, f'{key} has a gradient'
            continue
        assert parameter.grad is not None, f'{key} has no gradient'
        norm, projection = expected[released]
        gradient = parameter.grad.double().numpy()
        if norm <= floor:
            continue
        assert_near(float(np.linalg.norm(gradient)), norm, 1e-3, f'gradient of {key}')
        probe = golden_weights().tensor(f'probe:{released}', tuple(parameter.shape))
        actual = float((gradient * probe).sum())
        assert abs(actual - projection) <= 1e-3 * norm * np.sqrt(2), key


class NotedPrompts(SAM2PromptSimulator):
    """Records the predictions that it corrects."""

    def __init__(self) -> None:
        super().__init__(num_corrections=1)
        self.predictions: list[Tensor] = []
        self.voids: list[Tensor | None] = []

    def correction(
        self,
        truth: Tensor,
        prediction: Tensor,
        clicks: ClickGenerators,
        void: Tensor | None = None,
    ) -> PointPrompt:
        """Note the prediction and the void; the clicks are the usual ones."""
        self.predictions.append(prediction)
        self.voids.append(void)
        return super().correction(truth, prediction, clicks, void)


def _two_frames(*, void: bool = False, annotated: bool = True) -> ClipBatch:
    """A clip of an object; all of its second frame may lack an annotation."""
    masks = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    masks[0, :, 8:32, 8:40] = True
    shape = masks.shape if void else (0,)
    return ClipBatch(
        frames=torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        num_frames=2,
        targets=ClipTargets(
            masks=masks,
            void=torch.ones(shape, dtype=torch.bool) if void else None,
            annotated=torch.tensor([[True], [annotated]]),
        ),
        objects_per_clip=(1,),
        annotated_frames=frozenset({0, 1} if annotated else {0}),
        seeds=(0,),
    )


def _noted_run(
    batch: ClipBatch,
) -> tuple[tuple[FrameOutput, ...], NotedPrompts]:
    """Track a clip with clicks on both frames; return outputs and recorded prompts."""
    model = golden_model('noted:', tracker={'gate_training_masks': False})
    model.prompt_simulator = simulator = NotedPrompts()
    plan = PromptPlan(
        prompts=dict.fromkeys((0, 1), PromptKind.POINT),
        correction_frames=frozenset({0, 1}),
        conditioning_frames=frozenset({0, 1}),
    )
    with torch.no_grad():
        outputs = model.track(batch, plan, TrackingMode.TRAINING)
    return outputs, simulator


@pytest.mark.parametrize('annotated', [True, False])
def test_frame_without_annotation_is_tracked_and_never_prompted(
    *, annotated: bool
) -> None:
    outputs, simulator = _noted_run(_two_frames(annotated=annotated))
    assert [len(output.steps) for output in outputs] == [2, 2 if annotated else 1]
    assert (outputs[1].final.points is not None) is annotated
    assert len(simulator.predictions) == (2 if annotated else 1)


def test_corrections_are_told_which_pixels_are_void() -> None:
    batch = _two_frames(void=True)
    void = batch.targets.void
    assert void is not None
    _, simulator = _noted_run(batch)
    for frame, ignored in enumerate(simulator.voids):
        assert ignored is not None
        assert torch.equal(ignored[:, 0], void[frame])
    assert _noted_run(_two_frames())[1].voids == [None, None]


class NotedFirstPrompts(SAM2PromptSimulator):
    """Notes the first prompts that it gave."""

    def __init__(self) -> None:
        super().__init__(num_corrections=2)
        self.given: list[FramePrompt] = []

    def first_prompt(
        self, kind: PromptKind, truth: Tensor, clicks: ClickGenerators
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
        objects_per_clip=(2, 1),
        annotated_frames=frozenset({0, 2}),
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
    model.prompt_simulator = simulator = NotedFirstPrompts()
    with torch.no_grad():
        model.track(batch, plan, TrackingMode.TRAINING)
    trained = list(simulator.given)
    previewed = preview_prompts(simulator, batch, plan)
    assert list(previewed) == [0, 2]  # frame 1 is not annotated in all clips
    for preview, prompt in zip(previewed.values(), trained, strict=True):
        if prompt.points is None:
            assert preview.mask is not None
            assert prompt.mask is not None
            assert torch.equal(preview.mask, prompt.mask)
        else:
            assert preview.points is not None
            assert torch.equal(preview.points.coords, prompt.points.coords)
            assert torch.equal(preview.points.labels, prompt.points.labels)
