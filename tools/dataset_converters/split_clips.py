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

from projects.sam2.datasets.file_endings import without_suffix  # noqa: E402  after the path is set
from projects.sam2.datasets.listing import (  # noqa: E402
    list_names,
    match_names,
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


def clips_to_split(arguments: argparse.Namespace) -> list[str]:
    """Name the clips.

    Args:
        arguments: Of the command line.

    Returns:
        The names, each once.

    Raises:
        FileNotFoundError: If there is neither a list nor a folder of frames.
        ValueError: If there is no clip, or a list names one that is not there.
    """
    root: Path = arguments.data_root
    folder = root / arguments.frame_folder
    if arguments.file_list is None or folder.is_dir():
        names = list_names(
            data_root=root,
            folder=folder,
            file_list=arguments.file_list,
            exclude_list=None,
        )
    else:
        _, entries = match_names(read_list(root / arguments.file_list), ())
        names = [without_suffix(name) for name in entries]
    return list(dict.fromkeys(names))


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
        entries = read_list(arguments.data_root / arguments.names)
        matches, unknown = match_names(entries, names)
        held = {name for name in matches if name is not None}
        if unknown or not held or len(held) == len(names):
            msg = (
                f'{arguments.names}: {len(entries)} names, {len(unknown)} of them '
                f'unknown {unknown[:3]}; name some, not all, of the {len(names)} clips'
            )
            raise ValueError(msg)
        return [sorted(set(names) - held), sorted(held)]
    number = arguments.num_holdout
    if arguments.share is not None:
        if not 0 < arguments.share < 1:
            msg = f'--share is {arguments.share}; give a number between 0 and 1'
            raise ValueError(msg)
        number = round(arguments.share * len(names))
    return list(split_names(names, number, arguments.seed))


def main() -> None:
    """Write the lists.

    Raises:
        ValueError: If both lists are one file: the clips held back would train.
    """
    arguments = parse_arguments()
    root: Path = arguments.data_root
    lists = (root / arguments.train_list, root / arguments.holdout_list)
    if lists[0].resolve() == lists[1].resolve():
        msg = f'--train-list and --holdout-list are both {lists[0]}; give two files'
        raise ValueError(msg)
    names = clips_to_split(arguments)
    for path, part in zip(lists, split(names, arguments), strict=True):
        write_list(path, part)
        print(f'{path}: {len(part)} clips')


if __name__ == '__main__':
    call_tool(main)
