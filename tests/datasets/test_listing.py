"""Lists of videos and files."""

from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.listing import (
    find_stems,
    find_videos,
    list_files,
    list_names,
    read_list,
    split_names,
    write_list,
)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Three folders of frames and some lists."""
    for name in ('b', 'a', 'c'):
        (tmp_path / 'frames' / name).mkdir(parents=True)
    (tmp_path / 'frames' / 'note.txt').touch()
    (tmp_path / 'some.txt').write_text('c\n\n a \n')
    (tmp_path / 'all.txt').write_text('a\nb\nc\n')
    return tmp_path


@pytest.mark.parametrize(
    ('file_list', 'exclude_list', 'names'),
    [
        (None, None, ['a', 'b', 'c']),
        ('some.txt', None, ['c', 'a']),
        (None, 'some.txt', ['b']),
        ('all.txt', 'some.txt', ['b']),
    ],
)
def test_split_is_the_list_without_the_excluded(
    data_root: Path, file_list: str | None, exclude_list: str | None, names: list[str]
) -> None:
    found = list_names(
        data_root=data_root,
        folder=data_root / 'frames',
        file_list=file_list,
        exclude_list=exclude_list,
    )
    assert found == names


@pytest.mark.parametrize(
    ('lines', 'says'),
    [('frames/a\nz\n', True), ('z\na\n', False), ('\n', False)],
    ids=['none_matches', 'one_matches', 'empty'],
)
def test_list_that_excludes_nothing_is_told(
    data_root: Path,
    lines: str,
    says: bool,  # noqa: FBT001  what is expected
    caplog: pytest.LogCaptureFixture,
) -> None:
    (data_root / 'others.txt').write_text(lines)
    logger = MMLogger.get_instance('listing', logger_name='listing')
    logger.addHandler(caplog.handler)
    list_names(
        data_root=data_root,
        folder=data_root / 'frames',
        file_list=None,
        exclude_list='others.txt',
    )
    logger.removeHandler(caplog.handler)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == says
    assert all("none of 3 clips: it names 'frames/a'" in each for each in told)


def test_mark_of_utf8_is_no_part_of_the_first_name(data_root: Path) -> None:
    (data_root / 'marked.txt').write_text('a\nb\n', encoding='utf-8-sig')
    assert read_list(data_root / 'marked.txt') == ['a', 'b']


@pytest.mark.parametrize(
    ('folder', 'lists', 'error', 'text'),
    [
        ('absent', (None, None), FileNotFoundError, 'absent'),
        ('frames', ('gone.txt', None), FileNotFoundError, r'gone\.txt.*split_clips'),
        ('frames', (None, 'gone.txt'), FileNotFoundError, r'gone\.txt'),
        ('frames', (None, 'all.txt'), ValueError, 'no video.*exclude'),
        ('frames', ('some.txt', 'all.txt'), ValueError, r'some\.txt names no video'),
    ],
)
def test_missing_and_empty_splits_are_named(
    data_root: Path,
    folder: str,
    lists: tuple[str | None, str | None],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        list_names(
            data_root=data_root,
            folder=data_root / folder,
            file_list=lists[0],
            exclude_list=lists[1],
        )


def test_files_are_in_numerical_order(tmp_path: Path) -> None:
    for name in ('10.jpg', '9.JPG', '100.jpeg', 'notes.txt'):
        (tmp_path / name).touch()
    assert list_files(tmp_path, ('.jpg', '.jpeg')) == ('9.JPG', '10.jpg', '100.jpeg')


def test_files_without_a_name_are_not_listed(tmp_path: Path) -> None:
    for name in ('.mp4', '...mp4', 'a.MP4', '.json', '...json', 'b.json', 'x_ids.JSON'):
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == {'a'}
    assert find_stems(tmp_path, ('.json',)) == {'b', 'x_ids'}
    assert find_stems(tmp_path, ('_Ids.json',)) == {'x'}


@pytest.mark.parametrize('folder', ['.', 'absent'])
def test_folder_without_files_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ClipDataError, match='exclude list'):
        list_files(tmp_path / folder, ('.jpg',))


def test_holdout_is_a_seeded_partition_whatever_the_order_of_the_list() -> None:
    names = [f'clip{number:03d}' for number in range(50)]
    kept, held = split_names(names, 10, seed=3)
    assert len(held) == 10
    assert sorted(kept + held) == names
    assert split_names(names[::-1], 10, seed=3) == (kept, held)
    assert split_names(names, 10, seed=4) != (kept, held)


@pytest.mark.parametrize('num_holdout', [0, 3, 4])
def test_holdout_must_leave_clips_on_both_sides(num_holdout: int) -> None:
    with pytest.raises(ValueError, match=r'from 1 to 2'):
        split_names(['a', 'b', 'c'], num_holdout, seed=0)


def test_written_list_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / 'ImageSets' / 'split.txt'
    write_list(path, ['b', 'a'])
    assert read_list(path) == ['b', 'a']
    assert list(path.parent.iterdir()) == [path]
