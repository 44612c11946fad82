"""Export a model to ONNX: five graphs for images and videos.

    python tools/export_onnx.py sam2.1_hiera_t sam2.1_hiera_tiny.pt exported/tiny
    python tools/export_onnx.py CONFIG CHECKPOINT OUT --image-size 512 512
    python tools/export_onnx.py CONFIG CHECKPOINT OUT --precision float16
    python tools/predict.py photo.jpg exported/tiny --point 210 160

CONFIG is a file or a name that the model was released under; CHECKPOINT is a released
file, a folder of transformers, one of ours, or `none` for random weights. Adapters are
merged into the weights. OUT gets encode.onnx, decode.onnx, mask_prompt.onnx,
attend.onnx, remember.onnx and sam2.json, which describes them. The size of the image
is fixed; the numbers of objects, points, memories and object pointers are free.

A line for each graph tells its file, size, time and largest error. For the error, the
graph runs in ONNX Runtime on a CPU, and the largest difference of an output from
torch's is divided by the output's root mean square. Needs the packages onnx,
onnxscript and onnxruntime.
"""

import argparse
from collections.abc import Sequence

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_export_arguments,
    call_tool,
    read_export_arguments,
)

PRECISIONS = ('float32', 'float16')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_export_arguments(parser)
    add = parser.add_argument
    add(
        '--precision',
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help='of weights and products of matrices; float16 is for GPUs (default '
        'float32)',
    )
    add('--opset', type=int, help='opset of ONNX, 18 to 23 (default 20)')
    add(
        '--standard-operators',
        action='store_true',
        help='no operator of ONNX Runtime alone: for TensorRT and other runtimes; '
        'attention then takes more memory',
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    options = parse_arguments(arguments)
    import projects.sam2.registration  # noqa: F401  registers the parts
    from projects.sam2.apis.building import build_for_export
    from projects.sam2.deployment.onnx_export import DEFAULT_OPSET, export_onnx

    name, checkpoint, size = read_export_arguments(options)
    model, config = build_for_export(name, checkpoint, size, policy=options.policy)
    export_onnx(
        model,
        options.out,
        config=config,
        checkpoint=checkpoint,
        precision=options.precision,
        opset=DEFAULT_OPSET if options.opset is None else options.opset,
        standard_operators=options.standard_operators,
        check=options.check,
    )


if __name__ == '__main__':
    call_tool(main)
