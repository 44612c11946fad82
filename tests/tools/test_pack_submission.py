"""The tool that packs predictions for a server."""

import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from data_folders import square_maps, write_maps, write_objects
from tool_modules import failing_exit_code, load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('pack_submission')


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Predictions of a video that the list names."""
    write_objects(tmp_path / 'pred' / 'a', square_maps(2))
    (tmp_path / 'val.txt').write_text('a\n')
    archive = str(tmp_path / 'masks.zip')
    names = str(tmp_path / 'val.txt')
    return [str(tmp_path / 'pred'), archive, '--layout', 'sav', '--list', names]


def test_archive_is_written_without_problems(
    tool: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(arguments) == 0
    assert '1 videos, 4 masks' in capsys.readouterr().out
    with zipfile.ZipFile(arguments[1]) as archive:
        assert len(archive.namelist()) == 4


def test_archive_is_not_written_with_a_problem(
    tool: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_maps(tmp_path / 'pred' / 'b', square_maps(1))
    assert tool.main(arguments) == 1
    printed = capsys.readouterr().out
    assert '! b: is not in the list' in printed
    assert 'was not written' in printed
    assert not Path(arguments[1]).exists()


def test_folder_of_frames_names_the_videos(
    tool: ModuleType, arguments: list[str], tmp_path: Path
) -> None:
    for name in ('a', 'b'):
        write_maps(tmp_path / 'frames' / name, square_maps(2))
    frames = ['--frames', str(tmp_path / 'frames')]
    assert tool.main([*arguments[:4], *frames]) == 1  # b is missing
    assert tool.main([*arguments, *frames]) == 0


def test_user_errors_are_one_line(
    tool: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for wrong in (
        [str(tmp_path / 'nowhere'), *arguments[1:]],
        [*arguments[:-1], str(tmp_path / 'nowhere.txt')],
    ):
        assert failing_exit_code(tool, wrong) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if line.startswith('error: ')]) == 1
    with pytest.raises(SystemExit):
        tool.main(arguments[:4])
    assert 'to define the split' in capsys.readouterr().err
