"""One frame: corrections, and what is remembered of prompted frames."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from golden_models import golden_model
from projects.sam2.models import SAM2, SAM2Tracker
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import FrameTask, track_frame
from projects.sam2.structures import (
    EncodedFrame,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)

SIDE = 64


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model."""
    return golden_model('frame:')


@pytest.fixture(scope='module')
def features(model: SAM2) -> ImageFeatures:
    """Features of one frame for two objects."""
    frame = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode(frame).select(torch.zeros(2, dtype=torch.int64))


@pytest.fixture
def mask() -> Tensor:
    """A mask prompt for two objects."""
    masks = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 0, 10:31, 5:44] = True
    masks[1, 0, 40:43, 50:60] = True
    return masks


def _click(x: float) -> PointPrompt:
    return PointPrompt(
        coords=torch.full((2, 1, 2), x), labels=torch.ones(2, 1, dtype=torch.int32)
    )


def _run(
    model: SAM2,
    features: ImageFeatures,
    prompt: FramePrompt,
    *,
    correct: Callable[[Tensor], PointPrompt] | None = None,
    mode: TrackingMode = TrackingMode.EVALUATION,
    reread: bool = False,
) -> EncodedFrame:
    task = FrameTask(
        query=MemoryQuery(frame_index=0, num_video_frames=8, mode=mode),
        prompt=prompt,
        uses_memory=False,
        correct=correct,
        num_corrections=3,
        reread_prompt=reread,
    )
    with torch.no_grad():
        return track_frame(model.heads, features, MemoryStore(), task)


def test_each_correction_adds_its_click_to_all_earlier_ones(
    model: SAM2, features: ImageFeatures
) -> None:
    shown: list[Tensor] = []

    def correct(logits: Tensor) -> PointPrompt:
        shown.append(logits)
        return _click(10.0 + len(shown))

    prompt = FramePrompt(points=_click(10.0))
    output = _run(model, features, prompt, correct=correct)
    last = output.final.points
    assert last is not None
    assert last.coords[0, :, 0].tolist() == [10.0, 11.0, 12.0, 13.0]
    assert [step.candidate_ious.shape[1] for step in output.steps] == [3, 1, 1, 1]
    assert [tuple(logits.shape[-2:]) for logits in shown] == [(SIDE, SIDE)] * 3


def test_corrections_build_on_the_mask_before(
    model: SAM2, features: ImageFeatures
) -> None:
    prompt = FramePrompt(points=_click(10.0))
    corrected = _run(model, features, prompt, correct=lambda _: _click(20.0))
    at_once = _run(
        model,
        features,
        FramePrompt(points=_click(10.0).followed_by(_click(20.0))),
    )
    assert not torch.allclose(
        corrected.steps[1].mask_logits, at_once.final.mask_logits, atol=1e-3
    )


def test_mask_prompt_is_not_decoded(
    model: SAM2, features: ImageFeatures, mask: Tensor
) -> None:
    output = _run(model, features, FramePrompt(mask=mask), correct=lambda _: _click(1))
    assert len(output.steps) == 1
    assert output.final.full_logits is not None
    assert torch.equal(output.final.full_logits > 0, mask)


@pytest.mark.parametrize('mode', list(TrackingMode))
def test_interactive_memory_of_a_mask_is_binary_in_evaluation_alone(
    model: SAM2, features: ImageFeatures, mask: Tensor, mode: TrackingMode
) -> None:
    plain = _run(model, features, FramePrompt(mask=mask), mode=mode)
    reread = _run(model, features, FramePrompt(mask=mask), mode=mode, reread=True)
    low = reread.final.mask_logits
    shown = torch.nn.functional.interpolate(
        low, size=(SIDE, SIDE), mode='bilinear', align_corners=False
    )
    binary = mode is TrackingMode.EVALUATION
    expected = model.tracker.encode_memory(
        features, shown, torch.ones(2, 1, dtype=torch.bool), binary=binary
    )
    assert torch.allclose(reread.memory.spatial, expected, atol=1e-5)
    assert not torch.allclose(plain.memory.spatial, expected, atol=1e-3)


def test_training_and_evaluation_share_the_decoded_logits_of_a_click(
    model: SAM2, features: ImageFeatures
) -> None:
    prompt = FramePrompt(points=_click(30.0))
    found = [_run(model, features, prompt, mode=mode) for mode in TrackingMode]
    assert torch.equal(found[0].final.candidate_logits, found[1].final.candidate_logits)


@pytest.mark.parametrize('decided', [True, False])
def test_memory_of_clicks_is_decided_or_as_sure_as_the_mask(
    features: ImageFeatures, *, decided: bool
) -> None:
    model = golden_model('frame:', tracker={'binary_clicked_memories': decided})
    assert isinstance(model.tracker, SAM2Tracker)
    output = _run(model, features, FramePrompt(points=_click(30.0)))
    shown = torch.nn.functional.interpolate(
        output.final.mask_logits, size=(SIDE, SIDE), mode='bilinear'
    )
    with torch.no_grad():
        expected, other = (
            model.tracker.encode_memory(
                features, shown, output.final.object_score_logits > 0, binary=binary
            )
            for binary in (decided, not decided)
        )
    assert torch.allclose(output.memory.spatial, expected, atol=1e-5)
    assert not torch.allclose(output.memory.spatial, other, atol=1e-3)
