"""Compares an export with the model that it was exported from."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..models import SAM2
from .backend import GraphRunner
from .graphs import GRAPHS, example_inputs

# O, R, K and P, other than those of the example that exporters trace: the least sizes,
# at which a graph is most likely to depend on its example, and larger ones.
CHECKED_SIZES = ((1, 1, 0, 0), (1, 2, 1, 1), (3, 7, 16, 9))


@torch.no_grad()
def largest_errors(model: SAM2, runner: GraphRunner) -> Iterator[tuple[str, float]]:
    """Run each graph and the model on the same inputs, of several sizes.

    Args:
        model: The model, in evaluation mode.
        runner: Runs the graphs of its export.

    Yields:
        Name of the graph, and the largest error of its outputs over their root mean
        square.
    """
    cases = [
        example_inputs(
            model,
            num_objects=num_objects,
            num_memories=num_memories,
            num_pointers=num_pointers,
            num_points=num_points,
            seed=seed,
        )
        for seed, (num_objects, num_memories, num_pointers, num_points) in enumerate(
            CHECKED_SIZES, start=1
        )
    ]
    for name, graph in GRAPHS.items():
        errors = []
        for case in cases:
            expected = graph(model).run(case[name])
            outputs = runner.run(name, case[name])
            errors += [
                _relative_error(outputs[key], value) for key, value in expected.items()
            ]
        yield name, max(errors)


def _relative_error(output: Tensor, expected: Tensor) -> float:
    """Largest error over the root mean square; infinite with an output that is not."""
    error = (output.to(expected) - expected).abs().max()
    relative = error / expected.square().mean().sqrt()
    return relative.nan_to_num(nan=torch.inf).item()
