"""Curves and times of training logs, spelled as in MM."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tool_modules import TOOLS, load_tool


@pytest.fixture(autouse=True)
def _beside_other_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a program is on the path while it runs."""
    monkeypatch.syspath_prepend(str(TOOLS / 'analysis_tools'))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two epochs of three logged times; the first one of each waits for data."""
    records: list[dict[str, Any]] = [
        {'epoch': epoch, 'iter': 3 * epoch + i, 'time': t, 'data_time': 0.5, 'loss': t}
        for epoch, times in ((1, (9.0, 1.0, 3.0)), (2, (9.0, 4.0, 4.0)))
        for i, t in enumerate(times)
    ]
    records.append({'J&F': 40.0, 'J': 39.0, 'F': 41.0, 'time': 99.0, 'step': 2})
    path = tmp_path / 'run' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return path


def test_times_leave_out_the_first_of_each_epoch(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load_tool('analysis_tools/analyze_logs').main
    main(['cal_train_time', str(log.parents[1])])
    printed = capsys.readouterr().out
    assert 'slowest epoch 2: 4.0000 s a step' in printed
    assert 'fastest epoch 1: 2.0000 s a step' in printed
    assert 'standard deviation over the epochs: 1.0000 s' in printed
    assert 'mean: 3.0000 s a step, 0.5000 s of it waiting for data' in printed
    main(['cal_train_time', str(log), '--include-outliers'])
    assert 'mean: 5.0000 s a step' in capsys.readouterr().out


@pytest.mark.parametrize('task', [['plot_curve'], []])
def test_curves_are_drawn_with_and_without_the_task(log: Path, task: list[str]) -> None:
    out = log.parent / 'curve.png'
    words = [*task, str(log), '--keys', 'loss', 'J&F', '--legend', 'mine']
    load_tool('analysis_tools/analyze_logs').main([*words, '--out', str(out)])
    assert out.read_bytes().startswith(b'\x89PNG')


def test_two_runs_need_two_names(log: Path) -> None:
    words = ['plot_curve', str(log), str(log), '--legend', 'a', '--keys', 'loss']
    with pytest.raises(ValueError, match='give 2 different names'):
        load_tool('analysis_tools/analyze_logs').main(words)


def test_log_without_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'scalars.json'
    path.write_text('{"J&F": 1.0, "step": 3}\n')
    with pytest.raises(ValueError, match='no training step with a time'):
        load_tool('analysis_tools/analyze_logs').main(['cal_train_time', str(path)])


def test_browse_dataset_takes_the_options_of_mm() -> None:
    parse = load_tool('analysis_tools/browse_dataset').parse_arguments
    options = parse(['c.py', '--output-dir', f'a{os.sep}b', '--not-show'])
    assert options.out == Path('a', 'b')
    assert parse(['c.py', '--out', 'sheet.png']).out == Path('sheet.png')
