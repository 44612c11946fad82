"""Nothing in a training step or a tracked frame waits for a GPU, but where it logs."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import Tensor

from device_waits import DEVICE, DeviceTensor, StandInDevice, move_to_stand_in
from golden_models import golden_model
from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor
from projects.sam2.engine.hooks import ClipNonFiniteHook, SAM2RuntimeInfoHook
from projects.sam2.engine.hooks.diagnostics_hook import LossParts
from projects.sam2.engine.optim import FiniteGuard
from projects.sam2.models import SAM2
from projects.sam2.models.tracking import memory_store
from projects.sam2.structures import ClipSample
from untraced import untraced

SIDE = 64
NUM_FRAMES = 8


def clip(seed: int, *, void: bool) -> ClipSample:
    """A clip of two objects that move."""
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_FRAMES, 3, SIDE, SIDE)
    sample = ClipSample(
        metainfo={
            'video_name': f'clip{seed}',
            'seed': seed,
            'sample_index': seed,
            'frame_indices': tuple(range(NUM_FRAMES)),
        }
    )
    sample.frames = torch.randint(256, shape, generator=generator).to(torch.uint8)
    sample.masklets = torch.zeros(NUM_FRAMES, 2, SIDE, SIDE, dtype=torch.bool)
    for frame in range(NUM_FRAMES):
        sample.masklets[frame, 0, 10:30, 6 + 2 * frame : 24 + 2 * frame] = True
        sample.masklets[frame, 1, 38:56, 30 - frame : 46 - frame] = True
    sample.void = torch.zeros(NUM_FRAMES, SIDE, SIDE, dtype=torch.bool)
    sample.void[:, :4] = void
    sample.annotated = torch.ones(NUM_FRAMES, dtype=torch.bool)
    sample.object_ids = torch.tensor([1, 2])
    return sample


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Build a model on the stand-in device, and its guarded optimizer."""

    def build(**prompts: Any) -> tuple[SAM2, FiniteGuard]:
        model = golden_model(
            'waits:',
            data_preprocessor={'image_size': (SIDE, SIDE)},
            prompt_simulator=prompts,
            tracker={'gate_training_masks': False},
        ).train()
        move_to_stand_in(model)
        model.data_preprocessor._device = DEVICE
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        # As SAM2OptimWrapperConstructor builds it for a GPU.
        adam = sys.modules[torch.optim.Adam.__module__]
        monkeypatch.setattr(adam, '_device_dtype_check_for_fused', Mock())
        optimizer._step_supports_amp_scaling = True
        optimizer.param_groups[0]['fused'] = True
        wrapper = OptimWrapper(optimizer, clip_grad={'max_norm': 0.1})
        return model, FiniteGuard(wrapper)

    return build


@pytest.mark.parametrize(
    'prompts',
    [
        {'point_probability': 1.0, 'box_probability': 0.0},
        {'point_probability': 1.0, 'box_probability': 1.0},
        {'point_probability': 0.0},
    ],
    ids=['clicks', 'boxes', 'masks'],
)
@untraced()
def test_training_step_never_waits_for_the_device(
    training: Callable[..., Any], prompts: dict[str, float]
) -> None:
    model, guard = training(
        num_conditioning_frames=(2, 2), num_correction_frames=(2, 2), **prompts
    )
    model.loss_module.observer = LossParts().add
    before = [parameter.host.clone() for parameter in model.parameters()]
    with StandInDevice() as device:
        samples = [clip(0, void=False), clip(1, void=True)]
        terms = model.train_step(samples, guard)
    assert device.waits == []
    assert terms['loss'].host.isfinite()
    after = [parameter.host for parameter in model.parameters()]
    assert any(
        not torch.equal(old, new) for old, new in zip(before, after, strict=True)
    )


@untraced()
def test_objects_trained_in_groups_do_not_wait_for_the_device(
    training: Callable[..., Any],
) -> None:
    model, guard = training(point_probability=1.0)
    model.objects_at_once = 1
    with StandInDevice() as device:
        model.train_step([clip(0, void=False)], guard)
    assert device.waits == []


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> SAM2VideoPredictor:
    """A video predictor on the stand-in device, whose objects are all present."""
    model = golden_model('waits:', data_preprocessor={'image_size': (SIDE, SIDE)})
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += 10
    move_to_stand_in(model)
    model.data_preprocessor._device = DEVICE
    # Copies off the device are asynchronous, as on a GPU.
    monkeypatch.setattr(memory_store, 'ASYNCHRONOUS_DEVICES', (DEVICE.type,))
    monkeypatch.setattr(torch.cuda, 'Event', Mock())
    monkeypatch.setattr(torch.cuda, 'current_stream', Mock())
    return SAM2VideoPredictor(model, fill_hole_area=8.0)


@untraced()
def test_a_tracked_frame_never_waits_for_the_device(
    predictor: SAM2VideoPredictor,
) -> None:
    frames = [np.full((48, 80, 3), 10 * n, np.uint8) for n in range(20)]
    waits: dict[int, list[str]] = {}
    with StandInDevice() as device:
        state = predictor.init_state(frames)
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 20]], labels=[1])
        predictor.add_new_points_or_box(state, 0, 2, box=[10, 10, 40, 40])
        predictor.add_new_points_or_box(state, 3, 3, points=[[60, 20]], labels=[1])
        assert device.waits == []
        for result in predictor.propagate_in_video(state):
            waits[result.frame_index], device.waits = device.waits, []
        # A click on a frame whose memories were offloaded.
        predictor.add_new_points_or_box(state, 1, 2, points=[[30, 30]], labels=[1])
    assert len(waits) == len(frames)
    assert not any(waits.values()), waits
    assert device.waits == []
    assert any(obj.store.offloaded for obj in state.objects.values())  # type: ignore[attr-defined]


def test_a_click_on_an_image_waits_for_its_results_alone(
    predictor: SAM2VideoPredictor,
) -> None:
    images = SAM2ImagePredictor(predictor)
    with StandInDevice() as device:
        images.set_image(np.full((48, 80, 3), 10, np.uint8))
        assert device.waits == []
        images.predict([[20, 20]], [1])
    assert len(device.waits) == 3  # masks, estimated IoU and logits to be fed back
    assert all('.cpu()' in line for line in device.waits)


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    """A runner that logs every fourth batch of its epoch of ten."""
    return SimpleNamespace(
        model=Mock(prompt_simulator=None),
        hooks=[LoggerHook(interval=4)],
        train_dataloader=range(10),
        train_loop=Mock(),
        message_hub=MessageHub(tmp_path.name),
        work_dir=str(tmp_path),
        logger=Mock(),
        iter=0,
        epoch=0,
    )


def test_losses_and_skipped_steps_are_read_when_the_run_logs(
    runner: Any, tmp_path: Path
) -> None:
    info, non_finite = SAM2RuntimeInfoHook(), ClipNonFiniteHook()
    losses = [1.0, float('nan'), 3.0, 4.0, 5.0, float('inf')]
    with StandInDevice() as device:
        for index, loss in enumerate(losses):
            outputs: dict[str, Tensor] = {'loss': DeviceTensor(torch.tensor(loss))}
            is_bad = ~outputs['loss'].isfinite()
            guard = Mock(is_bad=is_bad, is_own=is_bad)
            runner.iter = index
            non_finite.after_guarded_batch(runner, index, [], outputs, guard)
            info.after_train_iter(runner, index, [], outputs)
            assert bool(device.waits) == (index >= 3)
        history, _ = runner.message_hub.get_scalar('train/loss').data
        assert history.tolist() == [1, 3, 4]
        assert [p.name for p in tmp_path.rglob('*.json')] == ['iter_2_rank_0.json']
        for hook in (non_finite, info):
            hook.after_train_epoch(runner)
    history, _ = runner.message_hub.get_scalar('train/loss').data
    assert history.tolist() == [1, 3, 4, 5]
    assert (tmp_path / 'non_finite/iter_6_rank_0.json').exists()
    assert runner.message_hub.get_info('num_non_finite') == 2


@pytest.mark.parametrize(
    'wait',
    [
        lambda tensor: tensor.sum().item(),
        lambda tensor: bool(tensor.any()),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.nonzero(),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: tensor.cpu(),
        lambda tensor: torch.ones(3).to(tensor.device),
        lambda tensor: torch.tensor([1.0], device=tensor.device),
        lambda tensor: tensor.new_tensor([1.0]),
        lambda tensor: torch.equal(tensor, tensor),
    ],
)
def test_each_kind_of_wait_is_counted(wait: Callable[[Tensor], object]) -> None:
    with StandInDevice() as device:
        tensor = torch.ones(3, device=DEVICE)
        tensor.mul_(2).to(torch.float64).sum().sqrt()
        torch.ones(3).to(DEVICE, non_blocking=True)
        assert device.waits == []
        wait(tensor)
    assert len(device.waits) == 1
