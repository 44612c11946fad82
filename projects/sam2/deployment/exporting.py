"""What exporters share: each graph is written, checked and reported."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models import SAM2
from ..ops import atomic_write
from .graphs import GRAPHS, SAM2Graph, example_inputs, fixed_sizes
from .manifest import MANIFEST_FILE, ExportedGraph

GraphCall = Callable[[Mapping[str, Tensor]], Iterable[Tensor]]

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


def prepare_export(model: SAM2, folder: str | Path) -> Path:
    """Make the folder of an export, without the manifest of an earlier one.

    Returns:
        The folder.

    Raises:
        OSError: If the folder is a file, or cannot be written.
        ValueError: If the model is in training mode.
    """
    if model.training:
        msg = 'The model is in training mode; call model.eval() before exporting it'
        raise ValueError(msg)
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


def export_graphs(
    model: SAM2,
    folder: Path,
    *,
    suffix: str,
    write: Callable[[SAM2Graph, dict[str, Tensor], Path], object],
    load: Callable[[Path], GraphCall] | None,
    remedy: str | None,
    report: Callable[[GraphReport], object],
) -> dict[str, ExportedGraph]:
    """Export each graph of a model to a file.

    Args:
        model: In evaluation mode.
        folder: Of :func:`prepare_export`.
        suffix: Of the files.
        write: Writes a graph, given example inputs, to a path.
        load: Loads a file that was written, to compare it with torch; None does not
            compare.
        remedy: What to do about a graph that differs from torch, for the error; None
            accepts it, since its precision is lower.
        report: Called with the result of each graph.

    Returns:
        The graphs by name, as the manifest describes them.

    Raises:
        ValueError: If a graph differs from torch.
    """
    sizes, examples = fixed_sizes(model), example_inputs(model)
    checked = [example_inputs(model, **free) for free in CHECKED_SIZES if load]
    exported = {}
    for name, kind in GRAPHS.items():
        graph, path = kind(model).eval(), folder / f'{name}{suffix}'
        start = time.perf_counter()
        with atomic_write(path) as partial:
            write(graph, examples[name], partial)
        seconds = time.perf_counter() - start
        error = None
        if load is not None:
            samples = [inputs[name] for inputs in checked]
            error = largest_error(graph, load(path), samples)
        num_bytes = path.stat().st_size
        report(
            GraphReport(
                name=name, path=path, num_bytes=num_bytes, seconds=seconds, error=error
            )
        )
        if error is not None and remedy is not None and not error <= MAX_ERROR:
            msg = (
                f'{path} differs from torch by {error:.1e} of the root mean square, '
                f'more than {MAX_ERROR:g}; {remedy}'
            )
            raise ValueError(msg)
        exported[name] = ExportedGraph.from_file(
            path,
            inputs=tuple(spec.with_sizes(sizes) for spec in graph.inputs),
            outputs=tuple(spec.with_sizes(sizes) for spec in graph.outputs),
        )
    return exported


@torch.no_grad()
def largest_error(
    graph: SAM2Graph,
    run: GraphCall,
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
