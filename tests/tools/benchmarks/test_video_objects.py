"""The benchmark of many objects: both ways give the same masks, and it tells them."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge_models import config_file, small_config
from projects.sam2.models.tracking import session
from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/video_objects')


def _run(tool: ModuleType, folder: Path) -> dict[str, Any]:
    config = config_file(folder, small_config())
    words = f'--config {config} --size 64 --objects 1 3 --rounds 2'.split()
    tool.main([*words, '--json', str(folder / 'new' / 'report.json')])
    read: dict[str, Any] = json.loads((folder / 'new' / 'report.json').read_text())
    return read


def test_report_has_times_ratio_and_no_difference(
    tool: ModuleType, tmp_path: Path
) -> None:
    report = _run(tool, tmp_path)
    assert report['device'] == 'cpu'
    for count in (1, 3):
        row = report[f'objects_{count}']
        assert row['num_objects'] == count
        assert row['ratio'] == row['batch_s'] / row['loop_s']
        assert row['difference'] <= tool.MAX_DIFFERENCE


def test_wrong_masks_are_seen(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, 'fill_small_holes', lambda masks, _: masks + 0.1)
    assert _run(tool, tmp_path)['objects_3']['difference'] > tool.MAX_DIFFERENCE
