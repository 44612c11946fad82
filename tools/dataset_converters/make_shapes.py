"""Render clips of shapes with classes, for detectors, segmenters and trackers.

Disks, squares, triangles and stars of many textures pass behind each other, come late,
leave and return. One folder has the annotations of COCO (each frame an image; also as
mmdetection reads videos), YouTube-VIS, MOT17, DAVIS, and label images: docstring of
projects/sam2/datasets/processing/shapes_export.py. The same arguments give the same
clips. A folder that holds them already is left as it is.

    python tools/dataset_converters/make_shapes.py data/shapes
    python tools/dataset_converters/make_shapes.py data/many --num-clips 400 --size 256
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import call_tool, whole_number


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out_dir', type=Path, help='output folder')
    add(
        '--num-clips',
        type=whole_number(1),
        default=40,
        help='number of training clips (default 40)',
    )
    add(
        '--num-val-clips',
        type=whole_number(1),
        default=8,
        help='number of validation clips (default 8)',
    )
    add(
        '--num-frames',
        type=whole_number(1),
        default=16,
        help='frames of a clip (default 16)',
    )
    add(
        '--size',
        type=whole_number(1),
        default=128,
        help='longer side in pixels (default 128)',
    )
    add('--seed', type=whole_number(0), default=0, help='random seed (default 0)')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the clips, unless they exist."""
    options = parse_arguments(arguments)
    from projects.sam2.datasets.processing.shapes_export import write_shapes
    from projects.sam2.datasets.sources.shapes import CLASSES

    begin = time.perf_counter()
    with progress_bar('Clips') as advance:
        is_written = write_shapes(
            options.out_dir,
            {'train': options.num_clips, 'val': options.num_val_clips},
            num_frames=options.num_frames,
            side=options.size,
            seed=options.seed,
            advance=advance,
        )
    if not is_written:
        print(f'{options.out_dir} holds these clips already')
        return
    seconds = time.perf_counter() - begin
    print(
        f'{options.out_dir}: {options.num_clips} training and {options.num_val_clips} '
        f'validation clips of {", ".join(CLASSES)} in {seconds:.1f} s'
    )


if __name__ == '__main__':
    call_tool(main)
