"""The logs say what is behind the loss and the time of a step."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from torch import Tensor, nn

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    small_config,
    train_recorded,
    write_clips,
)
from projects.sam2.engine.hooks import diagnostics_hook
from projects.sam2.engine.hooks.diagnostics_hook import (
    ClipDiagnosticsHook,
    LossParts,
    gradient_norms,
    kind_of_step,
)
from projects.sam2.structures import DecoderStep, FrameOutput, PointPrompt


def test_run_logs_losses_by_step_and_frame_norms_speed_and_memory(
    tmp_path: Path,
) -> None:
    data = write_clips(tmp_path / 'data', train=4, val=1)
    options = {
        'default_hooks.logger.interval': 1,
        'optim_wrapper.clip_grad.max_norm': 1e-3,  # all are shortened
        'model.prompt_simulator.point_probability': 0.0,
    }
    cfg = small_config(data, tmp_path / 'run', IN_PROCESS, ONLY_TRAINING, options)
    runner, recorder = train_recorded(cfg)
    scalars = {
        name.removeprefix('train/'): buffer.current()
        for name, buffer in runner.message_hub.log_scalars.items()
    }
    norms = [value for name, value in scalars.items() if name.startswith('gradient_')]
    assert len(norms) > 5
    # Measured after clipping, and logged as before clipping.
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(
        scalars['grad_norm'], rel=1e-3
    )
    assert scalars['grad_norm'] > 1e-2
    assert scalars['samples_per_second'] > 0
    assert 0 < scalars['data_share'] < 1
    assert scalars['peak_megabytes'] > 50
    lines = [
        json.loads(line)
        for path in Path(cfg.work_dir).glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    steps = [line for line in lines if 'frame/00/loss_mask' in line]
    assert len(steps) == len(recorder.losses) == 2
    last = steps[-1]
    assert {name.split('/')[1] for name in last if name.startswith('frame/')} == {
        '00',
        '01',
        '02',
    }
    tracked = [last[f'step/tracked/loss_{term}'] for term in ('mask', 'dice', 'iou')]
    tracked.append(last['step/tracked/loss_class'])
    assert scalars['step_tracked'] == pytest.approx(sum(tracked), rel=1e-4)
    # A step's loss is the sum over frames of the mean over objects.
    whole = sum(value for name, value in last.items() if name.startswith('frame/'))
    assert 'step_corrected' not in scalars
    assert whole == pytest.approx(recorder.losses[-1], rel=1e-3)


def test_norms_of_the_parts_add_up_to_the_total_norm() -> None:
    model = nn.ModuleDict(
        {'mask_decoder': nn.Linear(2, 2), 'loss': nn.Linear(2, 1), 'idle': nn.ReLU()}
    )
    for value, parameter in enumerate(model.parameters(), start=1):
        parameter.grad = torch.full_like(parameter, value)
    norms = gradient_norms(model)
    assert norms.keys() == {'mask_decoder', 'other'}
    assert norms['mask_decoder'].item() == pytest.approx((4 * 1 + 2 * 4) ** 0.5)
    assert norms['other'].item() == pytest.approx((2 * 9 + 1 * 16) ** 0.5)


def idle_runner(name: str, logger: LoggerHook) -> Any:
    """A runner whose epochs have three batches and whose model has no loss."""
    return SimpleNamespace(
        model=nn.Identity(),
        hooks=[logger],
        train_dataloader=range(3),
        message_hub=MessageHub(name),
        optim_wrapper=None,
        visualizer=Mock(),
        logger=Mock(),
        iter=0,
    )


@pytest.mark.parametrize(
    ('interval', 'ignore_last', 'logged'),
    [
        (2, True, [1]),
        (2, False, [1, 2]),
        (10, True, [2]),  # all that a short epoch has
        (10, False, [2]),
    ],
)
def test_values_are_ready_whenever_the_logger_logs(
    interval: int, logged: list[int], *, ignore_last: bool
) -> None:
    logger = LoggerHook(interval=interval, ignore_last=ignore_last)
    runner = idle_runner(f'when {interval} {ignore_last}', logger)
    hook, found = ClipDiagnosticsHook(), []
    hook.before_train(runner)
    scalars = runner.message_hub.log_scalars
    for batch in range(3):
        hook.before_train_iter(runner, batch, ['clip'])
        hook.after_train_iter(runner, batch)
        if scalars.pop('train/samples_per_second', None) is not None:
            found.append(batch)
    assert found == logged


def test_kind_of_step_that_did_not_occur_is_not_logged() -> None:
    runner = idle_runner('kinds', LoggerHook(interval=1))
    runner.message_hub.update_scalar('train/step_points', 2.5)
    runner.message_hub.update_scalar('train/loss', 2.5)
    hook = ClipDiagnosticsHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert 'train/step_points' not in runner.message_hub.log_scalars
    assert 'train/loss' in runner.message_hub.log_scalars


def test_speed_excludes_the_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 0.0
    monkeypatch.setattr(diagnostics_hook, 'perf_counter', lambda: seconds)
    runner = idle_runner('speed', LoggerHook(interval=2))
    hub, hook = runner.message_hub, ClipDiagnosticsHook()
    hook.before_train(runner)
    for _ in range(2):
        hook.before_train_epoch(runner)
        for batch in range(3):  # the last one is in no log
            hook.before_train_iter(runner, batch, ['clip', 'another'])
            seconds += 1
            hook.after_train_iter(runner, batch)
        assert hub.get_scalar('train/samples_per_second').current() == 2
        seconds += 1000


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


def test_kinds_of_steps_are_distinguished() -> None:
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


def test_means_per_object_do_not_depend_on_groups() -> None:
    parts = LossParts()
    parts.add(_frame(0, _step(num_objects=3)), [_terms(9.0, 6.0)])
    parts.add(_frame(0, _step(num_objects=1)), [_terms(1.0, 0.0)])
    found = parts.take()
    assert found['step/tracked/loss_mask'] == pytest.approx(2.5)
    assert found['frame/00/loss_dice'] == pytest.approx(1.5)
