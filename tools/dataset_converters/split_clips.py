"""Hold clips of a data set back for validation.

Writes two sorted lists of clips, of a number or a share of them, which the seed
chooses, or of those that another list names. The defaults are those of
configs/_base_/datasets/mose.py: 200 clips of MOSE's training set, whose
validation masks are not public.

    python tools/dataset_converters/split_clips.py data/MOSE/train
    python tools/dataset_converters/split_clips.py data/mine --share 0.1 \
        --train-list ImageSets/train.txt --holdout-list ImageSets/val.txt
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.datasets.listing import (  # noqa: E402  after the path is set
    list_names,
    read_list,
    split_names,
    write_list,
)
from projects.sam2.engine.command_line import call_tool  # noqa: E402


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
    add('--file-list', help='list of the clips to split (default: all)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--num-holdout', type=int, default=200, help='clips held back (default 200)'
    )
    which.add_argument('--share', type=float, help='of the clips, such as 0.1')
    which.add_argument('--names', help='list of the clips that are held back')
    add('--seed', type=int, default=0, help='seed of the choice (default 0)')
    add('--train-list', default='ImageSets/train_without_holdout.txt', help='written')
    add('--holdout-list', default='ImageSets/holdout.txt', help='written')
    return parser.parse_args()


def split(names: list[str], arguments: argparse.Namespace) -> list[list[str]]:
    """Hold clips back as the command line says.

    Args:
        names: All clips.
        arguments: Of the command line.

    Returns:
        The clips that are left and those held back, each sorted.

    Raises:
        ValueError: If either would be empty, or a name is not among the clips.
    """
    if arguments.names is not None:
        held = read_list(arguments.data_root / arguments.names)
        unknown = sorted(set(held) - set(names))
        if unknown or not held or len(set(held)) == len(set(names)):
            msg = (
                f'{arguments.names}: {len(set(held))} names, {len(unknown)} of them '
                f'unknown {unknown[:3]}; name some, not all, of the {len(names)} clips'
            )
            raise ValueError(msg)
        return [sorted(set(names) - set(held)), sorted(set(held))]
    number = arguments.num_holdout
    if arguments.share is not None:
        number = round(arguments.share * len(names))
    return list(split_names(names, number, arguments.seed))


def main() -> None:
    """Write the lists."""
    arguments = parse_arguments()
    root: Path = arguments.data_root
    if arguments.file_list is not None:
        names = read_list(root / arguments.file_list)
    else:
        names = list_names(
            data_root=root,
            folder=root / arguments.frame_folder,
            file_list=None,
            exclude_list=None,
        )
    lists = (arguments.train_list, arguments.holdout_list)
    for path, part in zip(lists, split(names, arguments), strict=True):
        write_list(root / path, part)
        print(f'{root / path}: {len(part)} clips')


if __name__ == '__main__':
    call_tool(main)
