"""All readers on thousands of damaged files, under an address-space limit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import DATASETS

from projects.sam2.datasets import ClipDataError
from reader_fuzz import SLOW_SECONDS, SOURCES

SUPPORT = Path(__file__).resolve().parents[1] / 'support'
NUM_INPUTS = 5000
NUM_PROCESSES = 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_files_are_refused_or_read_within_time_and_memory(
    tmp_path: Path,
) -> None:
    script = [sys.executable, str(SUPPORT / 'reader_fuzz.py'), str(tmp_path)]
    script += [str(NUM_INPUTS), str(NUM_PROCESSES)]
    paths = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}
    finished = subprocess.run(  # noqa: S603  our own script
        script, stdout=subprocess.PIPE, env=environment, check=True
    )
    reports: list[dict[str, Any]] = [
        json.loads(line) for line in finished.stdout.splitlines()[-NUM_PROCESSES:]
    ]
    assert len(reports) == NUM_PROCESSES
    for report in reports:
        assert not report['wrong']
        assert report['refused'] + report['read'] == NUM_INPUTS
        assert report['refused'] > NUM_INPUTS // 3
        assert report['slowest'] < SLOW_SECONDS


@pytest.mark.parametrize('kind', SOURCES)
def test_any_line_of_a_list_is_at_worst_a_bad_clip(tmp_path: Path, kind: str) -> None:
    write, settings = SOURCES[kind]
    write(tmp_path)
    lines = ['x' * 2**20, 'a/' * 5000 + 'b', 'ant\0', '../ant', '/', '\x07', 'ü' * 900]
    (tmp_path / 'list.txt').write_text('\n'.join(['ant', *lines]))
    config = {'type': kind, 'data_root': str(tmp_path), 'file_list': 'list.txt'}
    dataset = DATASETS.build({**config, **settings})
    good, *bad = dataset.list_videos()
    assert dataset.open_video(good).annotated_frames()
    assert len(bad) == len(lines)
    for name in bad:
        with pytest.raises(ClipDataError) as raised:
            dataset.open_video(name)
        assert len(str(raised.value)) < 2000
