"""Records that workers share."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from projects.sam2.datasets.sources.records import RecordStore

SUPPORT = Path(__file__).resolve().parents[1] / 'support'
MAX_MEGABYTES = 200
MAX_WORKER_MEGABYTES = 40  # pages of Python's own objects, not of the index


def test_records_come_back_by_their_names() -> None:
    records: dict[str, dict[str, Any]] = {
        'b/2': {'ids': [1, 2]},
        'ä': {},
        'a': {'x': None, 'y': 'ü'},
    }
    store = RecordStore(records.items())
    assert len(store) == 3
    assert store.names() == ['a', 'b/2', 'ä']
    for again in (store, pickle.loads(pickle.dumps(store))):  # noqa: S301  made here
        assert {name: again[name] for name in store.names()} == records


@pytest.mark.parametrize('names', [(), ('a', 'c')])
def test_unknown_name_is_a_key_error(names: tuple[str, ...]) -> None:
    store = RecordStore((name, {}) for name in names)
    for name in ('b', 'z', ''):
        with pytest.raises(KeyError):
            store[name]


def test_double_and_endless_names_are_refused() -> None:
    with pytest.raises(ValueError, match='two records are called a'):
        RecordStore([('a', {}), ('b', {}), ('a', {})])
    with pytest.raises(ValueError, match='2000 bytes'):
        RecordStore([('a' * 2000, {})])


def test_record_is_a_copy() -> None:
    store = RecordStore([('a', {'ids': [1]})])
    store['a']['ids'].append(2)
    assert store['a'] == {'ids': [1]}


def test_fifty_thousand_records_pickle_to_little_more_than_their_text() -> None:
    names = [f'video{number:06d}' for number in range(50_000)]
    store = RecordStore((name, {'frames': [name]}) for name in names)
    assert len(pickle.dumps(store)) < 50_000 * 60


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['palette', 'youtube_vis'])
def test_index_of_fifty_thousand_videos_is_small_and_not_copied_by_workers(
    tmp_path: Path, kind: str
) -> None:
    script = [sys.executable, str(SUPPORT / 'index_memory.py'), str(tmp_path)]
    paths = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])
    done = subprocess.run(
        [*script, '50000', kind],
        check=True,
        capture_output=True,
        env={**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['added'] < MAX_MEGABYTES
    assert max(found['workers']) < MAX_WORKER_MEGABYTES
