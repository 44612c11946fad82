"""The command that converts checkpoints."""

from pathlib import Path

import pytest

from bridge_models import (
    assert_same_weights,
    config_file,
    small_config,
    small_model,
    write_small,
)
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    read_checkpoint,
)
from tool_modules import load_tool

KINDS = [kind.value for kind in CheckpointKind]


def _convert(*arguments: object) -> None:
    load_tool('model_converters/convert_checkpoint').main(list(map(str, arguments)))


@pytest.mark.parametrize('to', KINDS)
@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_becomes_each_other(
    kind: str, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / 'source', tmp_path / 'target'
    config = config_file(tmp_path, small_config())
    write_small(source, kind, small_model())
    _convert(source, target, '--to', to, '--config', config)
    wanted = dict(small_model().state_dict())
    assert_same_weights(read_checkpoint(str(target))['state_dict'], wanted)
    assert target.is_dir() is (to == 'huggingface')
    assert f'{target}: {len(wanted)} weights, as {to}' in capsys.readouterr().out


def test_wrong_config_stops_before_anything_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / 'source.pt', tmp_path / 'target'
    write_small(source, 'released', small_model())
    for rest in (['--config', 'sam2.1_hiera_t'], []):
        with pytest.raises(CheckpointMismatchError, match=r'source\.pt'):
            _convert(source, target, '--to', 'huggingface', *rest)
    assert not target.exists()


def test_unknown_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _convert(tmp_path / 'a', tmp_path / 'b', '--to', 'onnx')
    assert 'released' in capsys.readouterr().err
