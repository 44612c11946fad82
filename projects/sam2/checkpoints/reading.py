"""Reads checkpoints of several origins as MMEngine wants them.

A file says by its keys what it is; see ``FORMATS``. To read another kind, add a row.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import CheckpointLoader

from projects.sam2.checkpoints.key_map import map_from_released, to_released

__all__ = [
    'FORMATS',
    'MODEL_SIGN',
    'SOURCE_FIELD',
    'CheckpointFormat',
    'read_checkpoint',
    'read_checkpoint_url',
]

Checkpoint = dict[str, Any]

# A weight that every version and size has.
MODEL_SIGN = 'prompt_encoder.position_encoding.gaussian_matrix'
RELEASED_SIGN = to_released(MODEL_SIGN)
# Where a checkpoint came from, noted for the errors of those who use it.
SOURCE_FIELD = 'source'


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
    """Read a checkpoint file; MMEngine calls this for every local path.

    Args:
        filename: Path of the file.
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        A checkpoint with ``'state_dict'`` by our names and its ``'source'``, if the
        file is of a known kind; else what the file holds, as MMEngine itself would
        give it.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If the file holds no dict.
        ValueError: If the file is damaged, or holds more than tensors and plain data.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        kind = 'is a folder' if path.is_dir() else 'does not exist'
        msg = f'{path} {kind}; give the path of a checkpoint file'
        raise FileNotFoundError(msg)
    try:
        # Nothing else may run code on loading.
        loaded = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f'{path} is no checkpoint, or holds objects that may run code on loading; '
            f'save its state dict alone, or plain types beside it ({error})'
        )
        raise ValueError(msg) from error
    except (EOFError, RuntimeError) as error:
        msg = f'{path} cannot be read: {error}; if it is damaged, fetch it again'
        raise ValueError(msg) from error
    return _converted(loaded, str(path))


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def read_checkpoint_url(
    url: str, map_location: str | torch.device | None = None
) -> Checkpoint:
    """Fetch a checkpoint into torch's cache and read it.

    The main process goes first; those that share its cache fetch nothing.

    Args:
        url: Address of the file.
        map_location: Where the tensors go, as in ``torch.load``.

    Returns:
        As :func:`read_checkpoint`.
    """
    # The main process fills the cache that the others read.
    if not is_main_process():
        barrier()
    try:
        loaded = torch.hub.load_state_dict_from_url(
            url, map_location=map_location, progress=False, weights_only=True
        )
    finally:
        if is_main_process():
            barrier()
    return _converted(loaded, url)


def _converted(loaded: object, source: str) -> Checkpoint:
    """Convert a file of a known kind and note its source; leave others as they are."""
    if not isinstance(loaded, dict):
        msg = f'Expected {source} to hold a dict, but got {type(loaded).__name__}'
        raise TypeError(msg)
    for known in FORMATS:
        if known.recognise(loaded):
            return {**known.convert(loaded), SOURCE_FIELD: source}
    return loaded
