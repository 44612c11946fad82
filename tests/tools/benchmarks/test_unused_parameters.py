"""The search for unused parameters is timed on a step that both ways take."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from tool_modules import load_tool


@pytest.fixture(scope='module')
def unused() -> ModuleType:
    return load_tool('benchmarks/unused_parameters')


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a group of one process."""
    for name, value in (('RANK', '0'), ('WORLD_SIZE', '1'), ('MASTER_PORT', '0')):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')


@pytest.mark.filterwarnings('ignore:Grad strides do not match')
def test_both_ways_are_timed_and_written(
    unused: ModuleType,
    setting: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / 'out' / 'unused.json'
    argv = ['unused_parameters.py', setting.config, '--image-size', '64']
    argv += ['--num-frames', '2', '--rounds', '1', '--json', str(path)]
    with mock.patch.object(sys, 'argv', argv):
        unused.main()
    found = json.loads(path.read_text())
    assert found['ratio'] == found['with'] / found['without'] > 0


def test_parameters_without_a_gradient_are_frozen(
    unused: ModuleType,
    setting: Any,
) -> None:
    with mock.patch.object(unused, 'DistributedDataParallel') as wrap:
        unused.wrapped(replace(setting, prompt='mask'), searches=False)
    module, options = wrap.call_args.args[0], wrap.call_args.kwargs
    assert options == {'find_unused_parameters': False}
    trained = {name: p.requires_grad for name, p in module.named_parameters()}
    assert 0 < sum(trained.values()) < len(trained)
