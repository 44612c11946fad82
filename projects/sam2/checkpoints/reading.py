"""Reads checkpoints from files, folders and addresses, and replaces MMEngine's readers.

The readers of some MMEngine versions run code from the file; these never do. Addresses
mean what MMEngine's tables say, files of other projects are returned as MMEngine would
return them, and readers that someone else has registered stay.
"""

import tempfile
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.fileio import get_file_backend
from mmengine.fileio import load as load_json
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from .files import (
    CheckpointFileError,
    fetch,
    load_file,
    read_safetensors_folder,
)
from .key_map import MODEL_SIGN, UnknownKeyError, find_weights

__all__ = [
    'MODEL_SIGN',
    'SOURCE_FIELD',
    'TRAINED_FIELD',
    'read_checkpoint',
    'read_checkpoint_url',
]

Checkpoint = dict[str, Any]
MapLocation = str | torch.device | None
Reader = Callable[[str, MapLocation], Checkpoint]

# Where a checkpoint came from, noted for the errors of those who use it.
SOURCE_FIELD = 'source'
# MMEngine's EMA hook exchanges the two on saving: the average stands where weights are
# loaded from, the trained ones in the field that is called after the average.
TRAINED_FIELD = 'ema_state_dict'
STATE_FIELD = 'state_dict'
MMCLS_BACKBONE = 'backbone.'


def read_checkpoint(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        filename: Path of a file, or of a folder that Hugging Face's transformers
            wrote.
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        A checkpoint with ``'state_dict'`` by our names and its ``'source'``, if the
        file is of a known kind; else what the file holds, as MMEngine itself would
        give it. ``meta`` comes without ``'config'``, which a resumed run would
        execute.

    Raises:
        FileNotFoundError: If there is no such file, or a part of it is missing.
        CheckpointFileError: If the file is damaged, no checkpoint, holds no dict, or
            holds more than tensors and plain data.
        UnknownKeyError: If it is SAM 2, but has a weight that no SAM 2 has.
        ImportError: If it is in safetensors and that package is missing.
    """
    path = Path(filename).expanduser()
    if path.is_dir():
        loaded: object = read_safetensors_folder(path, map_location or 'cpu')
    else:
        loaded = load_file(path, map_location)
    return _converted(loaded, str(path))


def read_checkpoint_url(url: str, map_location: MapLocation = None) -> Checkpoint:
    """Fetch a checkpoint into torch's cache and read it.

    Args:
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        As :func:`read_checkpoint`.

    Raises:
        OSError: If the file cannot be fetched.
        CheckpointFileError: If it is damaged, no checkpoint, holds no dict, or holds
            more than tensors and plain data; the cache does not keep it then.
        UnknownKeyError: If it is SAM 2, but has a weight that no SAM 2 has.
        ImportError: If it is in safetensors and that package is missing.
    """
    path = fetch(url)
    try:
        loaded = load_file(path, map_location)
    except CheckpointFileError as error:
        msg = f'{url} was fetched, but {error}. {_dropped_if_bad(path)}'
        raise CheckpointFileError(msg) from error
    return _converted(loaded, url)


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
    url = _looked_up(filename, _name_of(filename), urls)
    return read_checkpoint_url(url, map_location)


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read weights by OpenMMLab's name for them."""
    name = _name_of(filename)
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    target = _looked_up(filename, name, mmengine_checkpoint.get_external_models())
    if target.startswith(('http://', 'https://')):
        return read_checkpoint_url(target, map_location)
    # The user's own table may name files beside it.
    home = mmengine_checkpoint._get_mmengine_home()  # noqa: SLF001  it has no public name
    return read_checkpoint(str(Path(home) / target), map_location)


def load_from_mmcls(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read the backbone of a classifier by MMClassification's name for it."""
    models = mmengine_checkpoint.get_mmcls_models()
    url = _looked_up(filename, _name_of(filename), models)
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
        return _converted(load_file(path, map_location), filename)


def load_from_pavi(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a file of SenseTime's model cloud, where its package is installed."""
    model = import_module('pavi').modelcloud.get(_name_of(filename))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / model.name
        model.download(str(path))
        return _converted(load_file(path, map_location), filename)


def load_from_local(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read a local path; MMEngine writes what follows ``load_from_`` into its log."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: MapLocation = None) -> Checkpoint:
    """Read an address of the web."""
    return read_checkpoint_url(filename, map_location)


# By MMEngine's own patterns of addresses.
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
    """Read in place of MMEngine's own readers; those of others stay."""
    for prefix, reader in READERS.items():
        present = CheckpointLoader._schemes.get(prefix)  # noqa: SLF001  it has no public name
        if present is None or present.__module__ == mmengine_checkpoint.__name__:
            CheckpointLoader.register_scheme(prefix, reader, force=True)


_replace_readers()


def _name_of(address: str) -> str:
    """What follows the scheme of an address."""
    return address.partition('://')[2]


def _looked_up(address: str, name: str, table: Mapping[str, str]) -> str:
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


def _dropped_if_bad(path: Path) -> str:
    """Remove a file of the cache that cannot be read, and say what to do."""
    try:
        load_file(path, 'cpu')
    except ValueError:
        path.unlink(missing_ok=True)
        return (
            f'{path} was removed: try once more, or fetch the file by other means and '
            f'give its path'
        )
    return f'{path} is whole and stays: it can be read on the CPU'


def _converted(loaded: object, source: str) -> Checkpoint:
    """Name the weights of a SAM 2 as we do and note the source; leave other files."""
    if not isinstance(loaded, dict):
        msg = (
            f'Expected {source} to hold a dict, but got {type(loaded).__name__}; save '
            f'the state dict: torch.save(model.state_dict(), path)'
        )
        raise CheckpointFileError(msg)
    loaded = _without_code(loaded)
    try:
        found = find_weights(loaded)
    except (UnknownKeyError, ValueError) as error:
        raise type(error)(f'{source}: {error}') from error
    if found is None:
        return {**loaded, SOURCE_FIELD: source} if STATE_FIELD in loaded else loaded
    field, weights = found
    # A checkpoint of MMEngine keeps what a run needs to go on.
    beside = loaded if field == STATE_FIELD else {}
    return {**beside, STATE_FIELD: weights, SOURCE_FIELD: source}


def _without_code(checkpoint: Checkpoint) -> Checkpoint:
    """Leave out the config that MMEngine's Runner would run as Python on resuming.

    Only files of old versions have it; today's Runner writes ``cfg`` and reads none.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or 'config' not in meta:
        return checkpoint
    kept = {key: value for key, value in meta.items() if key != 'config'}
    return {**checkpoint, 'meta': kept}
