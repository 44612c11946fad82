"""Files and sharded folders of safetensors, whole and damaged."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_models import assert_same_weights
from projects.sam2.checkpoints.files import (
    INDEX_FILE,
    WEIGHTS_FILE,
    read_safetensors,
    read_safetensors_folder,
    write_safetensors,
)

SHARDS = ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {
        'b.weight': torch.randn(3, 4).t(),
        'a': torch.randn(2).bfloat16(),
        'c': torch.arange(3),
    }


@pytest.fixture
def sharded(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    """A folder with the weights in two shards."""
    shard_of = {key: SHARDS[key == 'a'] for key in weights}
    for shard in SHARDS:
        part = {key: value for key, value in weights.items() if shard_of[key] == shard}
        write_safetensors(tmp_path / shard, part)
    index = {'metadata': {}, 'weight_map': shard_of}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    return tmp_path


def test_file_comes_back_with_every_bit(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    path = tmp_path / WEIGHTS_FILE
    write_safetensors(path, weights)
    assert_same_weights(read_safetensors(path, 'cpu'), weights)
    assert_same_weights(read_safetensors_folder(tmp_path, torch.device('cpu')), weights)


def test_file_may_be_read_by_those_who_read_other_new_files(tmp_path: Path) -> None:
    (tmp_path / 'other').touch()
    write_safetensors(tmp_path / WEIGHTS_FILE, {'a': torch.zeros(1)})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_shards_are_read_as_one(sharded: Path, weights: dict[str, Tensor]) -> None:
    assert_same_weights(read_safetensors_folder(sharded, 'cpu'), weights)


@pytest.mark.parametrize('kept', [0, 5, 60, -1])
def test_truncated_file_names_itself_its_size_and_the_remedy(
    tmp_path: Path, weights: dict[str, Tensor], kept: int
) -> None:
    path = tmp_path / WEIGHTS_FILE
    write_safetensors(path, weights)
    path.write_bytes(path.read_bytes()[:kept])
    size = path.stat().st_size
    with pytest.raises(ValueError, match=rf'{WEIGHTS_FILE} \({size} bytes\).*again'):
        read_safetensors_folder(tmp_path, 'cpu')


def test_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SHARDS[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf'lacks 1 of the 2 .*{SHARDS[1]}'):
        read_safetensors_folder(sharded, 'cpu')


def test_shard_without_its_weights_is_named(sharded: Path) -> None:
    write_safetensors(sharded / SHARDS[1], {'other': torch.zeros(1)})
    with pytest.raises(ValueError, match=rf'1 weights .* a in {SHARDS[1]}'):
        read_safetensors_folder(sharded, 'cpu')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: text[:20], 'is no index of safetensors'),
        (lambda text: text.replace('weight_map', 'map'), 'is no index of safetensors'),
        (lambda _: '[]', 'is no index of safetensors'),
        (lambda _: '{"weight_map": {"a": 3}}', 'is no index of safetensors'),
        (lambda text: text.replace(SHARDS[0], '../x'), 'files outside its folder'),
    ],
)
def test_damaged_index_is_an_error_that_names_it(
    sharded: Path, damage: Callable[[str], str], message: str
) -> None:
    index = sharded / INDEX_FILE
    index.write_text(damage(index.read_text()))
    with pytest.raises(ValueError, match=f'{INDEX_FILE} .*{message[3:]}'):
        read_safetensors_folder(sharded, 'cpu')


def test_folder_of_something_else_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f'a folder without {WEIGHTS_FILE}'):
        read_safetensors_folder(tmp_path, 'cpu')


def test_absent_package_is_an_error_with_the_command_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path / WEIGHTS_FILE, {'a': torch.zeros(1)})
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        read_safetensors_folder(tmp_path, 'cpu')
