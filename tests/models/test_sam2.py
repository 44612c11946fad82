"""The assembled model under MMEngine's calls."""

from collections.abc import Iterator

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, TASK_UTILS

from golden_models import golden_model, tiny_config
from memory_videos import MemoryVideo
from projects.sam2.models import SAM2
from projects.sam2.structures import (
    ClipBatch,
    ClipSample,
    ClipTargets,
    FramePrediction,
    TrackingMode,
    VideoRecord,
    VideoResult,
)
from square_clips import SIDE, square_sample


@pytest.fixture
def iteration() -> Iterator[MessageHub]:
    """The hub that tells the model its training step."""
    hub = MessageHub.get_current_instance()
    before = hub.get_info('iter', 0)
    yield hub
    hub.update_info('iter', before)


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model for frames of 64 px."""
    return golden_model('whole:', data_preprocessor={'image_size': (SIDE, SIDE)})


def test_training_lowers_the_loss(iteration: MessageHub) -> None:
    torch.manual_seed(0)
    config = tiny_config(
        data_preprocessor={'image_size': (SIDE, SIDE)},
        tracker={'gate_training_masks': False},
        prompt_simulator={'point_probability': 0.0},
    )
    trained: SAM2 = MODELS.build(config)
    optimizer = OptimWrapper(torch.optim.AdamW(trained.parameters(), lr=1e-3))
    samples = [square_sample(0), square_sample(1)]
    losses: list[float] = []
    for step in range(8):
        iteration.update_info('iter', step % 2)
        logged = trained.train_step(samples, optimizer)
        losses.append(logged['loss'].item())
    assert sum(losses[-2:]) < 0.7 * sum(losses[:2])


def test_same_step_gives_the_same_loss_and_another_step_other_prompts(
    model: SAM2, iteration: MessageHub
) -> None:
    batch = model.data_preprocessor([square_sample(0)])['inputs']

    def total(step: int) -> float:
        iteration.update_info('iter', step)
        return float(sum(model(batch, mode='loss').values()))

    with torch.no_grad():
        first = total(3)
        assert total(3) == first
        assert len({round(total(step), 3) for step in range(4)}) > 1


def test_loss_of_a_batch_is_that_of_its_clips_by_their_objects(
    model: SAM2, iteration: MessageHub
) -> None:
    iteration.update_info('iter', 0)
    samples = [square_sample(0), square_sample(1)]

    def terms(chosen: list[ClipSample]) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = model(
            model.data_preprocessor(chosen)['inputs'], mode='loss'
        )
        return losses

    with torch.no_grad():
        both = terms(samples)
        apart = [terms([sample]) for sample in samples]
    for name, value in both.items():
        mean = (apart[0][name] + apart[1][name]) / 2
        assert value.item() == pytest.approx(mean.item(), rel=1e-4), name


@pytest.mark.parametrize(
    ('inputs', 'mode'), [('records', 'loss'), ('batch', 'predict'), ('batch', 'train')]
)
def test_mode_that_does_not_fit_is_named(model: SAM2, inputs: str, mode: str) -> None:
    data = [] if inputs == 'records' else model.data_preprocessor([square_sample(0)])
    data = data['inputs'] if isinstance(data, dict) else data
    with pytest.raises(ValueError, match=f"Mode '{mode}' does not take"):
        model(data, mode=mode)


def test_model_without_a_loss_says_what_is_missing() -> None:
    config = tiny_config(data_preprocessor={'image_size': (SIDE, SIDE)})
    without: SAM2 = MODELS.build(config | {'loss': None})
    batch = without.data_preprocessor([square_sample(0)])['inputs']
    with pytest.raises(ValueError, match='give `loss` in its config'):
        without(batch, mode='loss')


class _Collector:
    """An accumulator that keeps what it is handed."""

    def begin(self, record: VideoRecord) -> None:
        self.calls: list[object] = [record.source.name]

    def add(self, prediction: FramePrediction) -> None:
        self.calls.append(prediction.frame_index)

    def finish(self, result: VideoResult) -> None:
        result.calls = self.calls


class _MaskKeeper(_Collector):
    """Keeps the masks."""

    def add(self, prediction: FramePrediction) -> None:
        self.calls.append(prediction.masks)

    def finish(self, result: VideoResult) -> None:
        result.masks = self.calls[1:]


def test_prediction_hands_masks_on_frame_by_frame() -> None:
    TASK_UTILS.register_module('MemoryTestCollector', module=_Collector, force=True)
    config = tiny_config(data_preprocessor={'image_size': (SIDE, SIDE)})
    config['accumulators'] = [{'type': 'MemoryTestCollector'}]
    config['val_prompt_simulator'] = {
        'type': 'SAM2PromptSimulator',
        'point_probability': 0.0,
    }
    model: SAM2 = MODELS.build(config).eval()
    record = VideoRecord(metainfo={'source': MemoryVideo(length=3), 'sample_index': 5})
    (result,) = model.val_step([record])
    assert result.calls == ['squares', 0, 1, 2]
    assert (result.sample_index, result.video_name) == (5, 'squares')
    assert not any(p.grad is not None for p in model.parameters())


def test_flattened_images_are_found_by_clip_and_frame(model: SAM2) -> None:
    batch: ClipBatch = model.data_preprocessor([square_sample(0), square_sample(1)])[
        'inputs'
    ]
    plan = model.val_prompt_simulator.plan(3, step=0)
    with torch.no_grad():
        together = model.track(batch, plan, TrackingMode.EVALUATION)
        single = model.data_preprocessor([square_sample(1)])['inputs']
        alone = model.track(single, plan, TrackingMode.EVALUATION)
    for both, one in zip(together, alone, strict=True):
        actual = both.final.mask_logits[2:]
        expected = one.final.mask_logits
        assert torch.allclose(actual, expected, atol=1e-3)


def test_clip_of_another_shape_runs_through(model: SAM2) -> None:
    frames = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 96, 160, dtype=torch.bool)
    masks[..., 20:60, 30:90] = True
    batch = ClipBatch(
        frames=frames,
        num_frames=2,
        targets=ClipTargets(
            masks=masks, void=None, annotated=torch.ones(2, 1, dtype=torch.bool)
        ),
        objects_per_clip=(1,),
        annotated_frames=frozenset({0, 1}),
        seeds=(0,),
    )
    with torch.no_grad():
        outputs = model(batch, mode='tensor')
    assert [o.final.mask_logits.shape[-2:] for o in outputs] == [(24, 40)] * 2


@pytest.mark.parametrize('point_probability', [0.0, 1.0])
def test_bfloat16_training_step_is_close_to_float32(
    iteration: MessageHub, point_probability: float
) -> None:
    iteration.update_info('iter', 0)
    model: SAM2 = golden_model(
        'cast:',
        data_preprocessor={'image_size': (SIDE, SIDE)},
        tracker={'gate_training_masks': False},
        # Clicks on the truth: those on errors would differ with the rounding.
        prompt_simulator={
            'point_probability': point_probability,
            'truth_click_probability': 1.0,
        },
    )
    batch = model.data_preprocessor([square_sample(0)])['inputs']
    totals, norms = [], []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            terms = model(batch, mode='loss')
        assert {term.dtype for term in terms.values()} == {torch.float32}
        total = sum(terms.values())
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        totals.append(total.item())
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
    assert totals[1] == pytest.approx(totals[0], rel=0.05)
    assert norms[1] == pytest.approx(norms[0], rel=0.3)


def test_prediction_in_bfloat16_agrees_with_float32() -> None:
    model = golden_model(
        'video:',
        data_preprocessor={'image_size': (SIDE, SIDE)},
        val_prompt_simulator={'type': 'SAM2PromptSimulator', 'point_probability': 0.0},
    )
    model.accumulators = [_MaskKeeper()]
    # The second object joins later: groups with and without decoded masks meet.
    video = MemoryVideo(first_frames=(0, 2), length=4)
    record = VideoRecord(metainfo={'source': video, 'sample_index': 0})
    (expected,) = model.val_step([record])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (actual,) = model.val_step([record])
    agreement = [
        (ours == theirs).mean()
        for ours, theirs in zip(actual.masks, expected.masks, strict=True)
    ]
    assert min(agreement) > 0.95
