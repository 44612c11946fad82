"""The benchmark of a training step: ratios are ours over plain."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from tool_modules import ROOT, load_tool


def report(tool: ModuleType, way: str, seconds: float, peak: float) -> Any:
    return tool.StepReport(
        way=way,
        seconds=seconds,
        forward_seconds=seconds / 3,
        peak_megabytes=peak,
        trained_parameters=1,
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


def run(tool: ModuleType, path: Path, *words: str) -> dict[str, Any]:
    """Call the tool with a given peak, and read what it writes."""
    peak = load_tool('benchmarks/step_measurement').Peak(
        megabytes=12.0, seconds=3.0, forward_seconds=1.0, trained_parameters=5
    )
    argv = ['train_step.py', *words, '--ways', 'ours', '--json', str(path)]
    with (
        mock.patch.object(sys, 'argv', argv),
        mock.patch.object(tool, 'peak_in_child', return_value=peak) as in_child,
    ):
        tool.main()
    written: dict[str, Any] = json.loads(path.read_text())
    written['steps_of_peak'] = in_child.call_args.args[2]
    return written


def test_the_report_is_written_and_shown(
    tool: ModuleType,
    job: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ['--image-size', '64', '--num-frames', '1', '--num-objects', '1']
    path = tmp_path / 'out' / 'step.json'
    written = run(tool, path, job['setting']['config'], *sizes, '--rounds', '1')
    assert written['ways'][0]['peak_megabytes'] == 12.0
    assert written['ways'][0]['seconds'] > 0
    assert written['ways'][0]['seconds'] != 3.0
    assert written['setting']['dtype'] == 'float32'
    assert written['steps_of_peak'] == 2
    assert 'mask_decoder' in capsys.readouterr().out


def test_options_override_the_clips_of_a_recipe(
    tool: ModuleType, tmp_path: Path
) -> None:
    recipe = str(ROOT / 'configs/sam2_bplus_mose_8gb.py')
    words = ['--as-trained', '--num-objects', '2', '--rounds', '0']
    written = run(tool, tmp_path / 'step.json', recipe, *words)
    setting = written['setting']
    assert (setting['image_size'], setting['num_frames']) == (512, 4)
    assert (setting['num_objects'], setting['dtype']) == (2, 'bfloat16')
    # Without rounds, the step of the peak is the only one.
    assert written['steps_of_peak'] == 1
    assert written['ways'][0]['seconds'] == 3.0
    assert written['ways'][0]['trained_parameters'] == 5


def test_the_child_prints_its_peak(
    tool: ModuleType, job: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ['train_step.py', '--peak-of', json.dumps(job)]
    with mock.patch.object(sys, 'argv', argv):
        tool.main()
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed['megabytes'] > 0
