"""The command that converts checkpoints."""

from pathlib import Path

import pytest
import torch

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
    for rest, message in (
        (['--config', 'sam2.1_hiera_t'], r'source\.pt'),
        ([], r'source\.pt .* give the config .*--config'),
    ):
        with pytest.raises(CheckpointMismatchError, match=message):
            _convert(source, target, '--to', 'huggingface', *rest)
    assert not target.exists()


def test_average_of_a_run_is_converted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_file(tmp_path, small_config())
    average = dict(small_model(object_score=1.0).state_dict())
    saved = {'state_dict': average, 'ema_state_dict': dict(small_model().state_dict())}
    torch.save(saved, tmp_path / 'epoch_1.pth')
    target = tmp_path / 'target.pth'
    _convert(tmp_path / 'epoch_1.pth', target, '--to', 'mmsam2', '--config', config)
    assert_same_weights(read_checkpoint(str(target))['state_dict'], average)
    printed = capsys.readouterr().out
    assert f'{len(average)} weights averaged by the EMA hook, as mmsam2' in printed


def test_unknown_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _convert(tmp_path / 'a', tmp_path / 'b', '--to', 'onnx')
    assert 'released' in capsys.readouterr().err
