"""The quickstart's path in miniature, and its report."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs' / 'sam2_mini_synthetic.py')
SMALL_SET = '--num-clips 2 --num-val-clips 2 --num-frames 8 --num-val-frames 8'
SMALL_RUN = (
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=1',
    *(
        f'{loader}_dataloader.{option}'
        for loader in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
)


def load_tool(name: str) -> ModuleType:
    """A tool as a module, with the tools' folder on the path as a script has it."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    tool = load_tool('quickstart_report')
    monkeypatch.setitem(sys.modules, tool.__name__, tool)  # for its processes
    return tool


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / 'clips'
    words = ['make', str(folder), *SMALL_SET.split(), '--size', '96']
    monkeypatch.setattr('sys.argv', words)
    load_tool('dataset_converters/make_synthetic_clips').main()
    return folder


@pytest.fixture
def options(clips: Path, tmp_path: Path) -> list[str]:
    changes = ['--cfg-options', f'data_root={clips}', *SMALL_RUN]
    return [CONFIG, '--work-dir', str(tmp_path / 'run'), *changes]


@pytest.mark.slow
def test_quickstart_generates_trains_and_scores(
    report: ModuleType,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_tool('train').main(options)
    rows = report.main([*options, '--processes', '2'])
    before, copy, after, forgetful = rows

    # A model that knows nothing is far below the copy, which ends as it must.
    assert 0 <= before.j_and_f < copy.j_and_f < 100
    assert 0 <= after.j_and_f <= 100
    assert forgetful.label == 'after training, without memory'
    for row in rows:
        assert row.j_and_f == pytest.approx((row.j + row.f) / 2)
    # The best checkpoint is scored as it was when it was kept.
    run = tmp_path / 'run'
    best = torch.load(run / 'best_JF_epoch_1.pth', weights_only=True)
    assert after.j_and_f == pytest.approx(
        best['message_hub']['runtime_info']['best_score']
    )
    written = json.loads((run / 'report' / 'scores.json').read_text())
    assert [row['j_and_f'] for row in written] == [row.j_and_f for row in rows]
    printed = capsys.readouterr().out
    assert report.format_table(rows) in printed
    assert 'TensorBoard logs' in printed
    assert str(run) in printed


def test_before_is_the_model_that_training_starts_from(
    report: ModuleType, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []

    class Recorder:
        def __init__(self, cfg: Config, _options: object) -> None:
            seen.append(cfg)

        def __enter__(self) -> 'Recorder':
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def test(self) -> dict[str, float]:
            return {'J': 10.0, 'F': 30.0, 'J&F': 20.0}

    monkeypatch.setattr(report, 'launched_runner', Recorder)
    parser = report.argparse.ArgumentParser()
    parser.add_argument('config')
    report.add_run_arguments(parser)
    given = parser.parse_args(options)

    row = report.score_model(given, 'before training', None)
    report.score_model(given, 'after training', Path('best.pth'))
    report.score_model(given, 'after, without', Path('best.pth'), report.WITHOUT_MEMORY)

    assert (row.j, row.f, row.j_and_f) == (10.0, 30.0, 20.0)
    assert [cfg.load_from for cfg in seen] == [None, *['best.pth'] * 2]
    # The memory bank is emptied for the last score alone.
    banks = [cfg.model.tracker.memory_bank.type for cfg in seen]
    assert banks == ['MemoryBank', 'MemoryBank', 'MemoryBankEmpty']
    assert not any(cfg.resume for cfg in seen)
    # Neither writes into the other's folder, nor into the run's.
    folders = {Path(cfg.work_dir) for cfg in seen}
    assert len(folders) == 3
    assert all(folder.name.replace('_', '').isalpha() for folder in folders)
    assert {folder.parent.name for folder in folders} == {'report'}
    assert seen[0].randomness.seed == Config.fromfile(CONFIG).randomness.seed


def test_latest_best_checkpoint_is_used(report: ModuleType, tmp_path: Path) -> None:
    for age, name in ((30, 'best_JF_epoch_9.pth'), (10, 'best_JF_epoch_10.pth')):
        path = tmp_path / name
        path.touch()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert report.best_checkpoint(tmp_path).name == 'best_JF_epoch_10.pth'


def test_run_without_validation_is_named(report: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'contains no best_JF.*validation'):
        report.best_checkpoint(tmp_path)


def test_listed_results_exclude_those_of_the_report(
    report: ModuleType, tmp_path: Path
) -> None:
    for name in ('report/a/x.png', 'vis/clip.mp4', 'epoch_1.pth', 'epoch_2.pth'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert report.list_results(tmp_path) == [
        f'overlay videos: {tmp_path / "vis"} (1 files)',
        f'checkpoints: {tmp_path} (2 files)',
    ]


def test_columns_of_the_table_are_aligned(report: ModuleType) -> None:
    rows = [
        report.Row(label='before', j=1, f=2.25, j_and_f=3),
        report.Row(label='a longer label', j=100, f=22.0, j_and_f=61),
    ]
    lines = report.format_table(rows).splitlines()
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[0].split() == ['J', 'F', 'J&F']
    assert lines[1].split() == ['before', '1.0', '2.2', '3.0']
