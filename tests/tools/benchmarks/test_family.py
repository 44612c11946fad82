"""The benchmark of the family: what it measures, and what its tables say."""

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest

from projects.sam2.datasets.sources.synthetic import MEMORY_KINDS
from tool_modules import ROOT, load_tool

CONFIG = ROOT / 'docs' / 'weights' / 'sam2_mini_cells.py'
CHECKPOINT = ROOT / 'docs' / 'weights' / 'sam2_mini.pth'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/family')


def test_all_policies_of_the_package_are_compared_with_fifo(tool: ModuleType) -> None:
    files = (ROOT / 'configs' / '_base_' / 'policies').glob('*.py')
    assert tool.POLICIES[0] == 'fifo'
    assert sorted(tool.POLICIES) == sorted(file.stem for file in files)


def test_all_models_of_the_family_are_compared(tool: ModuleType) -> None:
    folder = ROOT / 'configs' / '_base_' / 'models'
    others = ('sam2_0_', 'mini')  # costs those of 2.1; toys
    names = {
        file.stem
        for file in folder.glob('*.py')
        if not any(part in file.stem for part in others)
    }
    assert set(tool.MODELS) == names


def test_policies_see_the_same_clips_in_which_targets_go_and_return(
    tool: ModuleType, tmp_path: Path
) -> None:
    words = [str(CONFIG), str(CHECKPOINT), '--clips', '3', '--frames', '12']
    words += ['--policies', 'fifo', 'samurai', '--seeds', '4']
    words += ['--json', str(tmp_path / 'new' / 'rows.json')]
    rows = tool.main(['policies', *words])
    assert [(row.policy, row.seed) for row in rows] == [('fifo', 4), ('samurai', 4)]
    for row in rows:
        assert [*row.by_kind] == [kind.value for kind in MEMORY_KINDS]
        mean = sum(row.by_kind.values()) / 3  # one object in each clip
        assert row.j_and_f == pytest.approx(mean)
        assert 0 <= row.gone <= 100
        assert 0 <= row.back <= 100
    written = json.loads((tmp_path / 'new' / 'rows.json').read_text())
    assert [row['j_and_f'] for row in written] == [row.j_and_f for row in rows]


def test_sessions_of_models_have_full_memories(tool: ModuleType) -> None:
    options = argparse.Namespace(device='cpu', size=64)
    for name in ('sam2_1_mini', 'edgetam_mini'):
        bench = tool.open_model(name, options)
        session = tool.full_session(bench)
        store = session.objects[1].store
        assert len(store.conditioning) + len(store.tracked) == 16
        memory = store.tracked[tool.FRAME - 1]
        expected = memory.spatial.numel() * 2 + memory.object_pointer.numel() * 4
        assert tool.kilobytes(session) == expected / 1024


def test_tables_compare_with_the_first_row(tool: ModuleType) -> None:
    common = {'size': (64, 64), 'parameters': 10**6, 'memory_kb': 1.0, 'peak_mb': None}
    models = [
        tool.ModelRow(model='one', encode_s=1.0, track_s=1.0, **common),
        tool.ModelRow(model='two', encode_s=2.0, track_s=1.0, **common),
    ]
    *_, last = tool.describe_models(models)
    assert last.split()[:7] == ['two', '64', '1.0', '2.00', '1.00', '3.00', '1.50']
    policies = [
        tool.PolicyRow(
            policy=policy,
            seed=seed,
            j_and_f=j_and_f,
            by_kind={kind.value: j_and_f for kind in MEMORY_KINDS},
            gone=0.0,
            back=0.0,
            frame_s=0.01,
        )
        for policy, scores in (('fifo', (50.0, 40.0)), ('own', (51.0, 37.0)))
        for seed, j_and_f in enumerate(scores)
    ]
    *_, last = tool.describe_policies(policies)
    assert last.split()[:4] == ['own', '44.0', '+1.0', '-3.0']
