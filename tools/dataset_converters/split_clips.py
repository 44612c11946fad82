"""Hold clips of a data set back for validation.

Writes two sorted lists of clips; the seed fixes the choice. The defaults are those of
configs/_base_/datasets/mose.py: 200 clips of MOSE's training set, whose
validation masks are not public.

    python tools/dataset_converters/split_clips.py data/MOSE/train
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.datasets.listing import (  # noqa: E402  after the path is set
    list_names,
    split_names,
    write_list,
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Returns:
        The arguments.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('data_root', type=Path, help='folder of the data set')
    add('--frame-folder', default='JPEGImages', help='holds a folder for each clip')
    add('--file-list', help='list of the clips to split (default: all folders)')
    add('--num-holdout', type=int, default=200, help='clips held back (default 200)')
    add('--seed', type=int, default=0, help='seed of the choice (default 0)')
    add('--train-list', default='ImageSets/train_without_holdout.txt', help='written')
    add('--holdout-list', default='ImageSets/holdout.txt', help='written')
    return parser.parse_args()


def main() -> None:
    """Write the lists."""
    arguments = parse_arguments()
    root: Path = arguments.data_root
    names = list_names(
        data_root=root,
        folder=root / arguments.frame_folder,
        file_list=arguments.file_list,
        exclude_list=None,
    )
    kept, held = split_names(names, arguments.num_holdout, arguments.seed)
    for path, part in ((arguments.train_list, kept), (arguments.holdout_list, held)):
        write_list(root / path, part)
        print(f'{root / path}: {len(part)} clips')


if __name__ == '__main__':
    main()
