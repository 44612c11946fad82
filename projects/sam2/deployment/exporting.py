"""What exporters share: how an export is checked and reported."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .graphs import SAM2Graph
from .manifest import MANIFEST_FILE

# Sizes of the free dimensions in a check: other ones than the example's, the smallest
# included.
CHECKED_SIZES = (
    {'num_objects': 1, 'num_memories': 1, 'num_pointers': 0, 'num_points': 0},
    {'num_objects': 3, 'num_memories': 2, 'num_pointers': 4, 'num_points': 6},
)
# Largest difference from torch, over the root mean square, in float32.
MAX_ERROR = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """A graph that was exported.

    Attributes:
        name: Name of the graph.
        path: Its file.
        num_bytes: Size of the file.
        seconds: Time of the export, without the check.
        error: Largest difference of an output from torch over its root mean square;
            None if it was not checked.
    """

    name: str
    path: Path
    num_bytes: int
    seconds: float
    error: float | None

    def __str__(self) -> str:
        error = 'not checked' if self.error is None else f'error {self.error:.1e}'
        megabytes = self.num_bytes / 1e6
        return f'{self.path}: {megabytes:.1f} MB, {self.seconds:.1f} s, {error}'


def prepare_folder(folder: str | Path) -> Path:
    """Make the folder of an export, without the manifest of an earlier one.

    Raises:
        OSError: If the folder is a file, or cannot be written.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        msg = f'{folder} is a file; give the folder of the export'
        raise NotADirectoryError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
    except OSError as error:
        msg = f'The export cannot be written to {folder} ({error.strerror})'
        raise OSError(f'{msg}; give another folder') from error
    return folder


@torch.no_grad()
def largest_error(
    graph: SAM2Graph,
    run: Callable[[Mapping[str, Tensor]], Iterable[Tensor]],
    samples: Iterable[Mapping[str, Tensor]],
) -> float:
    """Compare an exported graph with its graph in torch.

    Args:
        run: Runs the exported graph, and returns its outputs in order.
        samples: Inputs of the graph, one after another.

    Returns:
        The largest difference of an output over its root mean square.
    """
    errors = []
    for inputs in samples:
        for expected, output in zip(graph(**inputs), run(inputs), strict=True):
            scale = expected.square().mean().sqrt().clamp(min=1e-6)
            difference = (output.to(expected) - expected).abs().max()
            errors.append(float(difference / scale))
    return float(np.max(errors))  # unlike that of Python, NaN if one is


def check_error(path: Path, error: float, remedy: str) -> None:
    """Refuse a graph of float32 that differs from torch.

    Raises:
        ValueError: If the error is not below ``MAX_ERROR``.
    """
    if not error <= MAX_ERROR:
        msg = (
            f'{path} differs from torch by {error:.1e} of the root mean square, more '
            f'than {MAX_ERROR:g}; {remedy}'
        )
        raise ValueError(msg)
