"""MMEngine's own dataset wrappers, hooks and options work with the real model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    NanLossHook,
    small_config,
    train_recorded,
    written_config,
)
from engine_toys import differences, load
from tool_modules import load_tool

WRAPPERS: dict[str, dict[str, Any]] = {
    'ConcatDataset': {'datasets': ['train', 'val']},
    'RepeatDataset': {'dataset': 'train', 'times': 2},
    'ClassBalancedDataset': {'dataset': 'train', 'oversample_thr': 0.2},
}
NUM_CLIPS = {'ConcatDataset': 9, 'RepeatDataset': 12}


@pytest.mark.parametrize('kind', WRAPPERS)
def test_dataset_wrapper_gives_different_clips_in_each_epoch(
    clips: Path, tmp_path: Path, kind: str
) -> None:
    cfg = small_config(
        clips,
        tmp_path,
        IN_PROCESS,
        ONLY_TRAINING,
        {'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 3},
    )
    if kind == 'ClassBalancedDataset':
        # It hands on no epoch with its indices; a worker has to hear of it as well.
        cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    plain = cfg.train_dataloader.dataset
    lists = {
        split: {**plain, 'file_list': f'ImageSets/{split}.txt'}
        for split in ('train', 'val')
    }
    settings = dict(WRAPPERS[kind])
    for key in settings.keys() & {'dataset', 'datasets'}:
        value = settings[key]
        is_one = isinstance(value, str)
        settings[key] = lists[value] if is_one else [lists[name] for name in value]
    cfg.train_dataloader.dataset = {'type': kind, **settings}
    runner, recorder = train_recorded(cfg)
    assert recorder.all_finite
    first, second = recorder.clips
    assert len(first) == len(second) == len(runner.train_dataloader.dataset)
    assert len(first) == NUM_CLIPS.get(kind, len(first)) > 5
    names = {name for name, _ in first}
    assert len(names) == (9 if kind == 'ConcatDataset' else 6)
    # Frames, objects and flips are drawn again.
    assert not set(first) & set(second)


@pytest.fixture
def plain(clips: Path, tmp_path: Path) -> Config:
    """A run of two epochs of three batches."""
    options = {'train_cfg.max_epochs': 2}
    return small_config(clips, tmp_path / 'run', IN_PROCESS, ONLY_TRAINING, options)


def test_ema_follows_the_weights(plain: Config) -> None:
    plain.update(custom_hooks=[{'type': 'EMAHook', 'momentum': 0.5}])
    _, recorder = train_recorded(plain)
    assert recorder.all_finite
    after = [load(Path(plain.work_dir) / f'epoch_{epoch}.pth') for epoch in (1, 2)]
    # In a checkpoint, `state_dict` is the average: it is what to validate and release.
    weights = [checkpoint['state_dict'] for checkpoint in after]
    assert len(differences(*weights)) > 0.9 * len(weights[0])
    for checkpoint in after:
        trained = checkpoint['ema_state_dict']
        same = [
            name
            for name, tensor in checkpoint['state_dict'].items()
            if torch.equal(tensor, trained[f'module.{name}'])
        ]
        assert len(same) < 0.1 * len(trained)


def test_early_stopping_ends_a_run_that_no_longer_improves(
    clips: Path, tmp_path: Path
) -> None:
    stopping = {
        'type': 'EarlyStoppingHook',
        'monitor': 'J&F',
        'rule': 'greater',
        'min_delta': 100.0,
        'patience': 1,
    }
    options = {'train_cfg.max_epochs': 5, 'custom_hooks': [stopping]}
    cfg = small_config(clips, tmp_path, IN_PROCESS, options)
    cfg.model.accumulators = [{'type': 'JFAccumulator'}]
    one_clip = tmp_path / 'one.txt'
    one_clip.write_text('val_00000\n')
    cfg.val_dataloader.dataset.dataset.file_list = str(one_clip)
    runner, recorder = train_recorded(cfg)
    assert recorder.all_finite
    assert (runner.epoch, runner.iter) == (2, 6)
    assert len(list(tmp_path.glob('best_JF_epoch_*.pth'))) == 1


# The schedulers step with each batch, the optimizer with every second one.
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_accumulated_gradients_step_once_for_two_batches(plain: Config) -> None:
    plain.optim_wrapper.accumulative_counts = 2
    runner, recorder = train_recorded(plain)
    assert recorder.all_finite
    assert len(recorder.losses) == 6
    assert isinstance(runner.optim_wrapper, OptimWrapper)
    states = runner.optim_wrapper.optimizer.state.values()
    assert max(int(state['step']) for state in states) == 3


@pytest.mark.parametrize('accumulated', [1, 2])
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_non_finite_loss_is_recorded_and_changes_no_weight(
    plain: Config, accumulated: int
) -> None:
    plain.optim_wrapper.accumulative_counts = accumulated
    nan_hook = f'{NanLossHook.__module__}.{NanLossHook.__name__}'
    plain.custom_hooks = [{'type': nan_hook, 'iteration': 4}]
    runner, _ = train_recorded(plain)
    assert isinstance(runner.optim_wrapper, OptimWrapper)
    assert all(w.isfinite().all() for w in runner.model.state_dict().values())
    (path,) = Path(plain.work_dir).glob('non_finite/iter_4_rank_0.json')
    record = json.loads(path.read_text())
    assert {len(clip['frames']) for clip in record['clips']} == {3}
    assert all(clip['video'].startswith('train_') for clip in record['clips'])
    assert record['losses']['loss'] == record['losses']['loss_mask'] == 'nan'
    assert '0' in record['prompts']['first']
    states = runner.optim_wrapper.optimizer.state.values()
    assert max(int(state['step']) for state in states) == (5 if accumulated == 1 else 2)


def test_amp_computes_in_bfloat16_and_keeps_weights_in_float32(plain: Config) -> None:
    work_dir = Path(plain.work_dir)
    load_tool('train').main([written_config(plain), '--amp'])
    saved = load(work_dir / 'epoch_2.pth')
    assert 'SAM2BFloat16OptimWrapper' in saved['meta']['cfg']
    weights = [t for t in saved['state_dict'].values() if t.is_floating_point()]
    assert {tensor.dtype for tensor in weights} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in weights)
