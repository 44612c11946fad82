"""Sources with one annotation file, and the store of records that workers share."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_folders import write_json
from projects.sam2.datasets.annotated_video import AnnotatedVideo
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.json_files import get_field
from projects.sam2.datasets.sources.records import Record, RecordDataset, RecordStore

SUPPORT = Path(__file__).resolve().parents[1] / 'support'
MAX_MEGABYTES = 200
MAX_WORKER_MEGABYTES = 40  # pages of Python's own objects, not of the index
FILE = Path('a.json')


def test_records_are_read_by_their_names() -> None:
    records: dict[str, dict[str, Any]] = {
        'b/2': {'ids': [1, 2]},
        'ä': {},
        'a': {'x': None, 'y': 'ü'},
    }
    store = RecordStore(records.items(), FILE)
    assert len(store) == 3
    assert store.names() == ['a', 'b/2', 'ä']
    for again in (store, pickle.loads(pickle.dumps(store))):  # noqa: S301  made here
        assert {name: again.read(name) for name in store.names()} == records
    store.read('b/2')['ids'].append(3)  # a copy
    assert store.read('b/2') == {'ids': [1, 2]}


@pytest.mark.parametrize('names', [(), ('a', 'c')])
def test_unknown_name_is_refused(names: tuple[str, ...]) -> None:
    store = RecordStore(((name, {}) for name in names), FILE)
    for name in ('b', 'z', ''):
        with pytest.raises(ClipDataError, match=rf'a\.json: has no clip {name}'):
            store.read(name)


def test_duplicate_and_overlong_names_are_refused() -> None:
    with pytest.raises(ClipDataError, match=r'a\.json: two records are called a'):
        RecordStore([('a', {}), ('b', {}), ('a', {})], FILE)
    with pytest.raises(ClipDataError, match='2000 bytes'):
        RecordStore([('a' * 2000, {})], FILE)


def test_fifty_thousand_records_pickle_to_little_more_than_their_text() -> None:
    names = [f'video{number:06d}' for number in range(50_000)]
    store = RecordStore(((name, {'frames': [name]}) for name in names), FILE)
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


@dataclass(kw_only=True, eq=False, repr=False)
class Rows(RecordDataset):
    """A file with rows of a name and a number."""

    def records_in(self, content: object) -> Iterator[tuple[str, Record]]:
        """A record for each row."""
        for row in get_field(content, 'rows', list, self.annotation_path):
            yield row['name'], {'number': row['number']}

    def open_video(self, name: str) -> AnnotatedVideo:
        """There is none."""
        raise ClipDataError.at(name, 'is no video', 'none')


def build(root: Path, *rows: tuple[str, int], **options: Any) -> Rows:
    """A dataset of these rows."""
    content = {'rows': [{'name': name, 'number': number} for name, number in rows]}
    write_json(root / 'rows.json', content)
    return Rows(data_root=str(root), annotation_file='rows.json', **options)


def test_lists_select_clips_of_the_file(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('c\nb\n')
    (tmp_path / 'not.txt').write_text('c\n')
    rows = (('b', 2), ('a', 1), ('c', 3))
    dataset = build(tmp_path, *rows)
    assert dataset.list_videos() == ['a', 'b', 'c']
    assert [dataset.read_record(name)['number'] for name in ('a', 'b')] == [1, 2]
    lists = {'file_list': 'list.txt', 'exclude_list': 'not.txt'}
    assert build(tmp_path, *rows, **lists).list_videos() == ['b']


@pytest.mark.parametrize('file_list', [None, 'list.txt'])
def test_missing_file_is_named_when_the_dataset_is_built(
    tmp_path: Path, file_list: str | None
) -> None:
    (tmp_path / 'list.txt').write_text('c\nb\n')
    with pytest.raises(FileNotFoundError, match=r'none\.json is missing.*annotation_f'):
        Rows(data_root=str(tmp_path), annotation_file='none.json', file_list=file_list)


def test_too_large_file_is_refused_when_the_dataset_is_built(tmp_path: Path) -> None:
    with pytest.raises(ClipDataError, match='max_file_size=9'):
        build(tmp_path, ('a', 1), limits={'max_file_size': 9})
