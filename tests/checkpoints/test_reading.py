"""Reading files of each origin, through MMEngine's own loader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor

from bridge_models import assert_same_weights, small_model, write_small
from engine_toys import toy_config, train
from projects.sam2.checkpoints import reading
from projects.sam2.checkpoints.key_map import map_to_huggingface, map_to_released
from projects.sam2.checkpoints.key_table import COPIES
from projects.sam2.checkpoints.reading import MODEL_SIGN, SOURCE_FIELD
from projects.sam2.checkpoints.safetensors_files import (
    WEIGHTS_FILE,
    read_safetensors,
    write_safetensors,
)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {
        MODEL_SIGN: torch.randn(2, 4),
        'tracker.temporal_embedding': torch.randn(7, 1, 1, 2),
    }


def _load(path: Path, content: object) -> dict[str, Any]:
    torch.save(content, path)
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert isinstance(loaded, dict)
    return loaded


def _assert_holds(checkpoint: dict[str, Any], weights: dict[str, Tensor]) -> None:
    assert_same_weights(dict(checkpoint['state_dict']), weights)


@pytest.mark.parametrize(
    'wrap',
    [
        pytest.param(lambda state: {'model': state}, id='released'),
        pytest.param(
            lambda state: {'model': state, 'optimizer': {'lr': 1.0}, 'epoch': 3},
            id='released trainer',
        ),
        pytest.param(lambda state: state, id='bare released'),
    ],
)
def test_released_file_comes_with_our_names(
    wrap: Callable[[object], object], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / 'sam2.pt'
    checkpoint = _load(path, wrap(map_to_released(weights)))
    _assert_holds(checkpoint, weights)
    assert checkpoint.keys() == {'state_dict', SOURCE_FIELD}
    assert checkpoint[SOURCE_FIELD] == str(path)


def test_our_checkpoint_keeps_all_that_a_resume_needs(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    averaged = {f'module.{key}': value + 1 for key, value in weights.items()}
    saved: dict[str, Any] = {
        'state_dict': weights,
        'ema_state_dict': averaged | {'steps': torch.tensor(5)},
        'optimizer': {'state': {}, 'param_groups': []},
        'meta': {'epoch': 2},
    }
    checkpoint = _load(tmp_path / 'epoch_2.pth', saved)
    _assert_holds(checkpoint, weights)
    assert checkpoint['ema_state_dict'].keys() == saved['ema_state_dict'].keys()
    assert checkpoint['optimizer'] == saved['optimizer']
    assert checkpoint['meta'] == {'epoch': 2}


def test_bare_state_dict_of_ours_is_wrapped(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _assert_holds(_load(tmp_path / 'weights.pth', weights), weights)


def test_file_of_another_project_is_left_as_it_is(tmp_path: Path) -> None:
    saved = {'backbone.conv.weight': torch.ones(2)}
    assert _load(tmp_path / 'resnet.pth', saved).keys() == saved.keys()


def test_file_with_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'evil\.pth .*may run code'):
        _load(tmp_path / 'evil.pth', {'state_dict': {}, 'log': HistoryBuffer()})


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'\xff\xd8\xff', r'is no checkpoint, .*\(Unsupported operand 255\)$'),
        (b'hello', r'\(5 bytes\) is no checkpoint'),  # to a KeyError of torch's
        (b'J1', r'\(2 bytes\) is no checkpoint'),  # to an error of struct's
    ],
)
def test_file_of_another_kind_is_refused_in_a_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / 'other.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        CheckpointLoader.load_checkpoint(str(path))
    assert '\n' not in str(refused.value)


def test_file_without_a_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r'list\.pth to hold a dict, but got list'):
        _load(tmp_path / 'list.pth', [1])


@pytest.mark.parametrize('size', [0, 400])
def test_damaged_file_is_an_error_that_names_it(size: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / 'whole.pt', tmp_path / 'cut.pt'
    torch.save({'model': torch.zeros(1000)}, whole)
    cut.write_bytes(whole.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf'cut\.pt \({size} bytes\).*fetch it again'):
        CheckpointLoader.load_checkpoint(str(cut))


@pytest.mark.parametrize('with_copy', [False, True])
def test_folder_of_transformers_comes_with_our_names(
    tmp_path: Path, *, with_copy: bool
) -> None:
    model = small_model()
    write_small(tmp_path / 'folder', 'huggingface', model)
    path = tmp_path / 'folder' / WEIGHTS_FILE
    if with_copy:
        original, copy = COPIES[0]
        theirs = read_safetensors(path, 'cpu')
        write_safetensors(path, theirs | {copy: theirs[original].clone()})
    for given in (path.parent, path):
        checkpoint = CheckpointLoader.load_checkpoint(str(given), map_location='cpu')
        assert checkpoint.keys() == {'state_dict', SOURCE_FIELD}
        assert checkpoint[SOURCE_FIELD] == str(given)
        assert_same_weights(checkpoint['state_dict'], dict(model.state_dict()))


@pytest.mark.parametrize('rename', [map_to_released, dict])
def test_safetensors_with_other_names_is_recognised_by_them(
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    weights: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    path = tmp_path / 'weights.safetensors'
    write_safetensors(path, rename(weights))
    _assert_holds(CheckpointLoader.load_checkpoint(str(path)), weights)


def test_folder_of_another_model_of_transformers_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    # The first SAM shares this name.
    saved = {COPIES[0][0]: torch.ones(2, 4), 'vision_encoder.pos_embed': torch.ones(1)}
    write_safetensors(tmp_path / WEIGHTS_FILE, saved)
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path))
    assert loaded.keys() == saved.keys()


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        ({'own.weight': torch.ones(1)}, r"own\.weight' is no known name"),
        ({COPIES[0][1]: torch.ones(2, 64)}, 'should be a copy'),
    ],
)
def test_folder_with_a_weight_that_no_sam_2_has_is_named(
    own: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    theirs = map_to_huggingface(dict(small_model().state_dict()))
    write_safetensors(tmp_path / WEIGHTS_FILE, theirs | own)
    with pytest.raises((KeyError, ValueError), match=message) as raised:
        CheckpointLoader.load_checkpoint(str(tmp_path))
    assert str(raised.value).startswith(f'{tmp_path}: ')


def test_missing_file_and_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.pt does not exist'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'none.pt'))
    with pytest.raises(FileNotFoundError, match='is a folder'):
        CheckpointLoader.load_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    'address',
    [
        'pavi://sam2.pt',
        's3://bucket/sam2.pt',
        'cluster:s3://bucket/sam2.pt',
        'petrel://bucket/sam2.pt',
        'modelzoo://resnet50',
        'torchvision://resnet50',
        'open-mmlab://resnet50',
        'openmmlab://resnet50',
        'mmcls://vgg11',
    ],
)
def test_address_that_mmengine_would_read_with_its_code_is_refused(
    address: str,
) -> None:
    with pytest.raises(ValueError, match='download the file and give its path') as told:
        CheckpointLoader.load_checkpoint(address)
    assert str(told.value).startswith(f'{address}: ')


def test_no_reader_of_mmengine_is_left() -> None:
    readers = CheckpointLoader._schemes.values()
    assert {reader.__module__ for reader in readers} == {reading.__name__}


EVIL = """
from pathlib import Path
Path({!r}).touch()
"""


@pytest.mark.parametrize('is_recognised', [True, False])
def test_resuming_runs_no_config_of_the_checkpoint(
    tmp_path: Path, *, is_recognised: bool
) -> None:
    train(toy_config(tmp_path, train_cfg__max_epochs=1))
    path, trace = tmp_path / 'epoch_1.pth', tmp_path / 'trace'
    saved = torch.load(path, weights_only=True)
    saved['meta']['config'] = EVIL.format(str(trace))
    if not is_recognised:
        # MMEngine takes the file's own entries for weights then, and goes on.
        del saved['state_dict']
    torch.save(saved, path)
    runner = train(toy_config(tmp_path, resume=True, train_cfg__max_epochs=2))
    assert runner.iter == 12
    assert not trace.exists()
