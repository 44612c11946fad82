"""The tool that scores a folder of masks."""

import csv
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_folders import square_maps, write_maps, write_png
from projects.sam2.apis.folder_scores import FolderScores, ScoringTask, score_folder
from projects.sam2.evaluation import PROTOCOLS
from tool_modules import failing_exit_code, load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('eval_vos')


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Predictions that are the truth, of two videos."""
    for side in ('pred', 'truth'):
        for name in ('a', 'b'):
            write_maps(tmp_path / side / name, square_maps())
    return [str(tmp_path / 'pred'), str(tmp_path / 'truth')]


def test_scores_are_printed_and_written(
    tool: ModuleType,
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / 'scores'
    assert tool.main([*folders, '--strict', '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'mean of 4 objects' in printed
    assert '100.0  100.0  100.0' in printed
    assert 'No missing or extra predictions' in printed
    with (out / 'jf_objects.csv').open(newline='') as file:
        assert [row['frames'] for row in csv.DictReader(file)] == ['3'] * 4
    content = json.loads((out / 'jf_frames.json').read_text())
    assert content['summary']['j_recall'] == 100.0


def test_missing_and_extra_predictions_fail_only_with_strict(
    tool: ModuleType,
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'pred' / 'a' / '00002.png').unlink()
    write_maps(tmp_path / 'pred' / 'c', square_maps(1))
    (tmp_path / 'pred' / 'b').rename(tmp_path / 'pred' / 'd')
    assert tool.main(folders) == 0
    assert tool.main([*folders, '--strict', '--workers', '2']) == 1
    printed = capsys.readouterr().out
    assert '! a: 1 frame (00002) not predicted' in printed
    assert '! b: not predicted, counted as empty' in printed
    assert '! c: predicted, but not scored' in printed


def test_videos_of_a_list_are_scored(
    tool: ModuleType,
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = tmp_path / 'val.txt'
    names.write_text('b\n')
    assert tool.main([*folders, '--list', str(names)]) == 0
    printed = capsys.readouterr().out
    assert 'mean of 2 objects' in printed
    assert '! a: predicted, but not scored' in printed


def test_video_without_scored_objects_names_the_protocol(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ('pred', 'truth'):
        write_maps(tmp_path / side / 'a', square_maps(2))
    folders = [str(tmp_path / 'pred'), str(tmp_path / 'truth')]
    assert tool.main(folders) == 0
    assert 'JFDavisProtocol(skip_first=True' in capsys.readouterr().out
    assert tool.main([*folders, '--protocol', 'davis-all-frames']) == 0
    assert 'mean of 2 objects' in capsys.readouterr().out


@pytest.mark.parametrize('workers', ['1', '2'])
def test_user_errors_are_one_line(
    tool: ModuleType,
    folders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    workers: str,
) -> None:
    write_png(tmp_path / 'pred' / 'a' / '00001.png', np.zeros((4, 5), np.uint8))
    (tmp_path / 'pred' / 'b' / '00001.png').write_bytes(b'nothing')
    for arguments in (
        folders,
        [str(tmp_path / 'nowhere'), folders[1]],
        [*folders, '--list', str(tmp_path / 'nowhere.txt')],
    ):
        assert failing_exit_code(tool, [*arguments, '--workers', workers]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if line.startswith('error: ')]) == 1
        assert 'Traceback' not in ''.join(lines)


def test_long_list_of_gaps_is_cut(tool: ModuleType, folders: list[str]) -> None:
    task = ScoringTask(
        pred=Path(folders[0]),
        truth=Path(folders[1]),
        protocol=PROTOCOLS['davis'],
    )
    scores = FolderScores(
        videos=score_folder(task).videos,
        missing_videos=(),
        extra_videos=tuple(f'{number}' for number in range(30)),
    )
    lines = tool.describe(scores)
    assert len(lines) == 21
    assert lines[-1] == '! and 10 more'
