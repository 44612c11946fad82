"""All readers on thousands of damaged files, under an address-space limit."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import DATASETS

from projects.sam2.datasets import ClipDataError
from reader_fuzz import (
    HOSTILE,
    SLOW_SECONDS,
    SOURCES,
    places_in,
    read_everything,
)

SUPPORT = Path(__file__).resolve().parents[1] / 'support'
NUM_INPUTS = 1500
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
    finished = subprocess.run(
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
def test_any_line_of_a_list_is_at_worst_a_corrupt_clip(
    tmp_path: Path, kind: str
) -> None:
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


VALUES = st.recursive(
    st.sampled_from(HOSTILE)
    | st.floats()
    | st.integers(-(10**30), 10**30)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=12,
)
JSON_SOURCES = (
    'ClipSAVDataset',
    'ClipSA1BDataset',
    'ClipCocoDataset',
    'ClipYouTubeVISDataset',
    'ClipLabelMeDataset',
)


@pytest.mark.parametrize('kind', JSON_SOURCES)
def test_any_value_anywhere_in_a_json_file_is_refused_or_read(
    kind: str, tmp_path: Path
) -> None:
    write, settings_of = SOURCES[kind]
    write(tmp_path)
    path = next(tmp_path.rglob('*.json'))
    tree = json.loads(path.read_text())
    num_places = len(list(places_in(tree)))

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.integers(0, num_places - 1), VALUES)
    def check(position: int, value: object) -> None:
        changed = json.loads(json.dumps(tree))
        parent, key = list(places_in(changed))[position]
        parent[key] = value
        path.write_text(json.dumps(changed))
        with contextlib.suppress(ClipDataError):
            read_everything(kind, tmp_path, settings_of)

    check()
