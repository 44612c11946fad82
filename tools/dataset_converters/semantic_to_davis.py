"""Convert images with label PNG files, semantic or instance, to DAVIS layout.

Each image becomes a clip of one frame. Each label is an object; with --regions, each
connected region of a label, which suits class labels.

    python tools/dataset_converters/semantic_to_davis.py \
        data/ade/images data/ade/annotations data/ade_davis --regions --min-pixels 64
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from davis_command import (  # type: ignore[import-not-found]
    add_davis_arguments,
    run_conversion,
)

from projects.sam2.engine.command_line import call_tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 0 if all clips were converted, else 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('images', type=Path, help='folder of the images')
    add('labels', type=Path, help='folder of the PNG files')
    add_davis_arguments(parser)
    add(
        '--label-suffix',
        default='.png',
        help='suffix of the label files (default .png)',
    )
    add('--regions', action='store_true', help='make each connected region an object')
    add('--min-pixels', type=int, default=1, help='smallest object (default 1)')
    add(
        '--background',
        type=int,
        nargs='+',
        default=[0],
        help='background labels (default 0)',
    )
    add('--void', type=int, nargs='*', help='void labels (default: 255 in 8-bit files)')
    options = parser.parse_args(arguments)
    source = {
        'type': 'ClipLabelImageDataset',
        'data_root': str(options.images),
        'image_folder': '.',
        'label_folder': str(options.labels.absolute()),
        'label_suffix': options.label_suffix,
        'rule': {
            'background': options.background,
            'void': options.void,
            'regions': options.regions,
            'min_pixels': options.min_pixels,
        },
    }
    return int(run_conversion(source, options))


if __name__ == '__main__':
    call_tool(main)
