"""Reading files of each origin, through MMEngine's own loader."""

import contextlib
import io
import json
import os
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import numpy.typing as npt
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor

from bridge_models import assert_same_weights, small_model, write_small
from engine_toys import toy_config, train
from projects.sam2.checkpoints import reading
from projects.sam2.checkpoints.files import (
    WEIGHTS_FILE,
    read_safetensors,
    write_safetensors,
)
from projects.sam2.checkpoints.key_map import (
    COPIES,
    map_to_huggingface,
    map_to_released,
)
from projects.sam2.checkpoints.reading import SOURCE_FIELD
from projects.sam2.checkpoints.weights import MODEL_KEY


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {
        MODEL_KEY: torch.randn(2, 4),
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
        pytest.param(lambda state: {'epoch': 3, **state}, id='bare, with a number'),
        pytest.param(lambda state: {'model_state_dict': state}, id='another entry'),
        pytest.param(
            lambda state: {'epoch': 3, 'net': {'state_dict': state}}, id='nested'
        ),
        pytest.param(
            lambda state: {
                'model': {f'module._orig_mod.{key}': v for key, v in state.items()}
            },
            id='DDP around a compiled model',
        ),
        pytest.param(
            lambda state: {
                'ema': {key: v + 1 for key, v in state.items()},
                'model': {
                    key.replace('.', '._orig_mod.', 1): v for key, v in state.items()
                },
            },
            id='compiled parts, beside an average',
        ),
        pytest.param(
            lambda state: {
                'n_averaged': torch.tensor(3),
                **{f'module.{key}': v for key, v in state.items()},
            },
            id="torch's AveragedModel",
        ),
        pytest.param(
            lambda state: {
                'ema_state_dict': {
                    'steps': torch.tensor(3),
                    **{f'module.{key}': v for key, v in state.items()},
                }
            },
            id="MMEngine's average alone",
        ),
        pytest.param(lambda state: {'checkpoint': {'model': state}}, id='checkpoint'),
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


def test_two_weights_of_one_name_are_refused(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    averaged = {f'module.{key}': value + 1 for key, value in weights.items()}
    for saved in (weights | averaged, {'state_dict': averaged | weights}):
        with pytest.raises(ValueError, match=r'both\.pth: it holds .* several times'):
            _load(tmp_path / 'both.pth', saved)


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


def test_file_without_a_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'list\.pth to hold a dict, but got list'):
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


def test_missing_file_and_folder_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.pt does not exist'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'none.pt'))
    with pytest.raises(FileNotFoundError, match='is a folder'):
        CheckpointLoader.load_checkpoint(str(tmp_path))


HUB = Path(mmengine.__file__).parent / 'hub'


@pytest.fixture
def fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: dict[str, Tensor]
) -> list[str]:
    """Addresses that were fetched; each gives a small backbone and head."""
    path, addresses = tmp_path / 'fetched.pth', list[str]()
    torch.save({'backbone.a': weights[MODEL_KEY], 'head.b': torch.ones(1)}, path)

    def fetch(url: str) -> Path:
        addresses.append(url)
        return path

    monkeypatch.setattr(reading, 'fetch_into_cache', fetch)
    return addresses


@pytest.mark.parametrize(
    ('address', 'table', 'name'),
    [
        ('torchvision://resnet50', 'torchvision_0.12.json', 'resnet50'),
        ('modelzoo://resnet50', 'torchvision_0.12.json', 'resnet50'),
        ('open-mmlab://resnext50_32x4d', 'openmmlab.json', 'resnext50_32x4d'),
        ('openmmlab://resnext50_32x4d', 'openmmlab.json', 'resnext50_32x4d'),
        # An old name, by MMEngine's table of those
        (
            'open-mmlab://resnet50_caffe',
            'openmmlab.json',
            'detectron/resnet50_caffe',
        ),
        ('mmcls://vgg11', 'mmcls.json', 'vgg11'),
    ],
)
def test_addresses_are_those_of_mmengines_tables(
    address: str, table: str, name: str, fetched: list[str]
) -> None:
    loaded = CheckpointLoader.load_checkpoint(address, map_location='cpu')
    assert fetched == [json.loads((HUB / table).read_text())[name]]
    state = loaded.get('state_dict', loaded)
    # Of a classifier the backbone is meant, by its own names.
    assert set(state) == ({'a'} if 'mmcls' in address else {'backbone.a', 'head.b'})


def test_address_that_no_table_has_is_named() -> None:
    with pytest.raises(
        KeyError, match=r'open-mmlab://resnext50_32x4 is not in .*_32x4d'
    ):
        CheckpointLoader.load_checkpoint('open-mmlab://resnext50_32x4')


@pytest.mark.parametrize('address', ['s3://bucket/sam2.pt', 'cluster:petrel://sam2.pt'])
def test_object_store_is_read_by_mmengines_backend(
    address: str, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Tensor]
) -> None:
    content = io.BytesIO()
    torch.save({'model': map_to_released(weights)}, content)

    class Backend:
        """As MMEngine's."""

        def get(self, name: str) -> bytes:
            """What is stored."""
            assert name == address
            return content.getvalue()

    monkeypatch.setattr(reading, 'get_file_backend', lambda *_, **__: Backend())
    _assert_holds(CheckpointLoader.load_checkpoint(address), weights)


def test_reader_that_someone_else_registered_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme('https://', dict, force=True)
    reading._replace_readers()
    assert CheckpointLoader._schemes.pop('https://') is dict
    readers = CheckpointLoader._schemes.values()
    assert {reader.__module__ for reader in readers} == {reading.__name__}


def test_checkpoint_of_an_ordinary_run_comes_as_it_was_saved(tmp_path: Path) -> None:
    hook = {'type': 'CheckpointHook', 'interval': 1}
    train(toy_config(tmp_path, train_cfg__max_epochs=1, default_hooks__checkpoint=hook))
    path = tmp_path / 'epoch_1.pth'
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    # As safe as the file, which was written a line before.
    expected = torch.load(path, weights_only=False)['message_hub']
    hub = CheckpointLoader.load_checkpoint(str(path))['message_hub']
    assert hub['runtime_info'] == expected['runtime_info']
    assert hub['log_scalars'].keys() == expected['log_scalars'].keys() != set()
    for name, buffer in hub['log_scalars'].items():
        assert type(buffer) is HistoryBuffer
        for given, wanted in zip(
            buffer.data, expected['log_scalars'][name].data, strict=True
        ):
            assert np.array_equal(given, wanted)
    assert train(toy_config(tmp_path, resume=True, train_cfg__max_epochs=2)).iter == 12


@pytest.mark.parametrize(
    'value',
    [
        np.float64(2.5),
        np.bool_(True),
        np.arange(6, dtype='>i2').reshape(2, 3).T,
        np.array(['a', 'bcd']),
        np.zeros((0, 2)),
    ],
)
def test_numbers_and_arrays_of_numpy_are_read(
    value: np.generic | npt.NDArray[Any], tmp_path: Path
) -> None:
    (read,) = _load(tmp_path / 'x.pth', {'meta': (value,), 'again': value})['meta']
    assert type(read) is type(value)
    assert np.array_equal(read, value)


def test_users_own_list_of_safe_classes_is_left_as_it_was(tmp_path: Path) -> None:
    with torch.serialization.safe_globals([Fraction, np.ndarray]):
        before = torch.serialization.get_safe_globals()
        loaded = _load(tmp_path / 'x.pth', {'a': np.ones(2), 'b': Fraction(1, 2)})
        assert set(torch.serialization.get_safe_globals()) == set(before)
    assert loaded['b'] == Fraction(1, 2)
    assert np.array_equal(loaded['a'], np.ones(2))


class Command:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path, call: str) -> None:
        self.marker = marker
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle is to call."""
        if self.call == 'os.system':
            return os.system, (f'touch {self.marker}',)
        if self.call == 'exec':
            return exec, (EVIL.format(str(self.marker)),)
        return getattr, (self.marker, 'touch')


ADDRESSES: dict[str, Callable[[Path], str]] = {
    'path': str,
    'http': lambda path: f'https://example.org/{path.name}',
    'torchvision': lambda _: 'torchvision://resnet50',
    'open-mmlab': lambda _: 'open-mmlab://resnext50_32x4d',
    'mmcls': lambda _: 'mmcls://vgg11',
}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('way', ['zip', 'legacy', 'pickle'])
@pytest.mark.parametrize('call', ['os.system', 'exec', 'getattr'])
def test_command_in_a_file_is_never_run(
    call: str,
    way: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, marker = tmp_path / f'evil{suffix}', tmp_path / 'marker'
    command = Command(marker, call)
    saved = {'state_dict': {'a': torch.ones(1)}, 'log': command}
    if way == 'pickle':
        path.write_bytes(pickle.dumps(saved))
    else:
        torch.save(saved, path, _use_new_zipfile_serialization=way == 'zip')
    content = path.read_bytes()
    monkeypatch.setattr(reading, 'fetch_into_cache', lambda _: path)
    for address in ADDRESSES.values():
        if not path.exists():  # the cache drops what cannot be read
            path.write_bytes(content)
        with contextlib.suppress(ValueError):
            loaded = CheckpointLoader.load_checkpoint(address(path))
            # The stand-in for getattr gives nothing to call.
            assert call == 'getattr'
            assert loaded.get('log') is None
    assert not marker.exists()


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
