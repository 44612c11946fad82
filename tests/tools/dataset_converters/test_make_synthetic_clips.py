"""The tool that renders clips."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic_clips.py'
SMALL = ['--num-clips', '2', '--num-val-clips', '1', '--num-frames', '8']
SMALL += ['--num-val-frames', '9', '--size', '64']
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the tool and gives what it prints."""

    def run_tool(*arguments: str) -> str:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out

    return run_tool


def test_both_splits_are_written_and_described(tmp_path: Path, run: Run) -> None:
    printed = run(str(tmp_path), *SMALL)
    assert 'train: 2 clips, 1 with objects of equal texture' in printed
    assert 'copying the first masks has an IoU of' in printed
    assert (tmp_path / 'ImageSets' / 'train.txt').read_text().split() == [
        'train_00000',
        'train_00001',
    ]
    assert len(list((tmp_path / 'JPEGImages' / 'train_00001').iterdir())) == 8
    assert len(list((tmp_path / 'Annotations' / 'val_00000').iterdir())) == 9
    settings = json.loads((tmp_path / 'meta.json').read_text())['settings']
    assert settings['seed'] == 0


def test_kinds_of_clips_are_chosen_and_stored(tmp_path: Path, run: Run) -> None:
    kinds = ['--kinds', 'occluded', 'reentry']
    run(str(tmp_path), *SMALL, '--num-frames', '24', '--num-val-frames', '24', *kinds)
    meta = json.loads((tmp_path / 'meta.json').read_text())
    assert meta['settings']['kinds'] == kinds[1:]
    assert [clip['kind'] for clip in meta['clips']['train']] == kinds[1:]


def test_second_run_changes_nothing(tmp_path: Path, run: Run) -> None:
    run(str(tmp_path), *SMALL)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert 'already' in run(str(tmp_path), *SMALL)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == times


def test_folder_with_other_files_is_not_touched(tmp_path: Path, run: Run) -> None:
    (tmp_path / 'thesis.tex').write_text('words')
    with pytest.raises(SystemExit, match='choose another'):
        run(str(tmp_path), *SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']
