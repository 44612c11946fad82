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
    paths = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}
    processes = [
        subprocess.Popen(  # noqa: S603  our own script
            [*script, str(NUM_INPUTS), str(seed)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for seed in range(NUM_PROCESSES)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * NUM_PROCESSES
    for output in outputs:
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        assert not report['wrong']
        assert report['refused'] + report['read'] == NUM_INPUTS
        assert report['refused'] > NUM_INPUTS // 3
        assert report['slowest'] < SLOW_SECONDS
