"""A pass through a video keeps as much late as early."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge_models import config_file, small_config
from projects.sam2.models.memory_bank import MemoryBank
from tool_modules import load_tool

POINTER = 128  # numbers of an object pointer


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/video_memory')


def _run(tool: ModuleType, folder: Path) -> dict[str, Any]:
    settings = small_config()
    settings['data_preprocessor']['image_size'] = (32, 32)
    settings['tracker']['memory_bank'] |= {'num_frames': 3, 'max_pointers': 4}
    words = [
        '--config',
        config_file(folder, settings),
        '--frames',
        '24',
        '--mark',
        '12',
    ]
    tool.main([*words, '--json', str(folder / 'new' / 'report.json')])
    read: dict[str, Any] = json.loads((folder / 'new' / 'report.json').read_text())
    return read


def test_as_much_is_kept_at_the_end_as_in_the_middle(
    tool: ModuleType, tmp_path: Path
) -> None:
    report = _run(tool, tmp_path)
    for kind in ('jpeg', 'mp4'):
        assert report[kind]['num_frames'] == 24
        # Of each of two objects the prompt and the four latest frames, 8 embeddings.
        assert report[kind]['kept_at_mark'] == report[kind]['kept_at_end'] == 18
        assert report[kind]['change_mb'] < tool.TARGET_MB
        # Of an object and frame a mask of 8 x 8, a pointer and two scores are on disk.
        assert report[kind]['archived_kb_each'] * 1000 == 4 * (8 * 8 + POINTER + 2)
    assert [report[kind]['open_files'] for kind in ('jpeg', 'mp4')] == [1, 2]


def test_bank_that_evicts_nothing_is_noticed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBank, 'evict_unreachable', lambda *_: None)
    row = _run(tool, tmp_path)['jpeg']
    assert row['kept_at_end'] - row['kept_at_mark'] >= 20
