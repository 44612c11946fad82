"""Epochs resume in their middle, stop when told to and validate what they owe."""

from pathlib import Path

import pytest
from mmengine.runner import Runner

from engine_processes import run_processes
from engine_toys import load, toy_config, train

STOP = 'engine_toys.ToyStopHook'
ACCUMULATE = 'optim_wrapper__accumulative_counts'


def stopped(work_dir: Path, iteration: int, **changes: object) -> Runner:
    """A run that is asked to stop after an iteration."""
    hook = {'type': STOP, 'iteration': iteration}
    return train(toy_config(work_dir, custom_hooks=[hook], **changes))


def resumed(work_dir: Path, **changes: object) -> Runner:
    """A run that goes on where another one stopped."""
    return train(toy_config(work_dir, resume=True, **changes))


def test_resumed_epoch_loads_only_the_clips_that_are_left(tmp_path: Path) -> None:
    whole = train(toy_config(tmp_path / 'whole')).train_dataloader.dataset.loaded
    stopped(tmp_path / 'run', 8)
    loaded = resumed(tmp_path / 'run').train_dataloader.dataset.loaded
    assert len(whole) == 24
    assert loaded == whole[16:]


@pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step')
@pytest.mark.parametrize(
    ('iteration', 'accumulated', 'expected'), [(4, 1, 4), (4, 3, 6), (6, 1, 6)]
)
def test_stop_is_obeyed_after_the_next_optimizer_step(
    tmp_path: Path, iteration: int, accumulated: int, expected: int
) -> None:
    runner = stopped(tmp_path, iteration, **{ACCUMULATE: accumulated})
    assert runner.iter == expected
    assert runner.epoch == expected // 6
    # An epoch that is whole ends as always, with its validation.
    assert ('best_score' in runner.message_hub.runtime_info) is (expected == 6)


def test_one_process_that_asks_to_stop_stops_all(tmp_path: Path) -> None:
    hook = {'type': STOP, 'iteration': 2, 'rank': 1}
    assert run_processes(toy_config(tmp_path, custom_hooks=[hook]), 2) == [0, 0]
    assert load(tmp_path / 'epoch_0.pth')['meta']['iter'] == 2


@pytest.mark.parametrize('is_owed', [True, False])
def test_epoch_that_was_saved_but_not_validated_is_validated_on_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_owed: bool
) -> None:
    # What the first run writes before its validation knows of none; a better score
    # makes it write once more, and that file knows.
    rule = 'less' if is_owed else 'greater'
    best = {'default_hooks__checkpoint__rule': rule, 'train_cfg__max_epochs': 1}
    runner = train(toy_config(tmp_path, **best))
    if is_owed:
        info = runner.message_hub.runtime_info
        monkeypatch.setitem(info, 'epochs_validated', 0)
        hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
        hook._save_checkpoint_with_step(runner, 1, {'epoch': 1, 'iter': 6})
    again = resumed(tmp_path, **best)
    assert again.val_dataloader.dataset.loaded == ([0, 1, 2, 3] if is_owed else [])


def test_validation_follows_its_interval_and_the_last_epoch(tmp_path: Path) -> None:
    changes = {'train_cfg__max_epochs': 3, 'train_cfg__val_interval': 2}
    runner = train(toy_config(tmp_path, **changes))
    assert len(runner.val_dataloader.dataset.loaded) == 2 * 4


def test_run_without_validation_trains(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[name] = None
    assert train(cfg).iter == 12


def test_changed_length_of_an_epoch_is_named(tmp_path: Path) -> None:
    stopped(tmp_path, 8)
    with pytest.raises(ValueError, match=r'has 3 iterations now.*load_from'):
        resumed(tmp_path, train_dataloader__batch_size=4)


def test_batch_sampler_that_cannot_skip_is_named(tmp_path: Path) -> None:
    stopped(tmp_path, 8)
    cfg = toy_config(tmp_path, resume=True)
    cfg.train_dataloader.pop('batch_sampler')
    with pytest.raises(TypeError, match='got BatchSampler; set train_dataloader'):
        train(cfg)
