"""All readers on thousands of damaged files, under an address-space limit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reader_fuzz import SLOW_SECONDS

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
