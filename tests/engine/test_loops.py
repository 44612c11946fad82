"""Epochs resume in the middle, stop on request and validate when it is due."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from engine_processes import run_processes
from engine_toys import load, toy_config, train

STOP = 'engine_toys.ToyStopHook'
ACCUMULATE = 'optim_wrapper__accumulative_counts'
BEST = ('default_hooks__checkpoint__save_best', 'default_hooks__checkpoint__rule')


def stopped(work_dir: Path, iteration: int, **changes: object) -> Runner:
    """A run with a stop request after an iteration."""
    hook = {'type': STOP, 'iteration': iteration}
    return train(toy_config(work_dir, custom_hooks=[hook], **changes))


def resumed(work_dir: Path, **changes: object) -> Runner:
    """A run that resumes where another one stopped."""
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
def test_stop_takes_effect_after_the_next_optimizer_step(
    tmp_path: Path, iteration: int, accumulated: int, expected: int
) -> None:
    runner = stopped(tmp_path, iteration, **{ACCUMULATE: accumulated})
    assert runner.iter == expected
    assert runner.epoch == expected // 6
    # An epoch that is whole ends as always, with its validation.
    assert ('best_score' in runner.message_hub.runtime_info) is (expected == 6)


def test_stop_on_one_process_stops_all(tmp_path: Path) -> None:
    hook = {'type': STOP, 'iteration': 2, 'rank': 1}
    assert run_processes(toy_config(tmp_path, custom_hooks=[hook]), 2) == [0, 0]
    assert load(tmp_path / 'epoch_0_iter_2.pth')['meta']['iter'] == 2


@pytest.mark.parametrize('is_missed', [True, False])
def test_missed_validation_runs_first_after_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_missed: bool
) -> None:
    # What the first run writes before its validation knows of none; a better score
    # makes it write once more, and that file knows.
    rule = 'less' if is_missed else 'greater'
    best = {'default_hooks__checkpoint__rule': rule, 'train_cfg__max_epochs': 1}
    runner = train(toy_config(tmp_path, **best))
    if is_missed:
        info = runner.message_hub.runtime_info
        monkeypatch.setitem(info, 'epochs_validated', 0)
        hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
        hook._save_checkpoint_with_step(runner, 1, {'epoch': 1, 'iter': 6})
    again = resumed(tmp_path, **best)
    assert again.val_dataloader.dataset.loaded == ([0, 1, 2, 3] if is_missed else [])


def test_validation_follows_its_interval_and_the_last_epoch(tmp_path: Path) -> None:
    changes = {'train_cfg__max_epochs': 3, 'train_cfg__val_interval': 2}
    runner = train(toy_config(tmp_path, **changes))
    assert len(runner.val_dataloader.dataset.loaded) == 2 * 4


def test_run_without_validation_trains(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[name] = None
    assert train(cfg).iter == 12


@pytest.mark.parametrize(
    ('name', 'value'), [('max_epochs', 0), ('val_interval', 0), ('val_interval', 0.5)]
)
def test_lengths_that_make_no_run_are_refused(
    tmp_path: Path, name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f'train_cfg.{name} is {value}; give a whole'):
        train(toy_config(tmp_path, **{f'train_cfg__{name}': value}))


@pytest.mark.parametrize('iteration', [2, 6, 8])
def test_other_number_of_batches_is_refused(tmp_path: Path, iteration: int) -> None:
    # After 6 iterations, epoch 1 of 3 batches would count as done; after 2, the
    # position alone would look right.
    stopped(tmp_path, iteration)
    message = r'had 6 iterations on 1 .* has 3 iterations now on 1 .*batch size.*load_'
    with pytest.raises(ValueError, match=message):
        resumed(tmp_path, train_dataloader__batch_size=4)


def test_other_number_of_clips_per_step_is_refused(
    tmp_path: Path,
) -> None:
    stopped(tmp_path, 2, train_dataloader__batch_size=4)
    message = r'3 iterations on 1 processes, 4 clips to a step, .* 3 .* 5 clips to a'
    with pytest.raises(ValueError, match=message):
        resumed(tmp_path, train_dataloader__batch_size=5)


def test_finished_run_warns_that_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy_config(tmp_path))
    resumed(tmp_path)
    assert 'of epoch 2 of 2: nothing is left' in capsys.readouterr().out


@pytest.mark.parametrize('key', ['clips_per_step', 'epoch_num_batches'])
def test_other_number_of_processes_is_refused(tmp_path: Path, key: str) -> None:
    stopped(tmp_path, 2)
    path = tmp_path / 'epoch_0_iter_2.pth'
    checkpoint = load(path)
    info = checkpoint['message_hub']['runtime_info']
    info.update({'num_processes': 2, key: [4] if key == 'clips_per_step' else 7})
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r'iterations on 2 .* now on 1 .*number of'):
        resumed(tmp_path)


def test_fewer_processes_with_larger_batches_resume_with_the_same_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {'model__dropout': 0.0, 'val_dataloader': None}
    plain |= {'val_cfg': None, 'val_evaluator': None}
    plain |= dict.fromkeys(BEST)
    whole = train(toy_config(tmp_path / 'whole', **plain)).model.state_dict()
    run = tmp_path / 'run'
    hook = {'type': STOP, 'iteration': 8}
    two = {'custom_hooks': [hook], 'train_dataloader__batch_size': 1, **plain}
    assert run_processes(toy_config(run, **two), 2) == [0, 0]
    found = resumed(run, **plain)
    assert found.train_dataloader.dataset.loaded
    assert 'Resuming with 1 processes instead of 2' in capsys.readouterr().out
    for name, weights in found.model.state_dict().items():
        torch.testing.assert_close(weights, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('iteration', 'is_found'), [(2, False), (8, True)])
def test_checkpoint_without_a_record_is_checked_by_its_position(
    tmp_path: Path, iteration: int, *, is_found: bool
) -> None:
    stopped(tmp_path, iteration)
    path = tmp_path / f'epoch_{iteration // 6}_iter_{iteration}.pth'
    checkpoint = load(path)
    for part in ('runtime_info', 'resumed_keys'):
        for key in ('epoch_num_batches', 'num_processes', 'clips_per_step'):
            del checkpoint['message_hub'][part][key]
    torch.save(checkpoint, path)
    if not is_found:
        assert resumed(tmp_path, train_dataloader__batch_size=4).iter == 6
        return
    with pytest.raises(ValueError, match=r'has 3 iterations now.*load_from'):
        resumed(tmp_path, train_dataloader__batch_size=4)


def test_load_from_starts_a_new_run_whatever_the_epoch(
    tmp_path: Path,
) -> None:
    stopped(tmp_path / 'old', 8)
    weights = {'load_from': str(tmp_path / 'old' / 'epoch_1_iter_8.pth')}
    new = toy_config(tmp_path / 'new', train_dataloader__batch_size=4, **weights)
    assert train(new).iter == 6


def test_batch_sampler_that_cannot_skip_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, 8)
    cfg = toy_config(tmp_path, resume=True)
    cfg.train_dataloader.pop('batch_sampler')
    with pytest.raises(TypeError, match='got BatchSampler; set train_dataloader'):
        train(cfg)
