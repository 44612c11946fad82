"""Exports the graphs of a model to ONNX files, and checks them in ONNX Runtime."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from torch import Tensor

from ..models import SAM2
from ..models.layers import Attention
from ..ops import import_optional
from .exporting import GraphCall, GraphReport, export_graphs, prepare_export
from .graphs import FREE_DIMENSIONS, SAM2Graph
from .half_precision import use_half_precision
from .manifest import ExportManifest, Precision, describe_export
from .onnx_runner import ERRORS_ONLY

# What torch's exporter translates to.
OPSETS = range(18, 24)
DEFAULT_OPSET = 20
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


def export_onnx(
    model: SAM2,
    folder: str | Path,
    *,
    config: Config,
    checkpoint: str | Path | None = None,
    precision: Precision = 'float32',
    opset: int = DEFAULT_OPSET,
    standard_operators: bool = False,
    check: bool = True,
    report: Callable[[GraphReport], object] = print,
) -> ExportManifest:
    """Export the graphs of a model to a folder.

    The manifest is written last: a folder with ``sam2.json`` is complete.

    Args:
        model: A model in evaluation mode.
        folder: Gets a file for each graph and ``sam2.json``; earlier ones are replaced.
        config: Config of the model.
        checkpoint: Checkpoint of the model, for the manifest; None for random weights.
        precision: ``'float16'`` halves the files, for GPUs: products of matrices
            compute in float16, all else, inputs and outputs in float32.
        opset: Opset of the files, 18 to 23.
        standard_operators: Write attention in operators of the ONNX standard, for other
            runtimes and TensorRT. By default it is the operator of ONNX Runtime, which
            does not hold all attention weights in memory.
        check: Run the graphs in ONNX Runtime and compare them with torch.
        report: Called with the result of each graph.

    Returns:
        The manifest.

    Raises:
        ModuleNotFoundError: If onnx, onnxscript or onnxruntime is not installed.
        OSError: If the folder is a file, or cannot be written.
        ValueError: If the opset is not supported, the model is in training mode, or a
            graph differs from torch.
    """
    if opset not in OPSETS:
        msg = (
            f'Opset {opset} is not supported: torch exports opsets {OPSETS[0]} to '
            f'{OPSETS[-1]}; leave it out for {DEFAULT_OPSET}'
        )
        raise ValueError(msg)
    for package in PACKAGES:
        _import(package)
    folder = prepare_export(model, folder)

    def write(graph: SAM2Graph, inputs: dict[str, Tensor], path: Path) -> None:
        program = _translate(
            graph, inputs, opset, standard_operators=standard_operators
        )
        if precision == 'float16':
            use_half_precision(program.model)
        program.save(path, external_data=False)

    remedy = 'try another opset, or other versions of torch and onnxscript'
    graphs = export_graphs(
        model,
        folder,
        suffix='.onnx',
        write=write,
        load=_open if check else None,
        remedy=remedy if precision == 'float32' else None,
        report=report,
    )
    manifest = describe_export(
        model,
        graphs,
        config=config,
        checkpoint=checkpoint,
        runtime='onnx',
        precision=precision,
        opset=opset,
        versions={package: version(package) for package in ('onnx', 'onnxscript')},
    )
    manifest.write(folder)
    return manifest


def _open(path: Path) -> GraphCall:
    """Open a graph in ONNX Runtime."""
    runtime = _import('onnxruntime')
    options = runtime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = runtime.InferenceSession(
        path, options, providers=['CPUExecutionProvider']
    )

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
        return [torch.from_numpy(output) for output in session.run(None, arrays)]

    return run


def _import(package: str) -> Any:
    return import_optional(
        package,
        purpose='Exporting to ONNX',
        # Without a version, pip may replace the installed torch.
        install=f'"torch=={torch.__version__.partition("+")[0]}" {" ".join(PACKAGES)}',
    )


def _translate(
    graph: SAM2Graph,
    inputs: dict[str, Tensor],
    opset: int,
    *,
    standard_operators: bool,
) -> torch.onnx.ONNXProgram:
    """Translate a graph to ONNX; the dimensions of the example that are free vary."""
    attention = torch.ops.aten.scaled_dot_product_attention.default
    table: dict[Callable[..., Any], Callable[..., Any]] = {}
    if not standard_operators:
        table[attention] = _attention_of_onnxruntime()
    with _quiet(), _narrow_values(graph), torch.no_grad():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            input_names=[spec.name for spec in graph.inputs],
            output_names=[spec.name for spec in graph.outputs],
            dynamic_shapes={
                spec.name: {
                    axis: letter
                    for axis, letter in enumerate(spec.shape)
                    if letter in FREE_DIMENSIONS
                }
                for spec in graph.inputs
            },
            opset_version=opset,
            custom_translation_table=table,
            verbose=False,
        )
    return cast('torch.onnx.ONNXProgram', program)  # None without dynamo only


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about itself."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _narrow_values(graph: SAM2Graph) -> Iterator[None]:
    """Let attention gather the values before it projects them, where it can.

    A third of the products of the cross-attention is saved. torch chooses by itself for
    the kernels that it has.
    """
    layers = [module for module in graph.modules() if isinstance(module, Attention)]
    for layer in layers:
        layer.prefers_narrow_values = lambda *_: True
    try:
        yield
    finally:
        for layer in layers:
            del layer.prefers_narrow_values


def _attention_of_onnxruntime() -> Callable[..., Any]:
    """Translation of torch's attention to MultiHeadAttention of ONNX Runtime.

    Written in standard operators, attention holds all weights: of a frame at 1024
    pixels and seven memories 470 MB for each object.
    """
    defs = _import('onnx').defs
    values = _import('onnxscript.values')
    schema = defs.OpSchema
    types = ['tensor(float)', 'tensor(float16)']
    operator = values.Op(
        values.Opset('com.microsoft', 1),
        'MultiHeadAttention',
        schema(
            'MultiHeadAttention',
            'com.microsoft',
            1,
            inputs=[schema.FormalParameter(x, 'T') for x in ('query', 'key', 'value')],
            outputs=[schema.FormalParameter('output', 'T')],
            type_constraints=[('T', types, '')],
            attributes=[
                schema.Attribute('num_heads', schema.AttrType.INT, required=True)
            ],
        ),
    )
    op = _import('onnxscript').opset18

    def attention(query: Any, key: Any, value: Any) -> Any:
        """As :func:`projects.sam2.models.layers.attend`."""
        num_heads = query.shape[1]
        joined = [
            # (O, heads, N, C) -> (O, N, heads * C)
            op.Reshape(
                op.Transpose(tokens, perm=[0, 2, 1, 3]),
                op.Constant(value_ints=[0, 0, -1]),
            )
            for tokens in (query, key, value)
        ]
        output = operator(*joined, num_heads=num_heads)
        output.dtype = query.dtype  # unknown of an operator outside of the standard
        split = op.Reshape(output, op.Constant(value_ints=[0, 0, num_heads, -1]))
        return op.Transpose(split, perm=[0, 2, 1, 3])

    return attention
