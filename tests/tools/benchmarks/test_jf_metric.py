"""The benchmark of J and F: both ways do the same job."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tool_modules import load_tool

KEYS = ('480p_3', '480p_10', '720p_3', '720p_10', 'folder_480p_3')


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/jf_metric')


@pytest.fixture
def small(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool with small frames."""
    for name, size in (('480p', (60, 107)), ('720p', (90, 160)), ('1080p', (64, 64))):
        monkeypatch.setitem(tool.SIZES, name, size)
    return tool


@pytest.mark.parametrize('job', ['label_job', 'mask_job', 'folder_job'])
def test_both_ways_give_the_same(small: ModuleType, job: str, tmp_path: Path) -> None:
    folder = (tmp_path,) if job == 'folder_job' else ()
    both = getattr(small, job)('480p', 3, *folder)
    plain = both.plain()
    assert both.ours() == plain
    assert len(plain) in {small.NUM_SCENES, small.FOLDER_FRAMES}
    assert all(len(frame) == 3 and 0 < frame[0][1] <= 1 for frame in plain)


def test_different_results_are_not_timed(tool: ModuleType) -> None:
    job = tool.Job(
        name='job', plain=lambda: [[(1.0, 1.0)]], ours=lambda: [[(1.0, 0.5)]]
    )
    with pytest.raises(ValueError, match='job: the two ways give different'):
        tool.measure(job, 1)


def test_both_ways_alternate_and_the_first_round_does_not_count(
    tool: ModuleType,
) -> None:
    calls: list[str] = []

    def way(name: str) -> list[list[tuple[float, float]]]:
        calls.append(name)
        return [[(1.0, 1.0)], []]

    job = tool.Job(name='job', plain=lambda: way('plain'), ours=lambda: way('ours'))
    timing = tool.measure(job, 3)
    assert calls[2:] == ['plain', 'plain', 'ours', 'ours'] * 4
    assert timing.plain_ms > 0


def test_report_holds_every_ratio(
    small: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'new' / 'report.json'
    small.main(['--rounds', '1', '--json', str(path)])
    report = json.loads(path.read_text())
    timings = {timing['name']: timing for timing in report['timings']}
    for key in KEYS:
        ratio = timings[key]['plain_ms'] / timings[key]['ours_ms']
        assert report[key] == pytest.approx(ratio)
    assert set(report['literal_ms']) == {'480p', '720p', '1080p'}
    assert 'folder_480p_3' in capsys.readouterr().out
