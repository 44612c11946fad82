"""Reads checkpoints from files, folders and URLs, and replaces MMEngine's readers.

The readers of some MMEngine versions run code from the file; these never do. Otherwise
they do the same: URLs and model names mean what MMEngine's tables say, files of other
projects are returned unchanged, and readers that someone else has registered stay.
"""

import tempfile
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.fileio import get_file_backend
from mmengine.fileio import load as load_json
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from ..ops.fetching import fetch, file_name_of
from .files import (
    SAVE_WEIGHTS,
    CheckpointFileError,
    MapLocation,
    load_file,
    read_safetensors_folder,
)
from .key_map import UnknownKeyError
from .released import RELEASED, cache_folder, find_file, missing_file_message
from .weights import find_weights

Checkpoint = dict[str, Any]
Reader = Callable[[str, MapLocation], Checkpoint]

SOURCE_FIELD = 'source'  # path or URL of the checkpoint, for later errors
# MMEngine's EMA hook swaps the two on saving: 'state_dict' holds the average, which is
# what should be loaded, and 'ema_state_dict' the trained weights.
TRAINED_FIELD = 'ema_state_dict'
STATE_FIELD = 'state_dict'
MMCLS_BACKBONE = 'backbone.'


def read_checkpoint(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        filename: Path of a file, or of a folder that Hugging Face's transformers wrote,
            or name of a file that was downloaded, as for :func:`find_file`.
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        For a SAM 2 of any kind, a checkpoint with ``'state_dict'`` by our names and its
        ``'source'``; else what the file holds, as MMEngine itself would return it.
        ``meta`` comes without ``'config'``, which a resumed run would execute.

    Raises:
        FileNotFoundError: If there is no such file, or a part of it is missing.
        CheckpointFileError: If the file is damaged, no checkpoint, holds no dict, or
            holds more than tensors and plain data.
        UnknownKeyError: If it is SAM 2, but has a weight that no SAM 2 has.
        ImportError: If it is a safetensors file and that package is missing.
    """
    path = find_file(filename)
    if path is None:
        raise FileNotFoundError(missing_file_message(filename))
    if path.is_dir():
        loaded: object = read_safetensors_folder(path, map_location or 'cpu')
    else:
        loaded = load_file(path, map_location)
    return _with_our_names(loaded, str(path))


def read_checkpoint_url(url: str, map_location: MapLocation = None) -> Checkpoint:
    """Download a checkpoint into torch's cache and read it.

    Returns:
        As :func:`read_checkpoint`.

    Raises:
        OSError: If the file cannot be fetched.
        CheckpointFileError: As :func:`read_checkpoint`; the cache does not keep a file
            that cannot be read.
        UnknownKeyError: As :func:`read_checkpoint`.
        ImportError: As :func:`read_checkpoint`.
    """
    path = fetch_into_cache(url)
    try:
        loaded = load_file(path, map_location)
    except CheckpointFileError as error:
        msg = f'{url} was fetched, but {error}. {_remove_if_damaged(path)}'
        raise CheckpointFileError(msg) from error
    return _with_our_names(loaded, url)


def _remove_if_damaged(path: Path) -> str:
    """Remove a cached file that cannot be read on the CPU, and say what to do."""
    try:
        load_file(path, 'cpu')
    except ValueError:
        path.unlink(missing_ok=True)
        return (
            f'{path} was removed: try once more, or fetch the file by other means and '
            f'give its path'
        )
    return f'{path} is whole and stays: it can be read on the CPU'


def _with_our_names(loaded: object, source: str) -> Checkpoint:
    """Rename the weights of a SAM 2 and add the source; leave other files unchanged."""
    if not isinstance(loaded, dict):
        msg = (
            f'Expected {source} to hold a dict, but got {type(loaded).__name__}; '
            f'{SAVE_WEIGHTS}'
        )
        raise CheckpointFileError(msg)
    meta = loaded.get('meta')
    if isinstance(meta, Mapping) and 'config' in meta:
        # Of old versions of MMEngine, whose Runner runs it as Python on resuming.
        kept = {key: value for key, value in meta.items() if key != 'config'}
        loaded = {**loaded, 'meta': kept}
    try:
        result = find_weights(loaded)
    except (UnknownKeyError, ValueError) as error:
        raise type(error)(f'{source}: {error}') from error
    if result is None:
        return {**loaded, SOURCE_FIELD: source} if STATE_FIELD in loaded else loaded
    field, weights = result
    # A checkpoint of MMEngine also has what a run needs to resume.
    others = loaded if field == STATE_FIELD else {}
    return {**others, STATE_FIELD: weights, SOURCE_FIELD: source}


def fetch_into_cache(url: str) -> Path:
    """Fetch a file into torch's cache, unless the cache has it already.

    A released file is checked against its known hash.

    Raises:
        ValueError: If the URL names no file, or a released file has another hash.
        OSError: If the file cannot be fetched or stored.
    """
    path = cache_folder() / file_name_of(url)
    if not path.is_file():
        released = next((weights for weights in RELEASED if weights.url == url), None)
        if released is None:
            fetch(url, path)
        else:
            fetch(url, path, num_bytes=released.num_bytes, sha256=released.sha256)
    return path


# ------------------------------------------------------- Readers of MMEngine's schemes


def load_from_local(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a local path; MMEngine logs what follows ``load_from_`` in this name."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a URL."""
    return read_checkpoint_url(filename, map_location)


def load_from_torchvision(
    filename: str, map_location: MapLocation = None
) -> Checkpoint:
    """Read weights by torchvision's name; torchvision need not be installed."""
    try:
        import_module('torchvision')
    except ImportError:
        table = Path(mmengine_checkpoint.__file__).parents[1] / 'hub'
        urls = load_json(table / 'torchvision_0.12.json')
    else:
        urls = mmengine_checkpoint.get_torchvision_models()
    url = _look_up(filename, _name_of(filename), urls)
    return read_checkpoint_url(url, map_location)


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read weights by OpenMMLab's name for them."""
    name = _name_of(filename)
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    target = _look_up(filename, name, mmengine_checkpoint.get_external_models())
    if target.startswith(('http://', 'https://')):
        return read_checkpoint_url(target, map_location)
    # The user's own table may name files beside it.
    home = mmengine_checkpoint._get_mmengine_home()  # noqa: SLF001  it has no public name
    return read_checkpoint(str(Path(home) / target), map_location)


def load_from_mmcls(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read the backbone of a classifier by MMClassification's name for it."""
    models = mmengine_checkpoint.get_mmcls_models()
    url = _look_up(filename, _name_of(filename), models)
    loaded = read_checkpoint_url(url, map_location)
    state = loaded.get(STATE_FIELD, loaded)
    return {
        STATE_FIELD: {
            key.removeprefix(MMCLS_BACKBONE): value
            for key, value in state.items()
            if key.startswith(MMCLS_BACKBONE)
        }
    }


def load_from_ceph(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a file of an object store (S3, Ceph) by MMEngine's file backend."""
    backend = get_file_backend(filename, backend_args={'backend': 'petrel'})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(filename).name
        path.write_bytes(backend.get(filename))
        return _with_our_names(load_file(path, map_location), filename)


def load_from_pavi(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a file of SenseTime's model cloud, where its package is installed."""
    model = import_module('pavi').modelcloud.get(_name_of(filename))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / model.name
        model.download(str(path))
        return _with_our_names(load_file(path, map_location), filename)


def _name_of(address: str) -> str:
    """What follows the scheme of an address."""
    return address.partition('://')[2]


def _look_up(address: str, name: str, table: Mapping[str, str]) -> str:
    """Look up a named model in one of MMEngine's tables."""
    if name not in table:
        near = get_close_matches(name, table, n=3)
        hint = f'; it has {", ".join(near)}' if near else ''
        msg = (
            f"{address} is not in MMEngine's table of models{hint}; correct the name, "
            f'or give the path of a file'
        )
        raise KeyError(msg)
    return table[name]


# By MMEngine's patterns of addresses.
READERS: dict[str, Reader] = {
    '': load_from_local,
    'http://': load_from_http,
    'https://': load_from_http,
    'modelzoo://': load_from_torchvision,
    'torchvision://': load_from_torchvision,
    'open-mmlab://': load_from_openmmlab,
    'openmmlab://': load_from_openmmlab,
    'mmcls://': load_from_mmcls,
    'pavi://': load_from_pavi,
    r'(\S+\:)?s3://': load_from_ceph,
    r'(\S+\:)?petrel://': load_from_ceph,
}


def _replace_readers() -> None:
    """Replace MMEngine's own readers; keep those that others have registered."""
    for prefix, reader in READERS.items():
        present = CheckpointLoader._schemes.get(prefix)  # noqa: SLF001  it has no public name
        if present is None or present.__module__ == mmengine_checkpoint.__name__:
            CheckpointLoader.register_scheme(prefix, reader, force=True)


_replace_readers()
