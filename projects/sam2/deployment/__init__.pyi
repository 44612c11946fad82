from .graphs import FREE_DIMENSIONS, GRAPHS, SAM2Graph, example_inputs, fixed_sizes
from .manifest import (
    MANIFEST_FILE,
    ExportedGraph,
    ExportManifest,
    TensorSpec,
    describe_export,
    is_export,
    read_manifest,
)

__all__ = [
    'FREE_DIMENSIONS',
    'GRAPHS',
    'MANIFEST_FILE',
    'ExportManifest',
    'ExportedGraph',
    'SAM2Graph',
    'TensorSpec',
    'describe_export',
    'example_inputs',
    'fixed_sizes',
    'is_export',
    'read_manifest',
]
