"""The command that holds clips back."""

import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'split_clips.py'


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the tool."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Folders of 230 clips."""
    for number in range(230):
        (tmp_path / 'JPEGImages' / f'clip{number:03d}').mkdir(parents=True)
    return tmp_path


def test_defaults_write_the_lists_that_the_mose_config_reads(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, str(data_root))
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'mose.py')
    train = cfg.train_dataloader.dataset.dataset.file_list
    holdout = cfg.val_dataloader.dataset.dataset.file_list
    kept, held = ((data_root / name).read_text().split() for name in (train, holdout))
    assert (len(kept), len(held)) == (30, 200)
    assert not set(kept) & set(held)
    before = (data_root / holdout).read_bytes()
    run(monkeypatch, str(data_root))
    assert (data_root / holdout).read_bytes() == before


def test_too_few_clips_are_refused_and_nothing_is_written(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match='Cannot hold 230 of 230'):
        run(monkeypatch, str(data_root), '--num-holdout', '230')
    assert not (data_root / 'ImageSets').exists()
