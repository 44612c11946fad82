"""Export a model with torch.export, compiled by AOTInductor or not.

    python tools/export_torch.py sam2.1_hiera_t sam2.1_hiera_tiny.pt work_dirs/tiny_aoti
    python tools/export_torch.py CONFIG CHECKPOINT OUT --format export --device cuda

CHECKPOINT is a released file, a folder of transformers, or a checkpoint of ours, whose
adapters are merged; `none` exports random weights. OUT is a new folder: encode.pt2,
decode.pt2, mask_prompt.pt2, attend.pt2, remember.pt2 and sam2.json, which build_sam2
and the tools take in place of a config or a checkpoint.

Format aotinductor compiles the graphs for the device of this machine, which takes some
minutes and a C++ compiler; it runs on machines with the same kind of CPU or GPU. Format
export writes programs that run on any device, no faster than the model itself.

The graphs are then run at other numbers of objects, memories, pointers and points, and
compared with the model: the largest error is printed, over the root mean square.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import call_tool

# Values of deployment.torch_package.TorchRuntime.
FORMATS = ('aotinductor', 'export')
MEGABYTE = 1e6


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config, or a name like sam2.1_hiera_b+')
    add('checkpoint', help='checkpoint, or none for random weights')
    add('out', type=Path, help='new folder of the export')
    add('--format', choices=FORMATS, default='aotinductor', help='see above')
    add('--image-size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    add('--device', help='cpu, cuda or cuda:N (default: a GPU if there is one)')
    add('--no-check', action='store_true', help='do not compare with the model')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export the model, and print a line for each graph."""
    options = parse_arguments(arguments)
    import projects.sam2.registration  # noqa: F401  registers the parts
    from projects.sam2.apis.building import build_sam2, load_model_config
    from projects.sam2.deployment import (
        ExportedGraph,
        PackageRunner,
        export_torch,
        largest_errors,
    )

    def show(name: str, graph: ExportedGraph, seconds: float) -> None:
        megabytes = graph.num_bytes / MEGABYTE
        print(f'{graph.file:16} {megabytes:7.1f} MB  {seconds:5.0f} s', flush=True)

    checkpoint = None if options.checkpoint == 'none' else options.checkpoint
    config = load_model_config(options.config)
    model = build_sam2(
        config,
        checkpoint,
        device=options.device,
        image_size=None if options.image_size is None else tuple(options.image_size),
    )
    export_torch(
        model,
        options.out,
        config=config,
        checkpoint=checkpoint,
        runtime=options.format,
        on_graph=show,
    )
    if not options.no_check:
        runner = PackageRunner(options.out, device=model.device)
        for name, error in largest_errors(model, runner):
            print(f'{name:16} largest error {error:.1e}', flush=True)


if __name__ == '__main__':
    call_tool(main)
