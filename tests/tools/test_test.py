"""``tools/test.py`` scores the weights that it is given."""

import json
from pathlib import Path

import pytest

from engine_toys import load, toy_config, toy_config_file, train
from tool_modules import load_tool


def test_metrics_of_a_checkpoint_are_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / 'run'
    train(toy_config(run, train_cfg__max_epochs=1))
    expected = load(run / 'epoch_1.pth')['message_hub']['runtime_info']['best_score']
    # A run that would resume still scores what it is told to.
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


def test_missing_checkpoint_stops_with_its_name(tmp_path: Path) -> None:
    config = toy_config_file(tmp_path / 'toy.py')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        load_tool('test').main(
            [
                config,
                str(tmp_path / 'nowhere.pth'),
                '--work-dir',
                str(tmp_path),
            ]
        )
