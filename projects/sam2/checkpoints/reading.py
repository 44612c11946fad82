"""Reads checkpoints of several origins as MMEngine wants them.

A file or folder says by its keys what it is; see ``FORMATS``. To read another kind,
add a row. Nothing in a file is ever run.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.runner import CheckpointLoader

from projects.sam2.checkpoints.fetching import fetch
from projects.sam2.checkpoints.key_map import (
    UnknownKeyError,
    map_from_huggingface,
    map_from_released,
    to_huggingface,
    to_released,
)
from projects.sam2.checkpoints.safetensors_files import (
    SUFFIX,
    read_safetensors,
    read_safetensors_folder,
)

__all__ = [
    'FORMATS',
    'MODEL_SIGN',
    'SOURCE_FIELD',
    'TRAINED_FIELD',
    'CheckpointFormat',
    'read_checkpoint',
    'read_checkpoint_url',
    'refuse_checkpoint',
]

Checkpoint = dict[str, Any]

# A weight that every version and size has.
MODEL_SIGN = 'prompt_encoder.position_encoding.gaussian_matrix'
RELEASED_SIGN = to_released(MODEL_SIGN)
# The first SAM has the other sign as well, under the same name.
HUGGINGFACE_SIGN = to_huggingface('image_encoder.backbone.position_embedding')
# Where a checkpoint came from, noted for the errors of those who use it.
SOURCE_FIELD = 'source'
# MMEngine's EMA hook exchanges the two on saving: the average stands where weights are
# loaded from, the trained ones in the field that is called after the average.
TRAINED_FIELD = 'ema_state_dict'
# MMEngine's other readers, by its own patterns; they run code that a file holds.
REFUSED_PREFIXES = (
    'pavi://',
    r'(\S+\:)?s3://',
    r'(\S+\:)?petrel://',
    'modelzoo://',
    'torchvision://',
    'open-mmlab://',
    'openmmlab://',
    'mmcls://',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFormat:
    """One kind of file.

    Attributes:
        recognise: Tells by the keys whether a loaded file is of this kind.
        convert: Makes ``{'state_dict': weights by our names, ...}`` of it.
    """

    recognise: Callable[[Checkpoint], bool]
    convert: Callable[[Checkpoint], Checkpoint]


def _released_weights(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Weights by released names, empty where there are none."""
    for weights in (checkpoint.get('model'), checkpoint):
        if isinstance(weights, Mapping) and RELEASED_SIGN in weights:
            return weights
    return {}


FORMATS: tuple[CheckpointFormat, ...] = (
    # Released, or written by the released trainer (whose optimizer is of no use here)
    CheckpointFormat(
        recognise=lambda checkpoint: bool(_released_weights(checkpoint)),
        convert=lambda checkpoint: {
            'state_dict': map_from_released(_released_weights(checkpoint))
        },
    ),
    # Written by Hugging Face's transformers
    CheckpointFormat(
        recognise=lambda checkpoint: HUGGINGFACE_SIGN in checkpoint,
        convert=lambda checkpoint: {'state_dict': map_from_huggingface(checkpoint)},
    ),
    # A bare state dict of ours
    CheckpointFormat(
        recognise=lambda checkpoint: MODEL_SIGN in checkpoint,
        convert=lambda checkpoint: {'state_dict': checkpoint},
    ),
    # Written by MMEngine's Runner
    CheckpointFormat(
        recognise=lambda checkpoint: 'state_dict' in checkpoint, convert=dict
    ),
)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def read_checkpoint(
    filename: str, map_location: str | torch.device | None = None
) -> Checkpoint:
    """Read a checkpoint; MMEngine calls this for every local path.

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
        TypeError: If the file holds no dict.
        ValueError: If the file is damaged, or holds more than tensors and plain data.
        UnknownKeyError: If it is SAM 2, but has a weight that no SAM 2 has.
        ImportError: If it is in safetensors and that package is missing.
    """
    path = Path(filename).expanduser()
    if path.is_dir():
        loaded: object = read_safetensors_folder(path, map_location or 'cpu')
    elif not path.is_file():
        msg = f'{path} does not exist; give the path of a checkpoint'
        raise FileNotFoundError(msg)
    else:
        loaded = _loaded(path, map_location)
    return _converted(loaded, str(path))


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def read_checkpoint_url(
    url: str, map_location: str | torch.device | None = None
) -> Checkpoint:
    """Fetch a checkpoint into torch's cache and read it.

    Args:
        url: Address of the file.
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        As :func:`read_checkpoint`.

    Raises:
        OSError: If the file cannot be fetched.
        TypeError: If it holds no dict.
        ValueError: If it is damaged, or holds more than tensors and plain data; the
            cache does not keep it then.
        UnknownKeyError: If it is SAM 2, but has a weight that no SAM 2 has.
        ImportError: If it is in safetensors and that package is missing.
    """
    path = fetch(url)
    try:
        loaded = _loaded(path, map_location)
    except ValueError as error:
        msg = f'{url} was fetched, but {error}. {_dropped_if_bad(path)}'
        raise ValueError(msg) from error
    return _converted(loaded, url)


@CheckpointLoader.register_scheme(prefixes=REFUSED_PREFIXES, force=True)
def refuse_checkpoint(
    filename: str,
    map_location: str | torch.device | None = None,  # noqa: ARG001  the interface
) -> NoReturn:
    """Refuse addresses that MMEngine would read with all code that the file holds.

    Args:
        filename: The address.
        map_location: Not used.

    Raises:
        ValueError: Always.
    """
    msg = (
        f'{filename}: reading addresses of this kind could run code that the file '
        f'holds; download the file and give its path'
    )
    raise ValueError(msg)


def _dropped_if_bad(path: Path) -> str:
    """Remove a file of the cache that cannot be read, and say what to do."""
    try:
        _loaded(path, 'cpu')
    except ValueError:
        path.unlink(missing_ok=True)
        return (
            f'{path} was removed: try once more, or fetch the file by other means and '
            f'give its path'
        )
    return f'{path} is whole and stays: it can be read on the CPU'


def _loaded(path: Path, map_location: str | torch.device | None) -> object:
    """Read a file of any kind."""
    if path.suffix == SUFFIX:
        return read_safetensors(path, map_location or 'cpu')
    return _unpickled(path, map_location)


def _unpickled(path: Path, map_location: str | torch.device | None) -> object:
    """Read a file that ``torch.save`` wrote."""
    try:
        # Nothing else may run code on loading.
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f'{path} is no checkpoint, or holds objects that may run code on loading; '
            f'save its state dict alone, or plain types beside it ({_reason(error)})'
        )
        raise ValueError(msg) from error
    # The unpickler takes the bytes of a text for instructions.
    except (EOFError, RuntimeError, LookupError, struct.error) as error:
        msg = (
            f'{path} ({path.stat().st_size} bytes) is no checkpoint, or damaged: '
            f'{error}; fetch it again, or take another one (of your own run, --resume '
            f'without a name finds the newest that is whole)'
        )
        raise ValueError(msg) from error


def _reason(error: pickle.UnpicklingError) -> str:
    """What torch found, without its advice to let the file run code."""
    *_, found = str(error).split('WeightsUnpickler error:')
    return found.strip().split('\n', 1)[0].split(' Please use ', 1)[0]


def _converted(loaded: object, source: str) -> Checkpoint:
    """Convert a file of a known kind and note its source; leave others as they are."""
    if not isinstance(loaded, dict):
        msg = f'Expected {source} to hold a dict, but got {type(loaded).__name__}'
        raise TypeError(msg)
    loaded = _without_code(loaded)
    for known in FORMATS:
        if known.recognise(loaded):
            try:
                return {**known.convert(loaded), SOURCE_FIELD: source}
            except (UnknownKeyError, ValueError) as error:
                raise type(error)(f'{source}: {error}') from error
    return loaded


def _without_code(checkpoint: Checkpoint) -> Checkpoint:
    """Leave out the config that MMEngine's Runner would run as Python on resuming.

    Only files of old versions have it; today's Runner writes ``cfg`` and reads none.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or 'config' not in meta:
        return checkpoint
    kept = {key: value for key, value in meta.items() if key != 'config'}
    return {**checkpoint, 'meta': kept}
