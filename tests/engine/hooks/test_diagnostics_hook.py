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
from torch import nn

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
    gradient_norms,
)


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
    # Measured after clipping, and told as before it.
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


def test_norms_of_parts_make_up_that_of_the_whole() -> None:
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
def test_what_is_logged_is_there_whenever_the_logger_logs(
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


def test_kind_of_step_that_did_not_occur_is_not_shown_again() -> None:
    runner = idle_runner('kinds', LoggerHook(interval=1))
    runner.message_hub.update_scalar('train/step_points', 2.5)
    runner.message_hub.update_scalar('train/loss', 2.5)
    hook = ClipDiagnosticsHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert 'train/step_points' not in runner.message_hub.log_scalars
    assert 'train/loss' in runner.message_hub.log_scalars


def test_speed_is_that_of_training_without_the_validation_between_epochs(
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
