"""MMEngine's own hooks work with our loop, checkpoints and samplers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine_toys import differences, load, toy_config, train

EMA = {'type': 'EMAHook', 'momentum': 0.3}

STOCK: dict[str, dict[str, Any]] = {
    'EMAHook': EMA,
    'EarlyStoppingHook': {
        'type': 'EarlyStoppingHook',
        'monitor': 'J&F',
        'rule': 'greater',
        'patience': 9,
    },
    'SyncBuffersHook': {'type': 'SyncBuffersHook'},
    'EmptyCacheHook': {'type': 'EmptyCacheHook', 'after_iter': True},
    'ProfilerHook': {'type': 'ProfilerHook', 'profile_times': 1, 'by_epoch': False},
    'CheckpointHook': {'type': 'CheckpointHook', 'out_dir': 'replaced'},
}


@pytest.mark.parametrize('name', STOCK)
def test_stock_hook_runs(tmp_path: Path, name: str) -> None:
    hook = dict(STOCK[name])
    if 'out_dir' in hook:
        hook['out_dir'] = str(tmp_path / 'copies')
    runner = train(toy_config(tmp_path / 'run', custom_hooks=[hook]))
    assert runner.iter == 12
    assert name in [type(made).__name__ for made in runner.hooks]


def test_all_default_hooks_run(tmp_path: Path) -> None:
    cfg = toy_config(
        tmp_path,
        log_level='INFO',
        default_hooks__logger={'type': 'LoggerHook', 'interval': 1},
    )
    runner = train(cfg)
    kinds = {type(hook).__name__ for hook in runner.hooks}
    assert kinds >= {
        'RuntimeInfoHook',
        'IterTimerHook',
        'DistSamplerSeedHook',
        'LoggerHook',
        'ParamSchedulerHook',
    }
    hub = runner.message_hub
    # RuntimeInfoHook, LoggerHook and IterTimerHook
    assert len(hub.get_scalar('train/lr')._log_history) == 12
    assert len(hub.get_scalar('train/time')._log_history) == 12
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Epoch(train) [2][6/6]' in log
    # DistSamplerSeedHook: the second epoch has another order.
    loaded = runner.train_dataloader.dataset.loaded
    assert loaded[:12] != loaded[12:]
    # ParamSchedulerHook: the last of the steps uses the rate before the end.
    assert hub.get_scalar('train/lr').current() < 0.05 * 0.2


def test_early_stopping_ends_the_run_after_its_epoch(tmp_path: Path) -> None:
    hook = {
        'type': 'EarlyStoppingHook',
        'monitor': 'J&F',
        'rule': 'greater',
        'stopping_threshold': 0.0,
    }
    runner = train(toy_config(tmp_path, custom_hooks=[hook]))
    assert (runner.epoch, runner.iter) == (1, 6)


def test_best_weights_are_those_of_the_moving_average(tmp_path: Path) -> None:
    runner = train(toy_config(tmp_path, custom_hooks=[EMA], train_cfg__max_epochs=1))
    average = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    best = load(tmp_path / 'best_JF_epoch_1.pth')['state_dict']
    assert differences(best, dict(average.module.state_dict())) == []
    assert differences(best, dict(runner.model.state_dict())) != []


@pytest.mark.parametrize('is_resumed', [False, True])
def test_moving_average_follows_its_formula_across_a_resume(
    tmp_path: Path, *, is_resumed: bool
) -> None:
    # The average of constant weights moves from nothing but its own state.
    frozen = {'custom_hooks': [EMA], 'optim_wrapper__optimizer__lr': 0.0}
    run = {**frozen, 'optim_wrapper__optimizer__weight_decay': 0.0}
    stop = {'type': 'engine_toys.ToyStopHook', 'iteration': 8}
    if is_resumed:
        train(toy_config(tmp_path, **{**run, 'custom_hooks': [EMA, stop]}))
    runner = train(toy_config(tmp_path, **run, resume=is_resumed))
    average = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
    assert int(average.steps) == 12
    weights = runner.model.state_dict()
    for key, value in average.module.state_dict().items():
        assert torch.allclose(value, weights[key])
