"""A run survives a few bad clips, says which and why, and stops at too many."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    log_text,
    small_config,
    train_recorded,
)

TRUNCATED, MISSIZED = 'train_00001', 'train_00004'


@pytest.fixture
def damaged(clips: Path, tmp_path: Path) -> Path:
    """The clips, two of six damaged in all frames."""
    root = tmp_path / 'damaged'
    shutil.copytree(clips, root)
    for path in (root / 'JPEGImages' / TRUNCATED).iterdir():
        path.write_bytes(path.read_bytes()[:300])
    for path in (root / 'Annotations' / MISSIZED).iterdir():
        Image.fromarray(np.ones((20, 30), np.uint8)).save(path)
    return root


@pytest.fixture
def run(damaged: Path, tmp_path: Path) -> Config:
    """Three epochs over the damaged clips, loaded by a worker."""
    options = {
        'train_cfg.max_epochs': 3,
        'train_dataloader.num_workers': 1,
        'train_dataloader.persistent_workers': True,
    }
    return small_config(damaged, tmp_path / 'run', IN_PROCESS, ONLY_TRAINING, options)


def test_run_continues_and_its_log_names_file_and_remedy(
    run: Config, damaged: Path
) -> None:
    run.train_dataloader.dataset.max_bad_share = 0.5
    runner, recorder = train_recorded(run)
    assert recorder.all_finite
    assert runner.iter == 9
    # Each place of an epoch is filled, by good clips alone.
    assert [len(seen) for seen in recorder.clips] == [6, 6, 6]
    names = {name for seen in recorder.clips for name, _ in seen}
    assert names == {f'train_0000{index}' for index in (0, 2, 3, 5)}

    skipped = [
        line for line in log_text(Path(run.work_dir)).splitlines() if 'Skipped' in line
    ]
    assert len(skipped) == 2
    (jpeg,) = [line for line in skipped if f'Skipped {TRUNCATED}' in line]
    (mask,) = [line for line in skipped if f'Skipped {MISSIZED}' in line]
    assert str(damaged / 'JPEGImages' / TRUNCATED) in jpeg
    assert 'replace the file' in jpeg
    assert str(damaged / 'Annotations' / MISSIZED) in mask
    assert 'mask of (20, 30) beside a frame' in mask
    assert 'write the mask at the size of its frame' in mask
    counts = sorted(line.partition('(')[2].split(' of ')[0] for line in skipped)
    assert counts == ['1 bad', '2 bad']


def test_too_many_corrupt_clips_stop_the_run_and_are_named(
    run: Config, damaged: Path
) -> None:
    run.train_dataloader.dataset.max_bad_share = 0.2
    with pytest.raises(
        ValueError, match=r'2 of \d clips tried cannot be used'
    ) as caught:
        train_recorded(run)
    message = str(caught.value)
    assert 'raise max_bad_share' in message
    for folder in (
        damaged / 'JPEGImages' / TRUNCATED,
        damaged / 'Annotations' / MISSIZED,
    ):
        assert str(folder) in message
