"""Names of Hugging Face's hub: folders and its cache, never the network."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_models import meta_model, small_model, write_small
from projects.sam2.apis.building import find_pretrained
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    map_to_released,
)

hub: Any = pytest.importorskip('huggingface_hub')
REVISION = '0' * 40
TINY = '_base_/models/sam2_1_tiny.py'


def _released_file(path: Path) -> Path:
    """A released file of tiny whose weights take no room."""
    shapes = {key: value.shape for key, value in meta_model(TINY).state_dict().items()}
    weights = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'model': map_to_released(weights)}, path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a machine without network."""
    monkeypatch.setattr(hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(hub.constants, 'HF_HUB_OFFLINE', True)
    return tmp_path / 'hub'


def _cached(cache: Path, model_id: str) -> Path:
    """Folder of a model in the cache."""
    model = cache / f'models--{model_id.replace("/", "--")}'
    snapshot = model / 'snapshots' / REVISION
    snapshot.mkdir(parents=True)
    (model / 'refs').mkdir()
    (model / 'refs' / 'main').write_text(REVISION)
    return snapshot


@pytest.mark.parametrize('inside', [True, False])
def test_file_and_folder_of_it_find_the_config_by_the_weights(
    *, inside: bool, tmp_path: Path
) -> None:
    file = _released_file(tmp_path / 'download' / 'any_name.pt')
    config, checkpoint = find_pretrained(str(file.parent if inside else file))
    assert config.filename.endswith(TINY)
    assert Path(checkpoint) == file


def test_folder_of_several_checkpoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / '._a.pt').touch()  # no data
    for name in ('a.pt', 'b.pt'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r'several checkpoints \(a\.pt, b\.pt\)'):
        find_pretrained(str(tmp_path))


def test_weights_of_no_released_size_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / 'mine'
    write_small(folder, CheckpointKind.HUGGINGFACE.value, small_model())
    with pytest.raises(CheckpointMismatchError, match='which no released config fits'):
        find_pretrained(str(folder))


def test_released_id_is_taken_from_the_cache(cache: Path) -> None:
    snapshot = _cached(cache, 'facebook/sam2.1-hiera-base-plus')
    file = snapshot / 'sam2.1_hiera_base_plus.pt'
    file.touch()
    config, checkpoint = find_pretrained('facebook/sam2.1-hiera-base-plus')
    assert config.filename.endswith('sam2_1_bplus.py')
    assert Path(checkpoint) == file


def test_id_of_somebody_else_means_a_folder_of_transformers(cache: Path) -> None:
    folder = _cached(cache, 'somebody/animals')
    write_small(folder / 'new', CheckpointKind.HUGGINGFACE.value, small_model())
    for file in (folder / 'new').iterdir():
        file.rename(folder / file.name)
    with pytest.raises(CheckpointMismatchError, match='no released config') as raised:
        find_pretrained('somebody/animals')
    assert str(raised.value).startswith(f'{folder} holds SAM 2.1')


@pytest.mark.usefixtures('cache')
@pytest.mark.parametrize('model_id', ['facebook/sam2-hiera-tiny', 'some/one', 'a b'])
def test_what_is_nowhere_says_what_to_do(model_id: str) -> None:
    with pytest.raises(OSError, match='or fetch it by other means and give') as raised:
        find_pretrained(model_id)
    assert str(raised.value).startswith(f'{model_id} is no file or folder')


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ModuleNotFoundError, match='pip install huggingface_hub'):
        find_pretrained('facebook/sam2-hiera-tiny')
