"""Convert images with COCO's instance annotations to DAVIS layout.

Each image becomes a clip of one frame; meta.json maps labels to annotation ids.

    python tools/dataset_converters/coco_to_davis.py \
        data/coco/annotations/instances_train2017.json data/coco/train2017 \
        data/coco_davis --workers 8
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
    parser.add_argument('annotations', type=Path, help='JSON file')
    parser.add_argument('images', type=Path, help='folder of the images')
    add_davis_arguments(parser)
    options = parser.parse_args(arguments)
    source = {
        'type': 'ClipCocoDataset',
        'data_root': str(options.images),
        'annotation_file': str(options.annotations.absolute()),
    }
    return int(run_conversion(source, options))


if __name__ == '__main__':
    call_tool(main)
