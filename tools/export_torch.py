"""Export a model with torch.export, compiled by AOTInductor or not.

    python tools/export_torch.py sam2.1_hiera_t sam2.1_hiera_tiny.pt exported/tiny
    python tools/export_torch.py CONFIG CHECKPOINT OUT --device cuda
    python tools/export_torch.py CONFIG CHECKPOINT OUT --format export
    python tools/predict.py photo.jpg exported/tiny --point 210 160

CONFIG is a file or a name that the model was released under; CHECKPOINT is a released
file, a folder of transformers, one of ours, or `none` for random weights. Adapters are
merged into the weights. OUT gets encode.pt2, decode.pt2, mask_prompt.pt2, attend.pt2,
remember.pt2 and sam2.json, which describes them. The size of the image is fixed; the
numbers of objects, points, memories and object pointers are free.

Format aotinductor compiles the graphs for the device of this machine, which takes a
minute or more and a C++ compiler; the files run on the same kind of CPU or GPU. Format
export writes programs of torch's operators, which run on any device.

A line for each graph tells its file, size, time and largest error. For the error, the
graph runs at other numbers of objects, memories, pointers and points, and the largest
difference of an output from the model's is divided by the output's root mean square.
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

# Values of deployment.torch_package.TorchRuntime.
FORMATS = ('aotinductor', 'export')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_export_arguments(parser)
    add = parser.add_argument
    add('--format', choices=FORMATS, default=FORMATS[0], help='default aotinductor')
    add('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    options = parse_arguments(arguments)
    import projects.sam2.registration  # noqa: F401  registers the parts
    from projects.sam2.apis.building import build_for_export
    from projects.sam2.deployment import export_torch

    name, checkpoint, size = read_export_arguments(options)
    model, config = build_for_export(
        name, checkpoint, size, options.device, options.policy
    )
    export_torch(
        model,
        options.out,
        config=config,
        checkpoint=checkpoint,
        runtime=options.format,
        check=options.check,
    )


if __name__ == '__main__':
    call_tool(main)
