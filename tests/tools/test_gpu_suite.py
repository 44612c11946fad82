"""The GPU suite measures every figure, survives failures, and reads a GPU rightly."""

import json
import re
import time
import warnings
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from projects.sam2.ops import upsample_logits
from tool_modules import TOOLS, load_tool
from untraced import untraced

OF_SOME_ROWS = {'compile_s', 'difference'}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS / 'benchmarks')  # as where the script is run
    return load_tool('benchmarks/gpu_suite')


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / 'results.json').read_text())
    return results


@untraced()
def test_every_row_has_its_figures(suite: ModuleType, tmp_path: Path) -> None:
    names = ['images', 'masks', 'waits', 'training', 'video', 'compiled']
    words = ['--toy', '--one-process', '--out', str(tmp_path), '--only', *names]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch, about what the toys are
        assert suite.main(words) == 0
    results = results_of(tmp_path)
    assert list(results['sections']) == names
    for name, entry in results['sections'].items():
        columns = suite.SECTIONS[name].columns.keys()
        assert columns == set().union(*entry['rows']) & columns
        for row in entry['rows']:
            assert columns - row.keys() <= OF_SOME_ROWS
            assert None not in row.values()
    training = results['sections']['training']['rows']
    assert {row['way'] for row in training} == {'plain', 'ours'}
    for row in training:
        assert row['clips_s'] == pytest.approx(1 / row['step_s'])
    page = (tmp_path / 'tables.md').read_text()
    assert 'the figures mean nothing' in page
    assert page.count('\n### ') == len(names)


def test_other_rows_are_measured_after_a_failure(
    suite: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **given: object) -> None:
        raise torch.OutOfMemoryError if fails.pop() else ValueError('a | b\nand more')

    fails = [False, True]
    monkeypatch.setattr(import_module('automatic_masks'), 'measure', fail)
    words = ['--toy', '--one-process', '--out', str(tmp_path), '--only', 'masks']
    assert suite.main(words) == 1
    rows = results_of(tmp_path)['sections']['masks']['rows']
    notes = ['out of memory', 'ValueError: a | b']
    assert [row['note'] for row in rows] == notes
    assert '| ValueError: a \\| b |' in (tmp_path / 'tables.md').read_text()


def write_interpreter(path: Path, script: str) -> None:
    """Write a program that takes the place of Python."""
    path.write_text(f'#!/bin/bash\n{script}\n')
    path.chmod(0o755)


def test_other_sections_run_after_one_that_crashes_or_hangs(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_interpreter(
        tmp_path / 'python',
        r"""
        echo '@gpu_suite {"machine": {"device": "card", "state": "cool"}, "is_toy": 0}'
        echo '@gpu_suite {"row": {"model": "tiny", "skipped": 2}}'
        case $3 in
        onnx) echo '@gpu_suite {"row": {"left_out": "no provider"}}' ;;
        images) echo bad luck; kill -SEGV $$ ;;
        masks) sleep 60 & wait ;;
        esac
        """,
    )
    monkeypatch.setattr(suite.sys, 'executable', str(tmp_path / 'python'))
    monkeypatch.setattr(suite, 'SECONDS_TO_END', 0.5)
    start = time.monotonic()
    words = ['--out', str(tmp_path / 'out'), '--minutes', '0.01']
    assert suite.main([*words, '--only', 'images', 'masks', 'onnx', 'tests']) == 1
    assert time.monotonic() - start < 10
    results = results_of(tmp_path / 'out')
    assert results['machine'] == {'device': 'card'}
    sections = results['sections']
    assert all(len(entry['rows']) == 1 for entry in sections.values())
    assert 'code -11: bad luck' in sections['images']['failure']
    assert 'did not end' in sections['masks']['failure']
    assert 'failure' not in sections['onnx']
    assert sections['onnx']['left_out'] == 'no provider'
    assert 'no provider' in (tmp_path / 'out/tables.md').read_text()
    assert sections['tests']['rows'][0]['skipped'] == 2
    assert 'bad luck' in (tmp_path / 'out/log.txt').read_text()


def test_the_process_of_a_section_prints_its_rows(
    suite: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_interpreter(tmp_path / 'python', f'printf "%s\\n" "$@" > {tmp_path}/words')
    monkeypatch.setattr(suite.sys, 'executable', str(tmp_path / 'python'))
    words = ['--toy', '--out', str(tmp_path), '--only', 'masks']
    assert suite.main(words) == 0
    program, *words = (tmp_path / 'words').read_text().split()
    assert program == suite.__file__
    capsys.readouterr()
    assert suite.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [json.loads(line.removeprefix(suite.MARK)) for line in lines]
    assert told[0]['is_toy']
    assert told[0]['machine']['torch'] == torch.__version__
    assert [news['row']['kept'] for news in told[1:]] == ['none', 'all']


class FakeEvent:
    """An event of a card that is always done."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.at = 0.0

    def record(self) -> None:
        """Note the time."""
        self.calls.append('record')
        self.at = time.perf_counter()

    def elapsed_time(self, end: 'FakeEvent') -> float:
        """Milliseconds until another event."""
        return 1000 * (end.at - self.at)


def fake_cuda() -> Any:
    """``torch.cuda`` of a card that is always done; ``calls`` lists what is called."""
    calls: list[str] = []
    modes: list[str | int] = [0]
    names = ['synchronize', 'reset_peak_memory_stats', 'empty_cache']
    return SimpleNamespace(
        calls=calls,
        modes=modes,
        Event=lambda enable_timing: FakeEvent(calls) if enable_timing else None,
        max_memory_allocated=lambda: 3 * 2**30,
        current_device=lambda: 0,
        get_device_properties=lambda _: SimpleNamespace(
            name='card', total_memory=24 * 2**30, multi_processor_count=80
        ),
        get_sync_debug_mode=lambda: modes[-1],
        set_sync_debug_mode=modes.append,
        **{name: partial(calls.append, name) for name in names},
    )


@pytest.fixture
def gpu_device() -> ModuleType:
    return load_tool('benchmarks/gpu_device')


def test_a_gpu_is_timed_by_events_once_it_is_done(gpu_device: ModuleType) -> None:
    cuda = fake_cuda()
    device = gpu_device.CudaDevice(cuda)

    def job() -> str:
        cuda.calls.append('job')
        time.sleep(0.05)
        return 'done'

    seconds, result = device.timed(job)
    assert result == 'done'
    assert 0.05 <= seconds < 5
    assert cuda.calls == ['synchronize', 'record', 'job', 'record', 'synchronize']
    with device.peak() as peak:
        assert cuda.calls[-1] == 'reset_peak_memory_stats'
    assert peak.gb == 3
    machine = device.describe()
    assert (machine['device'], machine['memory_gb']) == ('card', 24)


def test_waits_are_listed_by_the_line_of_the_package(
    gpu_device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = fake_cuda()

    def wait(tensor: Tensor) -> Tensor:  # as a GPU does where the host reads it
        warnings.warn('called a synchronizing CUDA operation', stacklevel=1)
        return tensor

    monkeypatch.setattr(functional, 'interpolate', lambda tensor, **_: wait(tensor))
    shown = []
    monkeypatch.setattr(warnings, 'showwarning', lambda text, *_: shown.append(text))
    with gpu_device.CudaDevice(cuda).waits() as lines:
        for _ in range(2):
            upsample_logits(torch.ones(1, 1, 2, 2), (4, 4))
        warnings.warn('another', stacklevel=1)
    assert [str(warning) for warning in shown] == ['another']
    assert len(lines) == 2
    assert set(lines) == {lines[0]}
    assert re.match(r'ops/masks\.py:\d+ return functional\.interpolate', lines[0])
    assert cuda.modes == [0, 'warn', 0]


def test_torch_warns_again_of_nothing_after_an_error(gpu_device: ModuleType) -> None:
    cuda = fake_cuda()
    with pytest.raises(ZeroDivisionError), gpu_device.CudaDevice(cuda).waits():
        _ = 1 / 0
    assert cuda.modes == [0, 'warn', 0]


def test_a_profile_counts_kernels_once_and_the_waiting_calls(
    gpu_device: ModuleType,
) -> None:
    def event(name: str, kind: str, us: float, *, annotation: bool = False) -> Any:
        return SimpleNamespace(
            name=name,
            device_type=SimpleNamespace(name=kind),
            time_range=SimpleNamespace(elapsed_us=lambda: us),
            is_user_annotation=annotation,
        )

    profile = gpu_device.summary(
        [
            event('Optimizer.step', 'CUDA', 5000, annotation=True),
            event('gemm', 'CUDA', 3000),
            event('copy', 'CUDA', 500),
            event('gemm', 'CUDA', 1000),
            event('cudaStreamSynchronize', 'CPU', 7000),
            event('aten::mm', 'CPU', 7000),
        ]
    )
    assert profile.busy_s == pytest.approx(4.5e-3)
    assert (profile.num_kernels, profile.num_waits) == (3, 1)
    assert profile.top[0] == ('gemm', 0.004, 2)


@pytest.mark.filterwarnings('ignore')  # of a profiler without a card
def test_events_of_this_torch_have_what_a_profile_reads(gpu_device: ModuleType) -> None:
    device = gpu_device.CudaDevice(fake_cuda())
    assert device.profile(lambda: torch.ones(2) + 1).num_waits == 0


@pytest.mark.parametrize(('seconds', 'num_rounds'), [(0.0, 1), (60.0, 4)])
def test_short_time_drops_rounds_but_no_row(seconds: float, num_rounds: int) -> None:
    measurement = load_tool('benchmarks/gpu_measurement')
    device = SimpleNamespace(
        timed=lambda job: (job(), None),
        release=lambda: None,
        autocast=nullcontext,
    )
    rows: list[dict[str, Any]] = []
    sizes = measurement.Sizes(models={}, recipes={}, rounds=4)
    run = measurement.SectionRun(device, sizes, seconds=seconds, emit=rows.append)
    run.rows_left = 3

    def measure() -> dict[str, Any]:
        draws = iter(range(100))
        times = run.times(lambda: next(draws))
        return {'first': times.first, 'rounds': times.rounds}

    for name in 'abc':
        run.row(measure, name=name)
    assert [row['name'] for row in rows] == ['a', 'b', 'c']
    assert all(row['first'] == 0 for row in rows)
    assert all(row['rounds'] == tuple(range(2, 2 + num_rounds)) for row in rows)
