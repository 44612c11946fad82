"""Released weights: their names, where they are looked for, and what is trusted."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from address_server import AddressServer, serve
from bridge_models import meta_model
from projects.sam2 import installation
from projects.sam2.apis.building import find_pretrained
from projects.sam2.checkpoints import read_checkpoint, released
from projects.sam2.checkpoints.released import (
    RELEASED,
    cache_folder,
    checkpoint_folders,
    download,
    download_folder,
    find_file,
    near_names,
    released_weights,
)
from projects.sam2.ops.fetching import WrongFileError

TINY = 'sam2.1_hiera_tiny.pt'
CONTENT = b'weights of somebody'
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
from projects.sam2.installation import WEIGHTS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, away from a clone, and an empty cache of torch."""
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    monkeypatch.setattr(released, 'ROOT', tmp_path / 'clone')
    for module in (installation, released):
        monkeypatch.setattr(module, 'IS_WHEEL', True)
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.delenv('SAM2_CHECKPOINTS', raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return tmp_path


def put(folder: Path, name: str = TINY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(CONTENT)
    return folder / name


# ------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ('name', 'file_name'),
    [
        ('sam2.1_hiera_t', TINY),
        ('sam2.1_hiera_tiny', TINY),
        (TINY, TINY),
        (f'checkpoints/{TINY}', TINY),
        ('configs/sam2.1/sam2.1_hiera_t.yaml', TINY),
        ('facebook/sam2.1-hiera-tiny', TINY),
        ('sam2_1_tiny', TINY),
        ('_base_/models/sam2_1_tiny.py', TINY),
        ('sam2_hiera_b+', 'sam2_hiera_base_plus.pt'),
        ('facebook/sam2-hiera-base-plus', 'sam2_hiera_base_plus.pt'),
        ('sam2_0_bplus', 'sam2_hiera_base_plus.pt'),
        ('sam2.1_hiera_l.yaml', 'sam2.1_hiera_large.pt'),
        ('edgetam', 'edgetam.pt'),
        ('checkpoints/edgetam.pt', 'edgetam.pt'),
        ('configs/edgetam.yaml', 'edgetam.pt'),
        ('facebook/EdgeTAM', 'edgetam.pt'),
        ('_base_/models/edgetam.py', 'edgetam.pt'),
        ('elsewhere/edgetam.py', None),
        ('edgetam_mose', None),
        ('efficienttam_s_2', 'efficienttam_s_2.pt'),
        (
            'configs/efficienttam/efficienttam_ti_512x512.yaml',
            'efficienttam_ti_512x512.pt',
        ),
        ('efficienttam_ti_512', None),
        ('sam2.1_hiera_huge', None),
        ('sam2_1_mini', None),
        ('elsewhere/sam2_1_tiny.py', None),
        ('sam2.1_hiera_t512.yaml', None),
    ],
)
def test_each_spelling_means_its_file(name: str, file_name: str | None) -> None:
    weights = released_weights(name)
    assert (weights and weights.file_name) == file_name


def test_table_fits_the_models() -> None:
    """A file holds the weights in float32, and some percent of names and padding."""
    for weights in RELEASED:
        model = meta_model(weights.config)
        num_bytes = sum(value.nbytes for value in model.state_dict().values())
        if weights.num_bytes is not None:
            assert num_bytes < weights.num_bytes < 1.01 * num_bytes
    hashes = [weights.sha256 for weights in RELEASED if weights.sha256 is not None]
    assert {len(bytes.fromhex(sha256)) for sha256 in hashes} == {32}
    assert len({*hashes}) == len(hashes) > 8


def test_configs_start_from_released_files() -> None:
    """What the configs of the repository name can be downloaded."""
    texts = [path.read_text() for path in CONFIGS.glob('*.py')]
    names = re.findall(r"^load_from = '(.+)'", '\n'.join(texts), re.MULTILINE)
    # Weights that a licence guards, and those of an earlier stage.
    others = {name for name in names if name.startswith('work_dirs/')}
    others.add('checkpoints/sam3')
    assert len(names) > 10
    released = {f'checkpoints/{weights.file_name}' for weights in RELEASED}
    assert set(names) - others <= released


@pytest.mark.parametrize(
    ('name', 'nearest'),
    [
        ('sam2.1_hiera_tny', 'sam2.1_hiera_tiny'),
        ('sam2.1-hiera-smal.pt', 'sam2.1_hiera_small'),
        ('large', 'sam2.1_hiera_large'),
        ('vit_h', 'sam2.1_hiera_tiny'),
    ],
)
def test_similar_names_are_found(name: str, nearest: str) -> None:
    assert near_names(name)[0] == nearest


# ----------------------------------------------------------------------------- folders


def test_cache_is_that_of_torch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == home / 'hub' / 'checkpoints'
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    for variables in (
        {},
        {'XDG_CACHE_HOME': str(home / 'xdg')},
        {'TORCH_HOME': '~/torch', 'XDG_CACHE_HOME': str(home / 'xdg')},
    ):
        for variable in ('XDG_CACHE_HOME', 'TORCH_HOME'):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        expected = Path(torch.hub.get_dir()) / 'checkpoints'
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, 'torch.hub')
            assert cache_folder() == expected


def test_downloads_go_where_configs_look(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download_folder() == home / 'hub' / 'checkpoints'
    monkeypatch.setattr(released, 'IS_WHEEL', False)
    assert download_folder() == home / 'clone' / 'checkpoints'
    Path('checkpoints').mkdir()
    assert download_folder() == Path('checkpoints')
    monkeypatch.setenv('SAM2_CHECKPOINTS', str(home / 'shared'))
    assert download_folder() == home / 'shared'
    # In the root of a clone, its folder is made.
    monkeypatch.delenv('SAM2_CHECKPOINTS')
    (home / 'clone').mkdir()
    monkeypatch.chdir(home / 'clone')
    assert download_folder() == Path('checkpoints')
    assert checkpoint_folders() == [Path('checkpoints'), cache_folder(), WEIGHTS]


def test_weights_of_the_small_model_come_with_the_package(home: Path) -> None:
    assert find_file('sam2_mini.pth') == WEIGHTS / 'sam2_mini.pth'


def test_first_folder_that_has_the_file_is_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, 'IS_WHEEL', False)
    monkeypatch.setenv('SAM2_CHECKPOINTS', str(home / 'shared'))
    names = (
        TINY,
        f'checkpoints/{TINY}',
        'sam2.1_hiera_t',
        'facebook/sam2.1-hiera-tiny',
    )
    for folder in (
        home / 'hub' / 'checkpoints',
        home / 'clone' / 'checkpoints',
        Path('checkpoints'),
        home / 'shared',
    ):
        path = put(folder)
        for name in names[:1] + names[2:]:
            assert find_file(name) == path
    # A path of an existing file means that file.
    assert find_file(names[1]) == Path(names[1])
    assert find_file(f'other/{TINY}') is None
    assert find_file('sam2.1_hiera_t.yaml') is None


def test_missing_file_names_the_command(home: Path) -> None:
    for name in (TINY, f'checkpoints/{TINY}', 'sam2.1_hiera_t'):
        with pytest.raises(FileNotFoundError) as raised:
            CheckpointLoader.load_checkpoint(name, map_location='cpu')
        assert str(raised.value).startswith(f'{name} does not exist')
        assert str(raised.value).endswith(': mmsam2 download sam2.1_hiera_tiny')
    path = put(home / 'hub' / 'checkpoints')
    with pytest.raises(FileNotFoundError, match=f'give {path}'):
        read_checkpoint(f'other/{TINY}')


def test_name_loads_what_was_downloaded(home: Path) -> None:
    path = home / 'hub' / 'checkpoints' / 'mine.pth'
    path.parent.mkdir(parents=True)
    torch.save({'state_dict': {'a': torch.ones(2)}}, path)
    for name in ('mine.pth', 'checkpoints/mine.pth'):
        assert read_checkpoint(name)['source'] == str(path)
    put(path.parent)
    _, checkpoint = find_pretrained('facebook/sam2.1-hiera-tiny')
    assert checkpoint == str(path.parent / TINY)


# ----------------------------------------------------------------------------- hashes


@pytest.fixture
def server() -> Iterator[AddressServer]:
    with serve({'own.pt': CONTENT}) as running:
        yield running


def test_unknown_hash_is_refused_or_written_down(
    server: AddressServer, home: Path
) -> None:
    url = f'{server.url}own.pt'
    target = home / 'own.pt'
    with pytest.raises(ValueError, match='--trust-first'):
        download(url, target)
    assert server.requested == []
    assert download(url, target, trust_first=True) == SHA256
    notes = cache_folder() / 'known_hashes.json'
    assert json.loads(notes.read_text()) == {url: SHA256}
    server.answers['second.pt'] = CONTENT
    download(f'{server.url}second.pt', home / 'second.pt', trust_first=True)
    # From now on the hash is known, also to a file that exists.
    target.unlink()
    assert download(url, target) == SHA256
    target.write_bytes(b'changed')
    with pytest.raises(WrongFileError, match=r'own\.pt exists, but has the SHA-256'):
        download(url, target)
    assert target.read_bytes() == b'changed'
    server.answers['own.pt'] = b'replaced'
    for trust_first in (False, True):
        with pytest.raises(WrongFileError, match=r'written down in .*known_hashes'):
            download(url, home / 'other.pt', trust_first=trust_first)
    assert not (home / 'other.pt').exists()
    notes.write_text(json.dumps({url: 5}))
    with pytest.raises(ValueError, match='is not a table of hashes'):
        download(url, target)
    notes.write_text('{')
    with pytest.raises(ValueError, match=r'known_hashes\.json is damaged'):
        download(url, target)


def test_given_hash_counts_and_replacing_is_explicit(
    server: AddressServer, home: Path
) -> None:
    url = f'{server.url}own.pt'
    target = put(home, 'own.pt')
    assert download(url, target, sha256=SHA256) == SHA256
    assert server.requested == []
    target.write_bytes(b'damaged')
    with pytest.raises(WrongFileError, match=r'replace it \(--force\)'):
        download(url, target, sha256=SHA256)
    assert download(url, target, sha256=SHA256, replace=True) == SHA256
    assert target.read_bytes() == CONTENT
    assert not (cache_folder() / 'known_hashes.json').exists()
