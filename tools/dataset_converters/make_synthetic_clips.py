"""Render clips of textured objects that deform, occlude each other, leave and return.

Writes DAVIS layout: JPEGImages/<clip>/*.jpg, Annotations/<clip>/*.png (palette),
ImageSets/train.txt and val.txt, and meta.json, which describes the difficulties of each
clip. The same arguments give the same clips for any number of workers. A folder that
holds them already is left as it is.

    python tools/dataset_converters/make_synthetic_clips.py data/synthetic
    python tools/dataset_converters/make_synthetic_clips.py data/many \
        --num-clips 5000 --workers 8

With --kinds crossing occluded reentry each clip has one target, among objects of its
texture that pass in front of it, stay visible while it is hidden, or wait where it left
the frame: clips for memory policies.

    python tools/dataset_converters/make_synthetic_clips.py data/memory \
        --kinds crossing occluded reentry --num-val-frames 60
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import call_tool, whole_number

# Values of datasets.sources.synthetic.ClipKind, whose import takes seconds.
KIND_NAMES = ('like_texture', 'returning', 'plain', 'crossing', 'occluded', 'reentry')


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out_dir', type=Path, help='output folder')
    add(
        '--num-clips',
        type=int,
        default=96,
        help='number of training clips (default 96)',
    )
    add('--num-frames', type=int, default=24, help='frames per training clip')
    add(
        '--num-val-clips',
        type=int,
        default=12,
        help='number of validation clips (default 12)',
    )
    add('--num-val-frames', type=int, default=20, help='frames per validation clip')
    add('--size', type=int, default=128, help='longer side in pixels (default 128)')
    add('--seed', type=whole_number(0), default=0, help='random seed (default 0)')
    add(
        '--kinds',
        nargs='+',
        choices=KIND_NAMES,
        metavar='KIND',
        help=f'what is hard, in turn: of {", ".join(KIND_NAMES)} (default: the first '
        'three)',
    )
    add('--workers', type=int, default=1, help='processes (default 1)')
    return parser.parse_args()


def print_progress(num_done: int, num_clips: int) -> None:
    """Print progress ten times."""
    if num_done == num_clips or num_done % max(1, num_clips // 10) == 0:
        print(f'  {num_done} of {num_clips} clips', flush=True)


def print_split(split: str, entries: list[dict[str, Any]]) -> None:
    """Describe the clips of a split."""
    if not entries:
        return
    num_like = sum(entry['like_texture'] for entry in entries)
    num_returning = sum(bool(entry['returning_ids']) for entry in entries)
    copy_iou = sum(entry['copy_iou'] for entry in entries) / len(entries)
    print(
        f'{split}: {len(entries)} clips, {num_like} with objects of equal texture, '
        f'{num_returning} with objects that leave and return; '
        f'copying the first masks has an IoU of {100 * copy_iou:.1f}'
    )


def main() -> None:
    """Render the clips, unless they exist."""
    arguments = parse_arguments()
    from projects.sam2.datasets.processing.davis_export import (
        is_complete,
        write_synthetic_dataset,
    )
    from projects.sam2.datasets.sources.synthetic import (
        STANDARD_KINDS,
        kinds_of,
        make_plans,
    )

    root: Path = arguments.out_dir
    settings = {
        key: value
        for key, value in vars(arguments).items()
        # Folders from before there were kinds have no such setting.
        if key not in {'out_dir', 'workers'} and (key != 'kinds' or value is not None)
    }
    kinds = STANDARD_KINDS if arguments.kinds is None else kinds_of(arguments.kinds)
    if is_complete(root, settings):
        print(f'{root} holds these clips already')
        return
    common: dict[str, Any] = {
        'size': arguments.size,
        'seed': arguments.seed,
        'kinds': kinds,
    }
    splits = {
        'train': make_plans(
            split='train',
            num_clips=arguments.num_clips,
            num_frames=arguments.num_frames,
            **common,
        ),
        'val': make_plans(
            split='val',
            num_clips=arguments.num_val_clips,
            num_frames=arguments.num_val_frames,
            **common,
        ),
    }
    begin = time.perf_counter()
    print(f'Rendering {sum(map(len, splits.values()))} clips in {root}')
    meta = write_synthetic_dataset(
        root, splits, settings, arguments.workers, print_progress
    )
    for split, entries in meta['clips'].items():
        print_split(split, entries)
    print(f'Done in {time.perf_counter() - begin:.1f} s')


if __name__ == '__main__':
    call_tool(main)
