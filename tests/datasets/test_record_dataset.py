"""What sources with one annotation file have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_folders import write_json
from projects.sam2.datasets.annotated_video import AnnotatedVideo
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.json_files import get_field
from projects.sam2.datasets.sources.records import Record, RecordDataset


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


def test_clips_are_those_of_the_file(tmp_path: Path) -> None:
    dataset = build(tmp_path, ('b', 2), ('a', 1))
    assert dataset.list_videos() == ['a', 'b']
    assert [dataset.read_record(name)['number'] for name in ('a', 'b')] == [1, 2]


def test_lists_choose_among_the_records(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('c\nb\n')
    (tmp_path / 'not.txt').write_text('c\n')
    rows = (('a', 1), ('b', 2), ('c', 3))
    lists = {'file_list': 'list.txt', 'exclude_list': 'not.txt'}
    assert build(tmp_path, *rows, **lists).list_videos() == ['b']


@pytest.mark.parametrize('file_list', [None, 'list.txt'])
def test_missing_file_is_told_when_the_dataset_is_built(
    tmp_path: Path, file_list: str | None
) -> None:
    (tmp_path / 'list.txt').write_text('c\nb\n')
    with pytest.raises(FileNotFoundError, match=r'none\.json is missing.*annotation_f'):
        Rows(data_root=str(tmp_path), annotation_file='none.json', file_list=file_list)


def test_clip_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    dataset = build(tmp_path, ('a', 1))
    with pytest.raises(ClipDataError, match=r'rows\.json.*no clip z'):
        dataset.read_record('z')


@pytest.mark.parametrize(
    ('rows', 'options', 'reason'),
    [
        ((('a', 1), ('a', 2)), {}, 'two records are called a'),
        ((('a', 1),), {'limits': {'max_file_size': 9}}, 'max_file_size=9'),
    ],
)
def test_file_is_read_and_checked_when_the_dataset_is_built(
    tmp_path: Path, rows: tuple[Any, ...], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClipDataError, match=reason):
        build(tmp_path, *rows, **options)
