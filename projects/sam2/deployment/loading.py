"""Loads an exported model, whatever runs its graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .backend import ExportedSAM2, GraphRunner
from .graphs import GRAPHS
from .manifest import read_manifest
from .onnx_runner import OnnxRunner
from .torch_package import PackageRunner


def load_exported(
    folder: str | Path,
    *,
    device: str | torch.device | None = None,
    provider: str | Sequence[str] | None = None,
    num_threads: int | None = None,
    changes: Mapping[str, Any] | None = None,
    policy: str | Path | None = None,
) -> ExportedSAM2:
    """Load an exported model; its graphs are opened when they are first used.

    Args:
        folder: Folder with ``sam2.json``.
        device: As for :class:`OnnxRunner` or :class:`PackageRunner`.
        provider: As for :class:`OnnxRunner`; not for graphs that torch runs.
        num_threads: Likewise.
        changes: As for :class:`ExportedSAM2`, as is ``policy``.

    Raises:
        FileNotFoundError: If there is no export.
        ImportError: If the runtime is not installed.
        ValueError: If the export is damaged, or an option cannot be used.
    """
    manifest = read_manifest(folder)
    runner: GraphRunner
    if manifest.runtime == 'onnx':
        runner = OnnxRunner(
            folder, device=device, provider=provider, num_threads=num_threads
        )
    elif provider is not None or num_threads is not None:
        msg = (
            f'provider and num_threads are of ONNX Runtime, and torch runs {folder}; '
            f'leave them out, and call torch.set_num_threads'
        )
        raise ValueError(msg)
    else:
        runner = PackageRunner(folder, device=device)
    missing = [name for name in GRAPHS if name not in manifest.graphs]
    if missing:
        msg = f'{folder} has no graph {", ".join(missing)}; export the model again'
        raise ValueError(msg)
    return ExportedSAM2(manifest, runner, changes, policy)
