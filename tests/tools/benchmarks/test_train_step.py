"""The benchmark of a training step: ratios are ours over plain."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest


def report(tool: ModuleType, way: str, seconds: float, peak: float) -> Any:  # noqa: ANN401  a record of the tool
    return tool.StepReport(
        way=way,
        seconds=seconds,
        forward_seconds=seconds / 3,
        peak_megabytes=peak,
        parts=tool.Parts(),
    )


def test_ratios_are_ours_over_plain(tool: ModuleType) -> None:
    reports = [
        report(tool, 'plain', 10.0, 8000.0),
        report(tool, 'ours', 8.0, 4000.0),
        report(tool, 'low_memory', 12.0, 2000.0),
    ]
    assert tool.ratios(reports) == {
        'time_ratio': 0.8,
        'memory_ratio': 0.5,
        'low_memory_time_ratio': 1.2,
        'low_memory_ratio': 0.25,
    }
    assert tool.ratios(reports[1:]) == {}


def test_the_report_is_written_and_shown(
    tool: ModuleType,
    job: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'out' / 'step.json'
    argv = ['train_step.py', job['setting']['config'], '--image-size', '64']
    argv += ['--num-frames', '1', '--num-objects', '1', '--rounds', '1']
    argv += ['--ways', 'ours', '--json', str(path)]
    with (
        mock.patch.object(sys, 'argv', argv),
        mock.patch.object(tool, 'peak_in_child', return_value=12.0),
    ):
        tool.main()
    written = json.loads(path.read_text())
    assert written['ways'][0]['peak_megabytes'] == 12.0
    assert written['ways'][0]['seconds'] > 0
    assert 'mask_decoder' in capsys.readouterr().out


def test_the_child_prints_its_peak(
    tool: ModuleType, job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ['train_step.py', '--peak-of', json.dumps(job)]
    with mock.patch.object(sys, 'argv', argv):
        tool.main()
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0
