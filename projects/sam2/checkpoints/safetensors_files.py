"""Reads and writes safetensors: files that hold tensors and nothing that could run."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from projects.sam2.checkpoints.foreign_files import (
    CheckpointFileError,
    refuse_foreign,
)
from projects.sam2.ops import import_optional

__all__ = [
    'SUFFIX',
    'WEIGHTS_FILE',
    'read_safetensors',
    'read_safetensors_folder',
    'write_safetensors',
]

SUFFIX = '.safetensors'
# Names that Hugging Face's transformers gives: one file, or shards and their index.
WEIGHTS_FILE = f'model{SUFFIX}'
INDEX_FILE = f'{WEIGHTS_FILE}.index.json'
FETCH_AGAIN = 'the file is damaged or was not fetched whole; fetch it again'
# An index names each weight once; one of thousands of weights has a few hundred kB.
MAX_INDEX_BYTES = 64 << 20


def read_safetensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """Read a file.

    Args:
        path: Of the file.
        device: Where the tensors go.

    Returns:
        The tensors by name.

    Raises:
        CheckpointFileError: If the file is truncated, claims more than it holds, or is
            no safetensors.
        ImportError: If the package is missing.
    """
    refuse_foreign(path)
    library = _library()
    try:
        loaded: dict[str, Tensor] = library.torch.load_file(path, device=str(device))
    except (library.SafetensorError, MemoryError, RuntimeError, ValueError) as error:
        msg = f'{path} ({path.stat().st_size} bytes) is no whole safetensors file: '
        problem = str(error).partition('\n')[0] or type(error).__name__
        raise CheckpointFileError(f'{msg}{problem}; {FETCH_AGAIN}') from error
    return loaded


def read_safetensors_folder(
    folder: Path, device: str | torch.device
) -> dict[str, Tensor]:
    """Read the weights of a folder that transformers wrote, in one file or in shards.

    Args:
        folder: With ``model.safetensors``, or its shards and their index.
        device: Where the tensors go.

    Returns:
        The tensors by name.

    Raises:
        FileNotFoundError: If there are no weights, or a shard is missing.
        CheckpointFileError: If a file is damaged, or a shard lacks weights that the
            index names.
        ImportError: If the package is missing.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return read_safetensors(folder / WEIGHTS_FILE, device)
    index = folder / INDEX_FILE
    if not index.is_file():
        msg = (
            f'{folder} is a folder without {WEIGHTS_FILE} or {INDEX_FILE}; give a '
            f'checkpoint file, or a folder that transformers wrote with safetensors'
        )
        raise FileNotFoundError(msg)
    shard_of = _read_index(index)
    shards = sorted(set(shard_of.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        msg = (
            f'{folder} lacks {len(missing)} of the {len(shards)} files that '
            f'{INDEX_FILE} names: {", ".join(missing)}; fetch them'
        )
        raise FileNotFoundError(msg)
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= read_safetensors(folder / shard, device)
    lost = sorted(shard_of.keys() - weights.keys())
    if lost:
        msg = (
            f'{folder}: {len(lost)} weights that {INDEX_FILE} names are in no file, '
            f'{lost[0]} in {shard_of[lost[0]]} among them; fetch the folder again'
        )
        raise CheckpointFileError(msg)
    return weights


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a file that transformers reads.

    Args:
        path: Of the file.
        weights: Tensors by name; no two may share their memory.

    Raises:
        ImportError: If the package is missing.
    """
    whole = {key: value.contiguous() for key, value in weights.items()}
    library = _library()
    path.touch()
    mode = path.stat().st_mode
    # transformers refuses a file that does not name its framework.
    library.torch.save_file(whole, path, metadata={'format': 'pt'})
    # Written for its owner's eyes alone; others may read it as any other new file.
    path.chmod(mode)


def _read_index(path: Path) -> dict[str, str]:
    """File of each weight; files lie beside the index."""
    size = path.stat().st_size
    if size > MAX_INDEX_BYTES:
        msg = f'{path} has {size} bytes, too many for an index; {FETCH_AGAIN}'
        raise CheckpointFileError(msg)
    try:
        shard_of = json.loads(path.read_text(encoding='utf-8'))['weight_map']
        is_flat = all(Path(shard).name == shard for shard in shard_of.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f'{path} is no index of safetensors ({error!r}); {FETCH_AGAIN}'
        raise CheckpointFileError(msg) from error
    if not is_flat:
        msg = f'{path} names files outside its folder; fetch it from another source'
        raise CheckpointFileError(msg)
    return {str(key): str(shard) for key, shard in shard_of.items()}


def _library() -> ModuleType:
    """The package, asked for only where a file of this kind is at hand."""
    import_optional('safetensors.torch', purpose='A file of safetensors')
    return import_module('safetensors')
