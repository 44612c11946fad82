"""Exports a model with ``torch.export``, compiled by AOTInductor or not, and runs it.

================  ======================================================================
``aotinductor``   each graph is compiled to a library for one kind of device; Python and
                  C++ programs run it through libtorch
``export``        each graph is a program of torch operators that any device runs, and
                  that can be compiled later
================  ======================================================================

Either is a folder with a file ``<graph>.pt2`` for each of the :data:`GRAPHS`, which
``torch.export.load`` and ``torch._inductor.aoti_load_package`` open, and ``sam2.json``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..models import SAM2
from ..models.compiling import check_cpp_compiler
from .backend import FileRunner, check_inputs
from .exporting import GraphCall, GraphReport, export_graphs, prepare_export
from .graphs import FREE_DIMENSIONS, SAM2Graph
from .manifest import (
    ExportManifest,
    ExportTarget,
    describe_export,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

TorchRuntime = Literal['aotinductor', 'export']
Graph = Callable[..., tuple[Tensor, ...]]
CPU_SETTINGS = {
    # As many threads as the program has when it runs, not when it was compiled.
    'cpp.dynamic_threads': True,
    # Weights in the layout of oneDNN's kernels: the encoder takes half the time.
    'freezing': True,
}


def export_torch(
    model: SAM2,
    folder: str | Path,
    *,
    config: Config,
    checkpoint: str | Path | None = None,
    runtime: TorchRuntime = 'aotinductor',
    check: bool = True,
    report: Callable[[GraphReport], object] = print,
) -> ExportManifest:
    """Export the graphs of a model to a folder.

    The manifest is written last: a folder with ``sam2.json`` is complete.

    Args:
        model: A model in evaluation mode, on the device that will run the graphs.
        folder: Gets a file for each graph and ``sam2.json``; earlier ones are replaced.
        config: Config of the model.
        checkpoint: Checkpoint of the model, for the manifest; None for random weights.
        runtime: ``'aotinductor'`` compiles the graphs, which takes a minute or more and
            a C++ compiler; ``'export'`` does not.
        check: Run the graphs and compare them with the model.
        report: Called with the result of each graph.

    Returns:
        The manifest.

    Raises:
        OSError: If the folder is a file, or cannot be written.
        RuntimeError: If this version of torch cannot export free sizes.
        ValueError: If there is no C++ compiler, the runtime is unknown, the model is in
            training mode, or a graph differs from it.
    """
    if runtime not in get_args(TorchRuntime):
        msg = f'runtime is {runtime!r}; give one of {", ".join(get_args(TorchRuntime))}'
        raise ValueError(msg)
    if runtime == 'aotinductor':
        check_cpp_compiler('AOTInductor', remedy="give the format 'export'")
    folder = prepare_export(model, folder)
    device = model.device

    def write(graph: SAM2Graph, inputs: dict[str, Tensor], path: Path) -> None:
        program = trace(graph, inputs)
        if runtime == 'aotinductor':
            _compile(program, path, device)
        else:
            torch.export.save(program, path)

    def load(path: Path) -> GraphCall:
        return partial(call_graph, load_graph(path, runtime, device), device=device)

    graphs = export_graphs(
        model,
        folder,
        suffix='.pt2',
        write=write,
        load=load if check else None,
        remedy='try another version of torch',
        report=report,
    )
    manifest = describe_export(
        model,
        graphs,
        config=config,
        checkpoint=checkpoint,
        runtime=runtime,
        target=ExportTarget.of(device) if runtime == 'aotinductor' else None,
    )
    manifest.write(folder)
    return manifest


@torch.no_grad()
def trace(graph: SAM2Graph, inputs: Mapping[str, Tensor]) -> ExportedProgram:
    """Trace a graph by ``torch.export``, with its dimensions free.

    Args:
        graph: The graph, in evaluation mode.
        inputs: Example inputs, all of whose free dimensions are at least 2.

    Raises:
        RuntimeError: If this torch cannot export free sizes.
    """
    # torch takes sizes of 0 and 1 for constants, except with this setting. Its rules
    # for memory layouts still compare sizes with 1, so the least size stated is 2; the
    # program has no such constant, and the check runs it at 0 and 1.
    dimensions = {
        letter: torch.export.Dim(letter, min=2 if least else 0)
        for letter, least in FREE_DIMENSIONS.items()
    }
    shapes = {
        spec.name: {
            index: dimensions[size]
            for index, size in enumerate(spec.shape)
            if size in dimensions
        }
        for spec in graph.inputs
    }
    # Compiled graphs read inputs by the strides of the example, without a check.
    example = {name: _in_order(tensor) for name, tensor in inputs.items()}
    with _free_sizes():
        program = torch.export.export(
            graph, (), kwargs=example, dynamic_shapes=shapes, strict=False
        )
    # A graph is traced with the whole model, and uses the weights of some parts.
    names = program.graph_signature.inputs_to_parameters
    for node in program.graph.find_nodes(op='placeholder'):
        if node.name in names and not node.users:
            weight = program.state_dict[names[node.name]]
            program.state_dict[names[node.name]] = nn.Parameter(weight.new_empty(0))
    return program


@contextmanager
def _free_sizes() -> Iterator[None]:
    """Sizes of 0 and 1, and sizes that are equal by chance, do not become constants."""
    from torch.fx.experimental import _config  # noqa: PLC0415  takes a second

    settings: Any = _config

    if not hasattr(settings, 'backed_size_oblivious'):
        msg = (
            f'torch {torch.__version__} exports no sizes of 0 and 1; install a later '
            f'one, such as 2.13'
        )
        raise RuntimeError(msg)
    with settings.patch(backed_size_oblivious=True, use_duck_shape=False):
        yield


def _compile(program: ExportedProgram, path: Path, device: torch.device) -> None:
    """Compile a program to a package."""
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415  takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # of torch to itself
        aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs=dict(CPU_SETTINGS) if device.type == 'cpu' else {},
        )


class PackageRunner(FileRunner):
    """Runs the graphs of a folder that :func:`export_torch` wrote.

    A graph is loaded, and its file checked, when it is first run. A package of
    AOTInductor is a program: load only those that you trust.

    Args:
        folder: Folder of the export.
        device: Device of inputs and outputs; by default the one that the package was
            compiled for, and for programs that were not, ``'cuda'`` if there is a GPU.

    Raises:
        FileNotFoundError: If there is no export.
        ValueError: If the export is damaged, of another runtime, or compiled for
            another device.
    """

    def __init__(
        self, folder: str | Path, *, device: str | torch.device | None = None
    ) -> None:
        super().__init__(folder)
        runtime, target = self._manifest.runtime, self._manifest.target
        if runtime not in get_args(TorchRuntime):
            msg = f'{folder} holds no graphs of torch, but {runtime}'
            raise ValueError(msg)
        if device is None:
            default = 'cuda' if torch.cuda.is_available() else 'cpu'
            device = default if target is None else target.device
        self.device = torch.device(device)
        if target is not None:
            target.check(self.device, source=str(folder))

    @torch.no_grad()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph; see :class:`GraphRunner`."""
        exported = self._manifest.graphs[graph]
        check_inputs(graph, exported.inputs, inputs)
        # The types of a traced program are fixed: under autocast, it would fail.
        with torch.autocast(self.device.type, enabled=False):
            outputs = call_graph(self._graph(graph), inputs, self.device)
        return {
            spec.name: output
            for spec, output in zip(exported.outputs, outputs, strict=True)
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle how to open the folder again, for another process."""
        return partial(PackageRunner, device=self.device), (self._folder,)

    def _open(self, path: Path) -> Graph:
        """Load a graph.

        Raises:
            ValueError: If this version of torch cannot load it.
        """
        try:
            return load_graph(path, self._manifest.runtime, self.device)
        except Exception as error:  # its errors have no common base class
            reason = str(error).strip().partition('\n')[0]
            msg = (
                f'torch {torch.__version__} cannot load {path}, which torch '
                f'{self._manifest.versions.get("torch")} exported ({reason}); export '
                f'the model with the torch that runs it'
            )
            raise ValueError(msg) from error


def load_graph(path: Path, runtime: str, device: torch.device) -> Graph:
    """Load the file of a graph.

    Args:
        runtime: A :data:`TorchRuntime`.
        device: The device that it was compiled for; a program moves to any.

    Returns:
        A function that takes the inputs by name, contiguous, on the device.
    """
    if runtime == 'aotinductor':
        from torch._inductor import aoti_load_package  # noqa: PLC0415  takes seconds

        index = -1 if device.index is None else device.index
        graph: Graph = aoti_load_package(str(path), device_index=index)
        return graph
    from torch.export.passes import move_to_device_pass  # noqa: PLC0415

    program = move_to_device_pass(torch.export.load(path), str(device))
    # Its guards want O > 1 (see `trace`); `PackageRunner` checks the shapes instead.
    module: Graph = program.module(check_guards=False)
    return module


def call_graph(
    graph: Graph, inputs: Mapping[str, Tensor], device: torch.device
) -> tuple[Tensor, ...]:
    """Call a graph with its inputs as it reads them: on its device, contiguous."""
    return graph(**{k: _in_order(v.to(device)) for k, v in inputs.items()})


def _in_order(tensor: Tensor) -> Tensor:
    """Make a tensor contiguous, with the strides of a new tensor of its shape.

    Strides of dimensions of size 1 are free in torch, but a package's convolutions take
    a mask (O, 1, H, W) with those of channels-last maps for such a map.
    """
    return tensor.reshape(-1).view(tensor.shape)
