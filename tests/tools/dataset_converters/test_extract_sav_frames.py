"""The tool that extracts the frames of videos."""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('dataset_converters/extract_sav_frames')


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos of five frames."""
    folder = tmp_path / 'videos'
    folder.mkdir()
    for name in ('ant', 'bee'):
        path = str(folder / f'{name}.mp4')
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'mp4v'), 24, (64, 48))
        for time in range(5):
            writer.write(np.full((48, 64, 3), 40 * time, np.uint8))
        writer.release()
    return folder


def test_all_frames_are_extracted_once(
    tool: ModuleType, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = videos.parent / 'frames'
    assert tool.main([str(videos), str(out), '--every', '4']) == 0
    assert '2 videos: 2 extracted (4 frames), 0 done before' in capsys.readouterr().out
    assert sorted(path.name for path in (out / 'bee').iterdir()) == [
        '00000.jpg',
        '00004.jpg',
    ]
    assert sorted(p.name for p in videos.parent.iterdir()) == ['frames', 'videos']
    assert tool.main([str(videos), str(out), '--every', '4']) == 0
    assert '0 extracted (0 frames), 2 done before' in capsys.readouterr().out


def test_broken_videos_are_counted_and_fail(
    tool: ModuleType, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / 'bee.mp4').write_bytes(b'no video')
    assert tool.main([str(videos), str(videos.parent / 'frames')]) == 1
    printed = capsys.readouterr().out
    assert '1 extracted (5 frames), 0 done before, 1 broken' in printed
    assert '! bee:' in printed
    assert 'is not an mp4 file' in printed


def test_jobs_report_to_the_command(
    tool: ModuleType,
    videos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip('submitit')
    monkeypatch.setenv('PYTHONPATH', '')
    words = [str(videos), str(videos.parent / 'frames'), '--jobs', '2']
    words += ['--cluster', 'debug', '--logs', str(videos.parent / 'logs')]
    assert tool.main(words) == 0
    printed = capsys.readouterr().out
    assert 'Submitted 2 jobs' in printed
    assert '2 videos: 2 extracted (10 frames)' in printed


def test_failed_job_makes_the_tool_fail(
    tool: ModuleType,
    videos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = {'17': 'Traceback\nnode lost'}
    monkeypatch.setattr(tool, 'extract', lambda *_: ([], lost))
    assert tool.main([str(videos), str(videos.parent / 'frames')]) == 1
    printed = capsys.readouterr().out
    assert '2 in failed jobs' in printed
    assert '! job 17: node lost' in printed
