from .backend import ExportedSAM2, GraphRunner, ModuleRunner, check_inputs
from .exporting import GraphReport
from .graphs import FREE_DIMENSIONS, GRAPHS, SAM2Graph, example_inputs, fixed_sizes
from .loading import load_exported
from .manifest import (
    MANIFEST_FILE,
    ExportedGraph,
    ExportManifest,
    ExportTarget,
    TensorSpec,
    describe_export,
    is_export,
    read_manifest,
)
from .onnx_export import export_onnx
from .onnx_runner import OnnxRunner
from .torch_package import PackageRunner, export_torch
from .validation import SAM2Exported

__all__ = [
    'FREE_DIMENSIONS',
    'GRAPHS',
    'MANIFEST_FILE',
    'ExportManifest',
    'ExportTarget',
    'ExportedGraph',
    'ExportedSAM2',
    'GraphReport',
    'GraphRunner',
    'ModuleRunner',
    'OnnxRunner',
    'PackageRunner',
    'SAM2Exported',
    'SAM2Graph',
    'TensorSpec',
    'check_inputs',
    'describe_export',
    'example_inputs',
    'export_onnx',
    'export_torch',
    'fixed_sizes',
    'is_export',
    'load_exported',
    'read_manifest',
]
