"""The loss of a clip, against released numbers and a plain implementation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional

from golden_cases import GoldenCase, assert_near, discover, golden_weights, unpack_masks
from loss_cases import (
    NAMES,
    Settings,
    in_processes,
    leaves,
    make_output,
    make_step,
    plain_losses,
    random_step,
    undecided_class_loss,
)
from projects.sam2.losses import SAM2MultiStepLoss
from projects.sam2.losses.multi_step import recompute_in_backward
from projects.sam2.structures import ClipTargets, FrameOutput

NUM_OBJECTS = 3
SIZE = (16, 24)

VARIANTS = [
    pytest.param(Settings(), id='released'),
    pytest.param(Settings(all_ious=False), id='best IoU'),
    pytest.param(Settings(l1=False), id='squared IoU'),
    pytest.param(Settings(alpha=None, gamma=1.0), id='other focal'),
    pytest.param(Settings(weights=(1.0, 30.0, 2.0, 3.0)), id='other weights'),
]


@pytest.fixture
def targets() -> ClipTargets:
    """Two frames; the last object is absent from both, the first from the second."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, NUM_OBJECTS, *SIZE, generator=generator) > 0.7
    masks[:, 2] = False
    masks[1, 0] = False
    annotated = torch.ones(2, NUM_OBJECTS, dtype=torch.bool)
    return ClipTargets(masks=masks, void=None, annotated=annotated)


@pytest.fixture
def partial_targets(targets: ClipTargets) -> ClipTargets:
    """The same with void pixels, and an object that is not annotated once."""
    void = torch.zeros_like(targets.masks)
    void[0, :2, :5] = True
    void[1, :, :, 20:] = True
    annotated = targets.annotated.clone()
    annotated[0, 1] = False
    return ClipTargets(masks=targets.masks & ~void, void=void, annotated=annotated)


def make_outputs(dtype: torch.dtype = torch.float64) -> list[FrameOutput]:
    """Two frames, the first of three candidates and two corrections."""
    generator = torch.Generator().manual_seed(1)
    counts = ((3, 1, 3), (3,))
    return [
        make_output(frame, [random_step(m, generator, dtype=dtype) for m in steps])
        for frame, steps in enumerate(counts)
    ]


def build(**changes: object) -> SAM2MultiStepLoss:
    """The released loss with changes."""
    loss: SAM2MultiStepLoss = MODELS.build({'type': 'SAM2MultiStepLoss', **changes})
    return loss


def cast(outputs: Sequence[FrameOutput], dtype: torch.dtype) -> list[FrameOutput]:
    """The same outputs in another precision."""
    return [
        make_output(
            output.frame_index,
            [
                make_step(
                    step.candidate_logits.to(dtype),
                    step.candidate_ious.to(dtype),
                    step.object_score_logits.to(dtype),
                )
                for step in output.steps
            ],
        )
        for output in outputs
    ]


def gradients(
    losses: dict[str, Tensor], outputs: Sequence[FrameOutput]
) -> list[Tensor]:
    """Gradients of the sum by all that the decoder gave."""
    total = torch.stack(list(losses.values())).sum()
    return list(torch.autograd.grad(total, leaves(outputs), allow_unused=True))


def one_step_output(
    num_candidates: int = 3, size: tuple[int, int] = (4, 6)
) -> FrameOutput:
    """A frame with one answer."""
    generator = torch.Generator().manual_seed(3)
    return make_output(0, [random_step(num_candidates, generator, size=size)])


@pytest.mark.parametrize('settings', VARIANTS)
@pytest.mark.parametrize('which', ['targets', 'partial_targets'])
def test_losses_and_gradients_equal_the_plain_way(
    settings: Settings, which: str, request: pytest.FixtureRequest
) -> None:
    targets: ClipTargets = request.getfixturevalue(which)
    outputs = make_outputs()
    losses = build(**settings.config())(outputs, targets)
    expected = plain_losses(outputs, targets, settings)
    for name in NAMES:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-7)
    pairs = zip(gradients(losses, outputs), gradients(expected, outputs), strict=True)
    for recomputed, plain in pairs:
        assert torch.allclose(recomputed, plain, rtol=1e-6, atol=1e-12)


def test_single_precision_is_as_good_as_double(targets: ClipTargets) -> None:
    loss = build()
    single, double = make_outputs(torch.float32), make_outputs(torch.float64)
    losses, exact = loss(single, targets), loss(double, targets)
    for name in NAMES:
        assert losses[name].dtype is torch.float32
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=1e-5)


def test_autocast_changes_nothing(targets: ClipTargets) -> None:
    halves = cast(make_outputs(), torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = build()(halves, targets)
    expected = build()(cast(halves, torch.float32), targets)
    for name in NAMES:
        assert losses[name].dtype is torch.float32
        assert torch.equal(losses[name], expected[name])


def test_only_the_best_candidate_is_trained_but_every_iou(
    targets: ClipTargets,
) -> None:
    output = one_step_output()
    step = output.final
    with torch.no_grad():
        # The second candidate of the first object is nearly right.
        small = targets.masks[0, :1, ::4, ::4].float()
        step.candidate_logits[0, 1] = small[0] * 8 - 4
    logits_gradient, iou_gradient, _ = gradients(build()([output], targets), [output])
    assert [bool(part.any()) for part in logits_gradient[0]] == [False, True, False]
    assert iou_gradient[:2].all()
    best_only = build(supervise_all_ious=False)
    _, iou_gradient, _ = gradients(best_only([output], targets), [output])
    assert [bool(part) for part in iou_gradient[0]] == [False, True, False]


def test_absent_object_trains_its_score_alone(targets: ClipTargets) -> None:
    output = one_step_output()
    logits, ious, scores = gradients(build()([output], targets), [output])
    assert not logits[2].any()
    assert not ious[2].any()
    # Its score is pushed down, those of the present objects up.
    assert (scores[:, 0] > 0).tolist() == [False, False, True]


def test_frame_without_annotation_contributes_nothing(targets: ClipTargets) -> None:
    nowhere = ClipTargets(
        masks=targets.masks,
        void=None,
        annotated=torch.zeros_like(targets.annotated),
    )
    outputs = make_outputs()
    losses = build()(outputs, nowhere)
    assert all(loss.item() == 0 for loss in losses.values())
    assert not any(gradient.any() for gradient in gradients(losses, outputs))


def test_what_is_predicted_on_void_pixels_does_not_matter(
    partial_targets: ClipTargets,
) -> None:
    output = one_step_output(size=SIZE)
    before = build()([output], partial_targets)
    assert partial_targets.void is not None
    with torch.no_grad():
        void = partial_targets.void[0][:, None].expand(-1, 3, -1, -1)
        output.final.candidate_logits[void] = 50.0
    after = build()([output], partial_targets)
    for name in NAMES:
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6)


def test_given_masks_are_scored_as_they_are(targets: ClipTargets) -> None:
    low = torch.zeros(NUM_OBJECTS, 1, 4, 6)
    full = targets.masks[0][:, None].float() * 200 - 100
    sure = torch.where(targets.masks[0].flatten(1).any(1), 50.0, -50.0)[:, None]
    step = make_step(low, torch.ones(NUM_OBJECTS, 1), sure, full_logits=full)
    losses = build()([make_output(0, [step])], targets)
    assert all(loss.item() == pytest.approx(0, abs=1e-6) for loss in losses.values())


def test_term_without_weight_builds_no_graph(targets: ClipTargets) -> None:
    output = one_step_output()
    losses = build(class_weight=0.0, iou_weight=0.0)([output], targets)
    assert losses['loss_class'].item() == 0
    assert [grad is None for grad in gradients(losses, [output])] == [False, True, True]


def test_without_object_scores_every_object_counts_as_present(
    targets: ClipTargets,
) -> None:
    output = one_step_output()
    losses = build(class_focal=None)([output], targets)
    assert losses['loss_class'].item() == 0
    actual = gradients(losses, [output])
    assert [grad is None for grad in actual] == [False, False, True]
    assert actual[0][2].any()


def test_nothing_of_full_size_is_kept_for_backward() -> None:
    size = (64, 96)
    masks = torch.ones(1, NUM_OBJECTS, *size, dtype=torch.bool)
    annotated = torch.ones(1, NUM_OBJECTS, dtype=torch.bool)
    targets = ClipTargets(masks=masks, void=None, annotated=annotated)
    output = one_step_output(size=(16, 24))
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        build()([output], targets)
    assert saved
    assert max(tensor.numel() for tensor in saved) <= NUM_OBJECTS * 16 * 24


def test_order_of_the_frames_does_not_matter(targets: ClipTargets) -> None:
    outputs = make_outputs()
    forwards, backwards = build()(outputs, targets), build()(outputs[::-1], targets)
    for name in NAMES:
        assert backwards[name].item() == pytest.approx(forwards[name].item())


def test_terms_of_frames_sum_to_the_loss(targets: ClipTargets) -> None:
    loss = build()
    outputs = make_outputs()
    frames = [
        loss.frame_losses(
            output,
            masks=targets.masks[output.frame_index][:, None],
            void=None,
            annotated=targets.annotated[output.frame_index],
        )
        for output in outputs
    ]
    whole = loss(outputs, targets)
    for name in NAMES:
        total = sum(frame[name].item() for frame in frames) / NUM_OBJECTS
        assert whole[name].item() == pytest.approx(total)


def test_clip_without_objects_loses_nothing() -> None:
    masks = torch.zeros(1, 0, *SIZE, dtype=torch.bool)
    annotated = torch.zeros(1, 0, dtype=torch.bool)
    targets = ClipTargets(masks=masks, void=None, annotated=annotated)
    generator = torch.Generator()
    output = make_output(0, [random_step(3, generator, num_objects=0)])
    losses = build()([output], targets)
    assert [loss.item() for loss in losses.values()] == [0.0] * 4


def test_objects_are_averaged_over_processes(tmp_path: Path) -> None:
    # Three and one object, each with a loss of log 2, over two objects on average.
    losses = in_processes(undecided_class_loss, 2, tmp_path, (3, 1))
    assert losses == pytest.approx([1.5 * math.log(2), 0.5 * math.log(2)])


def _alpha(value: float) -> float | None:
    """The released code says -1 for no weight."""
    return None if value < 0 else value


def _released_config(options: dict[str, Any]) -> dict[str, Any]:
    """A released configuration in our words."""
    weights = options['weight_dict']
    score_focal = {
        'alpha': _alpha(options['focal_alpha_obj_score']),
        'gamma': options['focal_gamma_obj_score'],
    }
    return {
        'mask_weight': weights['loss_mask'],
        'dice_weight': weights['loss_dice'],
        'iou_weight': weights['loss_iou'],
        'class_weight': weights.get('loss_class', 0),
        'mask_focal': {
            'alpha': _alpha(options.get('focal_alpha', 0.25)),
            'gamma': options.get('focal_gamma', 2),
        },
        'class_focal': score_focal if options['pred_obj_scores'] else None,
        'supervise_all_ious': options['supervise_all_iou'],
        'iou_l1': options['iou_use_l1_loss'],
    }


def _released_outputs(
    case: GoldenCase, name: str, changes: dict[str, Any]
) -> list[FrameOutput]:
    """Outputs that a released loss was computed of."""
    side, num_objects = case.spec['S'], case.spec['N']
    salt = case.spec['salt'] + name

    def noise(tag: str, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.from_numpy(golden_weights().tensor(tag, shape, salt, scale))

    outputs = []
    for frame in range(case.spec['T']):
        steps = []
        for index, count in enumerate(changes['steps']):
            tag = f'{frame}_{index}'
            shape = (num_objects, count, side, side)
            logits = noise(f'lm{tag}', *shape, scale=changes.get('sc', 3))
            if 'fixed' in changes:
                logits = torch.full(shape, changes['fixed'])
            ious = noise(f'li{tag}', num_objects, count).sigmoid()
            scores = noise(f'ls{tag}', num_objects, 1) * 2
            inputs = [part.requires_grad_() for part in (logits, ious, scores)]
            steps.append(make_step(*inputs))
        outputs.append(make_output(frame, steps))
    return outputs


def _released_gradient_norms(outputs: list[FrameOutput]) -> list[float]:
    """Norms in the order of the golden file; -1 where there is no gradient."""
    kinds = ('candidate_logits', 'candidate_ious', 'object_score_logits')
    actual: list[Tensor | None] = [
        getattr(step, kind).grad
        for output in outputs
        for kind in kinds
        for step in output.steps
    ]
    return [-1.0 if part is None else float(part.norm()) for part in actual]


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('loss_cases_*'))
def test_losses_and_gradients_equal_the_released_ones(case: GoldenCase) -> None:
    shape = tuple(int(side) for side in case.arrays['masks_shape'])
    all_masks = unpack_masks(case.arrays['masks_bits'], shape)
    for name, changes in case.spec['cases'].items():
        options = {**case.spec['base_kw'], **changes.get('kw', {})}
        options['weight_dict'] = changes.get('wd', options['weight_dict'])
        masks = all_masks.clone()
        masks[:, changes.get('absent', [])] = False
        everywhere = torch.ones(shape[:2], dtype=torch.bool)
        targets = ClipTargets(masks=masks, void=None, annotated=everywhere)
        outputs = _released_outputs(case, name, changes)
        losses = SAM2MultiStepLoss(**_released_config(options))(outputs, targets)
        for key in NAMES:
            weighted = options['weight_dict'].get(key, 0) * changes['loss'][key]
            assert_near(losses[key].item(), weighted, 1e-5, f'{name}: {key}', 1e-4)
        core = torch.stack(list(losses.values())).sum()
        core.backward()
        assert_near(core.item(), changes['loss']['core_loss'], 1e-5, name)
        norms = _released_gradient_norms(outputs)
        for norm, expected in zip(norms, changes['grad_norms'], strict=True):
            assert_near(norm, expected, 1e-5, f'{name}: gradient', floor=1e-4)


FULL_SIZE = (32, 32)


class Losses:
    """Two losses of enlarged logits that count how often they are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits (O, 1, H4, W4)."""
        self.calls += 1
        full = functional.interpolate(logits, size=FULL_SIZE, mode='bilinear')
        pixels = full.flatten(1)
        return pixels.sigmoid().mean(dim=1), pixels.square().sum(dim=1)


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 8, 8, generator=generator, dtype=torch.float64)


def _known(losses: Losses, logits: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return losses(logits)


def test_values_and_gradients_are_those_of_the_plain_way(logits: Tensor) -> None:
    losses = Losses()
    plain = logits.clone().requires_grad_()
    recomputed = logits.clone().requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    focal, dice = losses(plain)
    (focal * weights + 3 * dice).sum().backward()
    graphed = recompute_in_backward(recomputed, *_known(losses, logits), losses)
    (graphed[0] * weights + 3 * graphed[1]).sum().backward()
    assert torch.equal(graphed[0], focal)
    assert torch.equal(graphed[1], dice)
    assert recomputed.grad is not None
    assert plain.grad is not None
    assert torch.allclose(recomputed.grad, plain.grad, rtol=1e-12)


def test_forward_computes_nothing_and_backward_once(logits: Tensor) -> None:
    losses = Losses()
    known = _known(losses, logits)
    graphed = recompute_in_backward(logits.requires_grad_(), *known, losses)
    assert losses.calls == 1
    graphed[0].sum().backward()
    assert losses.calls == 2


def test_without_gradients_the_losses_pass_through(logits: Tensor) -> None:
    losses = Losses()
    known = _known(losses, logits)
    graphed = recompute_in_backward(logits, *known, losses)
    assert not graphed[0].requires_grad
    assert torch.equal(graphed[1], known[1])


@pytest.mark.filterwarnings('ignore')  # of the compiler's own
def test_loss_is_traced_without_a_break_to_the_same_values_and_gradients(
    partial_targets: ClipTargets,
) -> None:
    loss, outputs = build(), make_outputs()
    expected = loss(outputs, partial_targets)
    torch.compiler.reset()
    traced = torch.compile(loss, backend='eager', fullgraph=True)
    actual = traced(outputs, partial_targets)
    torch.testing.assert_close(actual, expected)
    for gradient, expected_gradient in zip(
        gradients(actual, outputs), gradients(expected, outputs), strict=True
    ):
        torch.testing.assert_close(gradient, expected_gradient)
