"""Make clips of textured, deforming, occluding, leaving and returning objects.

Writes DAVIS layout: JPEGImages/<clip>/*.jpg, Annotations/<clip>/*.png (palette),
ImageSets/train.txt and val.txt, and meta.json, which says of each clip what is hard
about it. The same arguments give the same clips, whatever the number of workers. A
folder that already holds them is left as it is.

    python tools/dataset_converters/make_synthetic_clips.py data/synthetic
    python tools/dataset_converters/make_synthetic_clips.py data/many \
        --num-clips 5000 --workers 8
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.datasets.processing.davis_export import check_folder, write_dataset
from projects.sam2.datasets.sources.synthetic import make_plans
from projects.sam2.engine.command_line import call_tool


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out_dir', type=Path, help='folder of the data set')
    add('--num-clips', type=int, default=96, help='training clips (default 96)')
    add('--num-frames', type=int, default=24, help='frames of each (default 24)')
    add('--num-val-clips', type=int, default=12, help='held-out clips (default 12)')
    add('--num-val-frames', type=int, default=20, help='frames of each (default 20)')
    add('--size', type=int, default=128, help='longer side, pixels (default 128)')
    add('--seed', type=int, default=0, help='seed of all clips (default 0)')
    add('--workers', type=int, default=1, help='processes (default 1)')
    return parser.parse_args()


def print_progress(done: int, total: int) -> None:
    """Say how far it is, ten times in all."""
    if done == total or done % max(1, total // 10) == 0:
        print(f'  {done} of {total} clips', flush=True)


def print_split(split: str, entries: list[dict[str, Any]]) -> None:
    """Say what a split holds."""
    if not entries:
        return
    like = sum(entry['like_texture'] for entry in entries)
    returning = sum(bool(entry['returning_ids']) for entry in entries)
    copied = sum(entry['copy_iou'] for entry in entries) / len(entries)
    print(
        f'{split}: {len(entries)} clips, {like} with objects of like texture, '
        f'{returning} with objects that leave and return; '
        f'repeating the first masks has an IoU of {100 * copied:.1f}'
    )


def main() -> None:
    """Make the clips, unless they are there."""
    arguments = parse_arguments()
    root: Path = arguments.out_dir
    settings = {
        key: value
        for key, value in vars(arguments).items()
        if key not in {'out_dir', 'workers'}
    }
    if check_folder(root, settings):
        print(f'{root} holds these clips already')
        return
    common = {'size': arguments.size, 'seed': arguments.seed}
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
    print(f'Making {sum(map(len, splits.values()))} clips in {root}')
    meta = write_dataset(root, splits, settings, arguments.workers, print_progress)
    for split, entries in meta['clips'].items():
        print_split(split, entries)
    print(f'Done in {time.perf_counter() - begin:.1f} s')


if __name__ == '__main__':
    call_tool(main)
