"""The tool that prints a config."""

from pathlib import Path

import pytest
from mmengine.config import Config

from tool_modules import ROOT, load_tool

CONFIG = str(ROOT / 'configs' / 'sam2_mini_davis.py')


def test_saved_config_is_the_one_that_a_run_would_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'saved.py'
    words = ['--cfg-options', 'data_root=elsewhere', 'image_size=(64,64)']
    load_tool('misc/print_config').main([CONFIG, '--save-path', str(path), *words])
    # The tests do not format the text of configs.
    assert "data_root='elsewhere'" in capsys.readouterr().out.replace(' = ', '=')
    cfg = Config.fromfile(path)
    assert cfg.val_dataloader.dataset.dataset.data_root == 'elsewhere'
    assert list(cfg.model.data_preprocessor.image_size) == [64, 64]


def test_graph_shows_the_parts_of_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_tool('misc/print_config').main([CONFIG, '--graph'])
    assert '(memory_attention): MemoryAttention(' in capsys.readouterr().out


def test_other_endings_are_refused_before_anything_is_printed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'ends in \.py'):
        load_tool('misc/print_config').main([CONFIG, '--save-path', 'config.txt'])
