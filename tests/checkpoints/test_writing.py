"""Each kind of checkpoint is written as its owners write it, whole or not at all."""

import json
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_models import (
    RELEASED_MODELS,
    assert_same_weights,
    meta_model,
    released_config,
    small_config,
    small_model,
    write_small,
)
from golden_models import tiny_config
from projects.sam2.checkpoints import (
    CheckpointKind,
    map_to_released,
    read_checkpoint,
    write_checkpoint,
)

KINDS = [kind.value for kind in CheckpointKind]


@pytest.fixture(scope='module')
def weights() -> dict[str, Tensor]:
    return dict(small_model().state_dict())


def _write(target: Path, weights: dict[str, Tensor], kind: str) -> None:
    write_checkpoint(target, weights, CheckpointKind(kind), small_config())


@pytest.mark.parametrize('name', RELEASED_MODELS)
def test_every_weight_of_every_model_returns_through_all_kinds(
    name: str, tmp_path: Path
) -> None:
    keys = meta_model(name).state_dict().keys()
    # A number in place of each weight tells which one it was.
    wanted = {key: torch.full((1, 1), float(n)) for n, key in enumerate(keys)}
    weights: dict[str, Tensor] = dict(wanted)
    for kind in CheckpointKind:
        write_checkpoint(tmp_path / kind.value, weights, kind, released_config(name))
        weights = read_checkpoint(str(tmp_path / kind.value))['state_dict']
        assert_same_weights(weights, wanted)


@pytest.mark.parametrize(('first', 'second'), list(permutations(KINDS, 2)))
def test_weights_survive_two_conversions_bit_for_bit(
    first: str, second: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    there, back = tmp_path / 'there', tmp_path / 'back'
    _write(there, weights, first)
    _write(back, read_checkpoint(str(there))['state_dict'], second)
    assert_same_weights(read_checkpoint(str(back))['state_dict'], weights)


def test_released_file_has_the_released_layout(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2.pt', weights, 'released')
    content = torch.load(tmp_path / 'sam2.pt', weights_only=True)
    assert content.keys() == {'model'}
    assert_same_weights(content['model'], map_to_released(weights))


def test_our_file_has_the_layout_of_mmengine(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2.pth', weights, 'mmsam2')
    content = torch.load(tmp_path / 'sam2.pth', weights_only=True)
    assert content.keys() == {'state_dict'}
    assert_same_weights(content['state_dict'], weights)


def test_folder_of_transformers_has_its_two_files(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    _write(tmp_path / 'sam2', weights, 'huggingface')
    names = sorted(path.name for path in (tmp_path / 'sam2').iterdir())
    assert names == ['config.json', 'model.safetensors']
    config = json.loads((tmp_path / 'sam2' / 'config.json').read_text())
    assert config['model_type'] == 'sam2_video'


@pytest.mark.parametrize('kind', ['released', 'mmsam2'])
def test_same_weights_give_the_same_bytes_in_any_order_under_any_name(
    kind: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    turned = dict(reversed(weights.items()))
    for name, state in (('a.pth', weights), ('another.pt', turned)):
        _write(tmp_path / name, state, kind)
    one, other = (path.read_bytes() for path in tmp_path.iterdir())
    assert one == other


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_that_exists_is_overwritten(kind: str, tmp_path: Path) -> None:
    model = small_model()
    for target in (tmp_path / 'file', tmp_path / 'folder' / 'inner'):
        target.parent.mkdir(exist_ok=True)
        target.write_text('kept')
    for target in (tmp_path / 'file', tmp_path / 'folder'):
        with pytest.raises(FileExistsError, match=f'{target.name} exists; remove it'):
            write_small(target, kind, model)
    assert (tmp_path / 'file').read_text() == 'kept'
    assert (tmp_path / 'folder' / 'inner').read_text() == 'kept'


@pytest.mark.parametrize('kind', ['released', 'mmsam2'])
def test_file_is_not_begun_where_an_empty_folder_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, 'save', lambda *_: pytest.fail('began to write'))
    with pytest.raises(FileExistsError, match=f'is a folder.*{kind} is a file; name'):
        _write(tmp_path, {}, kind)
    assert tmp_path.is_dir()


def test_failed_write_leaves_nothing_behind(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='transformers has no SAM 2 like this'):
        write_checkpoint(
            tmp_path / 'sam2', weights, CheckpointKind.HUGGINGFACE, tiny_config()
        )
    with pytest.raises(KeyError, match=r"'own\.weight' is no known name"):
        _write(tmp_path / 'sam2.pt', {'own.weight': torch.zeros(1)}, 'released')
    assert not list(tmp_path.iterdir())
