"""Checkpoints are whole, readable, and old ones go last."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.runner import Runner

from engine_toys import load, toy_config, train
from projects.sam2.engine.files import SAM2AtomicBackend

HOOK = 'default_hooks__checkpoint__'


# MMEngine steps schedulers in each iteration, whether the optimizer steps or not.
SCHEDULER_FIRST = pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step')


def names(folder: Path) -> list[str]:
    """Checkpoints of a folder."""
    return sorted(path.name for path in folder.glob('*.pth'))


def by_iterations(interval: int, **more: object) -> dict[str, Any]:
    """Changes for a checkpoint every so many iterations."""
    settings = {'by_epoch': False, 'interval': interval, **more}
    return {f'{HOOK}{key}': value for key, value in settings.items()}


def test_name_of_the_best_checkpoint_is_safe_in_a_shell(tmp_path: Path) -> None:
    train(toy_config(tmp_path))
    assert names(tmp_path)[0].startswith('best_JF_epoch_')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


def test_checkpoint_keeps_the_best_score_and_drops_the_history(tmp_path: Path) -> None:
    runner = train(toy_config(tmp_path))
    live = runner.message_hub
    saved = load(tmp_path / 'epoch_2.pth')['message_hub']
    assert saved['log_scalars'] == {}
    assert saved['runtime_info']['best_score'] == live.get_info('best_score')
    assert saved['runtime_info']['best_ckpt'] == live.get_info('best_ckpt')
    assert saved['resumed_keys'].keys() == saved['runtime_info'].keys()
    # The run's own history is untouched.
    assert len(live.get_scalar('train/loss')._log_history) == 12


def break_writing(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let some files meet a full disk."""
    write = SAM2AtomicBackend.put

    def put(self: SAM2AtomicBackend, obj: bytes, filepath: str | Path) -> None:
        if Path(filepath).name in names:
            msg = 'No space left on device'
            raise OSError(msg)
        write(self, obj, filepath)

    patch.setattr(SAM2AtomicBackend, 'put', put)


WIDE = {'model__width': 40_000, f'{HOOK}save_best': None}
TWO_KEPT = by_iterations(2, max_keep_ckpts=2, save_best=None, rule=None)


@pytest.mark.parametrize(
    ('broken', 'kept'),
    [
        ((), ['iter_10.pth', 'iter_12.pth']),
        (('iter_6.pth',), ['iter_10.pth', 'iter_12.pth']),
        (('iter_10.pth', 'iter_12.pth'), ['iter_6.pth', 'iter_8.pth']),
        (('last_checkpoint',), ['iter_12.pth']),
    ],
)
def test_old_checkpoints_are_removed_after_the_new_one_is_complete(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: tuple[str, ...],
    kept: list[str],
) -> None:
    break_writing(monkeypatch, *broken)
    cfg = toy_config(tmp_path, **TWO_KEPT)
    if broken in {(), ('iter_6.pth',)}:
        train(cfg)
    else:
        with pytest.raises(OSError, match=r'12.pth could not .* No space.*MiB are fre'):
            train(cfg)
    assert set(kept) <= set(names(tmp_path))
    assert len(names(tmp_path)) == 2 or broken == ('last_checkpoint',)
    if broken != ('last_checkpoint',):
        pointer = (tmp_path / 'last_checkpoint').read_text()
        assert pointer == str(tmp_path / kept[-1])
    said = capsys.readouterr().out.count('the run continues and tries again')
    assert said == {(): 0, ('iter_6.pth',): 1}.get(broken, said)
    assert bool(said) is bool(broken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a checkpoint and a half."""
    mount, unmount = shutil.which('mount'), shutil.which('umount')
    size = measure_checkpoint(tmp_path / 'measure')
    folder = tmp_path / 'disk'
    folder.mkdir()
    options = ['-t', 'tmpfs', '-o', f'size={int(1.5 * size) + 65536}', 'none']
    if not mount or not unmount or os.geteuid() != 0:
        pytest.skip('mounting a small disk needs root')
    done = subprocess.run([mount, *options, folder], check=False)
    if done.returncode:
        pytest.skip('this machine lets nobody mount')
    yield folder
    subprocess.run([unmount, '-l', folder], check=True)


def measure_checkpoint(work_dir: Path) -> int:
    """Bytes of a checkpoint."""
    train(toy_config(work_dir, train_cfg__max_epochs=1, **WIDE))
    return (work_dir / 'epoch_1.pth').stat().st_size


def test_full_disk_leaves_the_previous_checkpoint(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir = small_disk / 'run'
    with pytest.raises(OSError, match=r'epoch_2.pth could not .* No space left'):
        train(toy_config(work_dir, **WIDE))
    assert names(work_dir) == ['epoch_1.pth']
    assert not list(work_dir.glob('.*'))
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_1.pth')
    assert load(work_dir / 'epoch_1.pth')['meta']['iter'] == 6
    said = capsys.readouterr().out
    assert (
        'the run continues and tries again at the next checkpoint. Free disk space'
        in said
    )
    subprocess.run(['mount', '-o', 'remount,size=64m', small_disk], check=True)
    assert train(toy_config(work_dir, resume=True, **WIDE)).iter == 12
    assert names(work_dir) == ['epoch_1.pth', 'epoch_2.pth']


def test_best_weights_that_cannot_be_written_leave_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = train(toy_config(tmp_path))
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
    before = names(tmp_path)
    info = dict(runner.message_hub.runtime_info)
    runner.train_loop._epoch = 9
    break_writing(monkeypatch, 'best_JF_epoch_9.pth')
    hook.after_val_epoch(runner, {'J&F': 100.0})
    assert names(tmp_path) == before
    assert runner.message_hub.runtime_info == info


def test_best_score_writes_no_checkpoint_outside_the_interval(tmp_path: Path) -> None:
    # Every score is better than the one before it.
    runner = train(
        toy_config(
            tmp_path,
            train_cfg__max_epochs=3,
            **{f'{HOOK}interval': 3},
        )
    )
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
    assert [name for name in names(tmp_path) if 'best' not in name] == ['epoch_3.pth']
    runner.train_loop._epoch, runner.train_loop._iter = 4, 24
    hook.after_val_epoch(runner, {'J&F': 100.0})
    assert names(tmp_path) == ['best_JF_epoch_4.pth', 'epoch_3.pth']


def test_resumed_run_removes_the_file_that_a_killed_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = {'type': 'engine_toys.ToyStopHook', 'iteration': 6}
    with monkeypatch.context() as patch:
        patch.setattr(SAM2AtomicBackend, 'remove', lambda *_: None)
        train(toy_config(tmp_path, custom_hooks=[stop], **TWO_KEPT))
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    train(toy_config(tmp_path, resume=True, **TWO_KEPT))
    assert names(tmp_path) == ['iter_10.pth', 'iter_12.pth']


@SCHEDULER_FIRST
def test_checkpoints_fall_on_optimizer_steps(tmp_path: Path) -> None:
    train(
        toy_config(
            tmp_path,
            optim_wrapper__accumulative_counts=4,
            **by_iterations(3, filename_tmpl='at_{}.pth', save_best=None, rule=None),
        )
    )
    # Due after 3, 6, 9 and 12; the steps are taken after 4, 8 and 12.
    assert names(tmp_path) == ['at_12.pth', 'at_4.pth', 'at_8.pth']


@SCHEDULER_FIRST
def test_epoch_that_ends_in_an_accumulation_is_saved_after_the_next_step(
    tmp_path: Path,
) -> None:
    train(toy_config(tmp_path, optim_wrapper__accumulative_counts=4))
    assert load(tmp_path / 'epoch_1.pth')['meta']['iter'] == 8
    assert load(tmp_path / 'epoch_2.pth')['meta']['iter'] == 12


@pytest.mark.parametrize('save_last', [True, False])
def test_stopped_run_writes_a_checkpoint(tmp_path: Path, *, save_last: bool) -> None:
    stop = {'type': 'engine_toys.ToyStopHook', 'iteration': 8}
    changes = {f'{HOOK}interval': 5, f'{HOOK}save_last': save_last}
    train(toy_config(tmp_path, custom_hooks=[stop], **changes))
    stopped = 'epoch_1_iter_8.pth'
    expected = (
        ['best_JF_epoch_1.pth', stopped] if save_last else ['best_JF_epoch_1.pth']
    )
    assert names(tmp_path) == expected
    if save_last:
        assert load(tmp_path / stopped)['meta']['iter'] == 8
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / stopped)


def test_mid_epoch_stop_keeps_the_file_of_the_epochs_end(tmp_path: Path) -> None:
    stop = {'type': 'engine_toys.ToyStopHook', 'iteration': 8}
    settings = {f'{HOOK}max_keep_ckpts': 2, f'{HOOK}save_best': None}
    train(toy_config(tmp_path, custom_hooks=[stop], **settings))
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_1_iter_8.pth']
    assert load(tmp_path / 'epoch_1.pth')['meta']['iter'] == 6
    train(toy_config(tmp_path, resume=True, **settings))
    assert names(tmp_path) == ['epoch_1_iter_8.pth', 'epoch_2.pth']


def test_better_checkpoint_replaces_the_best_and_a_worse_one_does_not(
    tmp_path: Path,
) -> None:
    runner = train(toy_config(tmp_path))
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
    kept = next(tmp_path.glob('best_*'))
    hook.after_val_epoch(runner, {'J&F': -1.0})
    assert next(tmp_path.glob('best_*')) == kept
    runner.train_loop._epoch = 9
    hook.after_val_epoch(runner, {'J&F': 100.0})
    assert [p.name for p in tmp_path.glob('best_*')] == ['best_JF_epoch_9.pth']
    last = load(Path((tmp_path / 'last_checkpoint').read_text()))
    assert last['message_hub']['runtime_info']['best_score'] == 100.0


def test_several_metrics_keep_a_best_checkpoint_each(tmp_path: Path) -> None:
    runner = train(toy_config(tmp_path, train_cfg__max_epochs=1))
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
    hook._init_rule(['greater', 'less'], ['J&F', 'val/loss'])
    hook.best_ckpt_path_dict = {}
    hook.after_val_epoch(runner, {'J&F': 50.0, 'val/loss': 0.5})
    assert {'best_JF_epoch_1.pth', 'best_val_loss_epoch_1.pth'} <= set(names(tmp_path))
    assert runner.message_hub.get_info('best_score_val/loss') == 0.5


def test_auto_takes_the_first_metric(tmp_path: Path) -> None:
    train(toy_config(tmp_path, train_cfg__max_epochs=1, **{f'{HOOK}save_best': 'auto'}))
    assert 'best_JF_epoch_1.pth' in names(tmp_path)


def test_unknown_metric_is_named(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, **{f'{HOOK}save_best': 'mIoU'})
    with pytest.raises(KeyError, match=r"'mIoU' is not one of the metrics \['J&F'\]"):
        train(cfg)


def test_remote_storage_uses_its_own_backend(tmp_path: Path) -> None:
    runner = Runner.from_cfg(
        toy_config(tmp_path, **{f'{HOOK}backend_args': {'backend': 'local'}})
    )
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SAM2CheckpointHook')
    hook.before_train(runner)
    assert not isinstance(hook.file_backend, SAM2AtomicBackend)
