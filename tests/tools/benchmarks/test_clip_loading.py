"""The benchmark of clip loading: both implementations do the same job."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/clip_loading')


def test_both_ways_augment_alike(tool: ModuleType) -> None:
    job = tool.transform_job(tool.make_source())
    sample = job.ours()
    frames, masks = job.plain()
    assert sample.frames.shape == frames.shape == (8, 3, 1024, 1024)
    both = (sample.masklets & masks).sum()
    assert both > 0.98 * (sample.masklets | masks).sum()
    ours = sample.frames[0].float().flatten(1).mean(dim=1) / 255
    plain = frames[0] * tool.torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    plain = plain + tool.torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    np.testing.assert_allclose(ours, plain.flatten(1).mean(dim=1), atol=0.02)


# pycocotools' own arrays under NumPy 2.
@pytest.mark.filterwarnings('ignore:__array__ implementation')
@pytest.mark.parametrize('kind', ['jpeg', 'sav', 'rle', 'png'])
def test_both_ways_give_the_same(tool: ModuleType, kind: str, tmp_path: Path) -> None:
    source = tool.make_source()
    folder = () if kind == 'rle' else (tmp_path,)
    job = getattr(tool, f'{kind}_job')(source, *folder)
    np.testing.assert_array_equal(job.plain(), job.ours())


def test_reopened_files_give_the_same(tool: ModuleType, tmp_path: Path) -> None:
    job = tool.sav_job(tool.make_source(), tmp_path, open_each=True)
    assert job.plain() == job.ours()


def test_both_ways_alternate_and_the_first_round_does_not_count(
    tool: ModuleType,
) -> None:
    calls: list[str] = []
    job = tool.Job(
        name='job',
        target=1.0,
        plain=lambda: calls.append('plain'),
        ours=lambda: calls.append('ours'),
    )
    timing = tool.measure(job, 3)
    assert calls == ['plain', 'plain', 'ours', 'ours'] * 4
    assert timing.ratio == timing.plain_ms / timing.ours_ms


def test_report_holds_every_ratio(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ('transform', 'jpeg', 'sav_json', 'rle', 'png')
    timings = [
        tool.Timing(name=name, target=1.0, plain_ms=6.0, ours_ms=2.0) for name in names
    ]
    monkeypatch.setattr(tool, 'run', lambda _: timings)
    path = tmp_path / 'new' / 'report.json'
    monkeypatch.setattr(sys, 'argv', ['clip_loading.py', '--json', str(path)])
    tool.main()
    report = json.loads(path.read_text())
    assert {f'{name}_ratio': 3.0 for name in names}.items() <= report.items()
