"""The benchmark of automatic masks: both of its ends, in numbers."""

import json
from pathlib import Path

from bridge_models import config_file, small_config
from tool_modules import load_tool


def test_report_holds_both_ends(tmp_path: Path) -> None:
    tool = load_tool('benchmarks/automatic_masks')
    config = config_file(tmp_path, small_config())
    words = f'--config {config} --size 64 --points-per-side 2'.split()
    tool.main([*words, '--json', str(tmp_path / 'new' / 'report.json')])
    report = json.loads((tmp_path / 'new' / 'report.json').read_text())
    assert report['none']['num_masks'] == 0
    # Three at each point; of those with the same box one is left.
    assert 0 < report['all']['num_masks'] <= 12
    assert report['all']['seconds'] > 0
