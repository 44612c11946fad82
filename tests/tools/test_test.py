"""``tools/test.py`` scores the weights that it is given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine_toys import load, toy_config, toy_config_file, train
from tool_modules import ROOT, TOOLS, load_tool


def test_metrics_of_a_checkpoint_are_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / 'run'
    train(toy_config(run, train_cfg__max_epochs=1))
    expected = load(run / 'epoch_1.pth')['message_hub']['runtime_info']['best_score']
    # A config that would resume still scores the given checkpoint.
    config = toy_config_file(tmp_path / 'toy.py', resume=True)
    capsys.readouterr()
    metrics = load_tool('test').main(
        [
            config,
            str(run / 'epoch_1.pth'),
            '--work-dir',
            str(tmp_path / 'scores'),
        ]
    )
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index('{\n') :]) == metrics
    assert metrics['J&F'] == pytest.approx(expected, rel=1e-9)
    assert (tmp_path / 'scores').is_dir()


@pytest.mark.parametrize('missing', ['checkpoint', 'config'])
def test_missing_file_is_named_in_one_line(tmp_path: Path, missing: str) -> None:
    config = toy_config_file(tmp_path / 'toy.py')
    words = [config, str(tmp_path / 'nowhere.pth'), '--work-dir', str(tmp_path)]
    if missing == 'config':
        words[0] = str(tmp_path / 'nowhere.py')
    answer = subprocess.run(
        [sys.executable, TOOLS / 'test.py', *words],
        env={**os.environ, 'PYTHONPATH': str(ROOT / 'tests' / 'support')},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    errors = [line for line in answer.stderr.splitlines() if 'nowhere' in line]
    assert len(errors) == 1
    assert errors[0].startswith('error: ')
    assert 'Traceback' not in answer.stderr
