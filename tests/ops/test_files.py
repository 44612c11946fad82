"""Files and folders are written completely or not at all."""

import os
from pathlib import Path

import pytest

from projects.sam2.ops import atomic_write, write_atomically


def _write(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / 'inner').mkdir()
    (folder / 'inner' / 'weights').write_text(content)


def test_file_replaces_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / 'weights'
    for content in ('old', 'new'):
        with atomic_write(target) as partial:
            partial.write_text(content)
    assert target.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize('is_there', [False, True])
def test_folder_comes_with_all_its_files(tmp_path: Path, *, is_there: bool) -> None:
    target = tmp_path / 'new' / 'model'
    if is_there:
        target.mkdir(parents=True)
    with atomic_write(target) as partial:
        _write(partial, 'numbers')
        assert target.is_dir() is is_there
    assert (target / 'inner' / 'weights').read_text() == 'numbers'
    assert list(target.parent.iterdir()) == [target]


def test_all_is_flushed_before_the_folder_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'model'
    flushed: list[tuple[str, bool]] = []
    flush = os.fsync

    def spy(descriptor: int) -> None:
        name = Path(f'/proc/self/fd/{descriptor}').readlink().name
        flushed.append((name, target.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, 'fsync', spy)
    with atomic_write(target) as partial:
        _write(partial, 'numbers')
    before = {name for name, is_there in flushed if not is_there}
    assert before == {'inner', 'weights', '.model.partial'}
    assert flushed[-1] == (tmp_path.name, True)


@pytest.mark.parametrize('is_folder', [False, True])
def test_failure_leaves_nothing_behind(tmp_path: Path, *, is_folder: bool) -> None:
    def interrupted() -> None:
        with atomic_write(tmp_path / 'x') as partial:
            if is_folder:
                _write(partial, 'half')
            else:
                partial.write_text('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    target = tmp_path / 'target'
    target.mkdir()
    with pytest.raises(IsADirectoryError, match='target is a folder; give the path'):
        write_atomically(target, 'text')
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    _write(tmp_path / '.model.partial', 'half')
    with atomic_write(tmp_path / 'model') as partial:
        _write(partial, 'whole')
    assert (tmp_path / 'model' / 'inner' / 'weights').read_text() == 'whole'
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_partial_file_has_the_suffix_of_its_target(tmp_path: Path) -> None:
    with atomic_write(tmp_path / 'clip.mp4') as partial:
        assert partial.name == '.clip.partial.mp4'
        partial.touch()


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    for content in ('größer\n', b'\x00\xff'):
        write_atomically(tmp_path / 'new' / 'file', content)
        expected = content.encode() if isinstance(content, str) else content
        assert (tmp_path / 'new' / 'file').read_bytes() == expected
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['file']
