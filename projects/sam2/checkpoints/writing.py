"""Writes weights as each kind of checkpoint; see ``WRITERS``."""

import json
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from projects.sam2.checkpoints.huggingface_config import huggingface_config
from projects.sam2.checkpoints.key_map import map_to_huggingface, map_to_released
from projects.sam2.checkpoints.safetensors_files import (
    WEIGHTS_FILE,
    write_safetensors,
)
from projects.sam2.ops import written_aside

__all__ = ['CheckpointKind', 'write_checkpoint']

Weights = Mapping[str, Tensor]
ModelConfig = Mapping[str, Any]


class CheckpointKind(Enum):
    """Whose checkpoint it is."""

    RELEASED = 'released'
    HUGGINGFACE = 'huggingface'
    MMSAM2 = 'mmsam2'


def write_checkpoint(
    target: Path, weights: Weights, kind: CheckpointKind, model: ModelConfig
) -> None:
    """Write weights; the target is whole or not there.

    The same weights give the same bytes, whatever order they come in.

    Args:
        target: A new file; for ``HUGGINGFACE`` a new folder.
        weights: By our names.
        kind: What to write.
        model: Config of the model that the weights belong to.

    Raises:
        FileExistsError: If there is something already.
        UnknownKeyError: If a weight has no name in checkpoints of this kind.
        ValueError: If checkpoints of this kind have no such model.
        ImportError: If a package is missing.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        msg = f'{target} exists; remove it, or name another place to write to'
        raise FileExistsError(msg)
    if target.is_dir() and kind is not CheckpointKind.HUGGINGFACE:
        msg = (
            f'{target} is a folder, but a checkpoint of kind {kind.value} is a file; '
            f'name a new file'
        )
        raise FileExistsError(msg)
    with written_aside(target) as aside:
        WRITERS[kind](aside, dict(sorted(weights.items())), model)


def _write_released(path: Path, weights: Weights, _: ModelConfig) -> None:
    """Write a file as the authors released theirs."""
    _save(path, {'model': map_to_released(weights)})


def _write_huggingface(folder: Path, weights: Weights, model: ModelConfig) -> None:
    """Write a folder as Hugging Face's transformers does."""
    config = json.dumps(huggingface_config(model), indent=2, sort_keys=True)
    folder.mkdir()
    (folder / 'config.json').write_text(f'{config}\n', encoding='utf-8')
    write_safetensors(folder / WEIGHTS_FILE, map_to_huggingface(weights))


def _write_mmsam2(path: Path, weights: Weights, _: ModelConfig) -> None:
    """Write a file as MMEngine's Runner does, without the state of a run."""
    _save(path, {'state_dict': dict(weights)})


def _save(path: Path, content: dict[str, dict[str, Tensor]]) -> None:
    """Write a file of torch, the same bytes whatever its name."""
    with path.open('wb') as file:
        torch.save(content, file)


WRITERS: dict[CheckpointKind, Callable[[Path, Weights, ModelConfig], None]] = {
    CheckpointKind.RELEASED: _write_released,
    CheckpointKind.HUGGINGFACE: _write_huggingface,
    CheckpointKind.MMSAM2: _write_mmsam2,
}
