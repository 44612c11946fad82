"""Split the clips or images of a dataset into training and validation lists.

Writes two sorted lists of names. The validation clips are a random number or share of
all, or those of another list (--names). The defaults match
configs/_base_/datasets/mose.py: 200 clips of MOSE's training set, whose validation
masks are not public. With --config, the clips are those of the config's source (label
images, LabelMe, SA-1B, COCO, …), and the lists are those that the config reads. An
existing list with other names is replaced only with --overwrite.

    python tools/dataset_converters/split_clips.py data/MOSE/train
    python tools/dataset_converters/split_clips.py data/mine --share 0.1 \
        --train-list ImageSets/train.txt --holdout-list ImageSets/val.txt
    python tools/dataset_converters/split_clips.py data/images --share 0.1 \
        --config configs/sam2_tiny_images.py
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.datasets.io.listing import (
    list_names,
    match_names,
    read_list,
    split_names,
    without_suffix,
    write_list,
)
from projects.sam2.engine.command_line import add_cfg_options, call_tool, whole_number

DEFAULT_LISTS = ('ImageSets/train_without_holdout.txt', 'ImageSets/holdout.txt')


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('data_root', type=Path, help='folder of the dataset')
    add('--frame-folder', default='JPEGImages', help='holds a folder per clip')
    add('--config', help='config whose source lists the clips or images')
    add_cfg_options(parser, 'key=value for the config')
    add('--file-list', help='list of the clips to split (default: all)')
    holdout = parser.add_mutually_exclusive_group()
    holdout.add_argument(
        '--num-holdout', type=int, default=200, help='validation clips (default 200)'
    )
    holdout.add_argument('--share', type=float, help='share of validation clips')
    holdout.add_argument('--names', help='list of the validation clips')
    add('--seed', type=whole_number(0), default=0, help='random seed (default 0)')
    lists = ' and '.join(DEFAULT_LISTS)
    add('--train-list', help=f'output (default: as in the config, or {lists})')
    add('--holdout-list', help='output, likewise')
    add('--overwrite', action='store_true', help='replace existing lists')
    arguments = parser.parse_args()
    if arguments.cfg_options and arguments.config is None:
        parser.error('--cfg-options needs --config')
    return arguments


def clips_to_split(arguments: argparse.Namespace) -> list[str]:
    """List all clips.

    Raises:
        FileNotFoundError: If there is neither a list nor a folder of frames.
        ValueError: If there is no clip, or the list names an unknown one.
    """
    root: Path = arguments.data_root
    if arguments.config is not None:
        from mmengine.registry import DATASETS

        source = config_source(arguments, 'train')
        source.update(file_list=arguments.file_list, exclude_list=None)
        return list(dict.fromkeys(DATASETS.build(source).list_videos()))
    folder = root / arguments.frame_folder
    if arguments.file_list is None or folder.is_dir():
        names = list_names(
            data_root=root,
            folder=folder,
            file_list=arguments.file_list,
            exclude_list=None,
        )
    else:
        pairs = match_names(read_list(root / arguments.file_list), ())
        names = [without_suffix(entry) for entry, _ in pairs]
    return list(dict.fromkeys(names))


def config_source(arguments: argparse.Namespace, loader: str) -> dict[str, Any]:
    """Return the source of a loader with the ``data_root`` of the command line.

    Raises:
        ValueError: If the config has no source of files, or more than one.
    """
    from projects.sam2.datasets.processing.config_sources import (
        dataset_config,
        find_sources,
    )
    from projects.sam2.engine.config import load_config

    cfg = load_config(arguments.config, arguments.cfg_options)
    sources = find_sources(dataset_config(cfg, loader))
    sources = [source for source in sources if source.get('data_root')]
    if len(sources) != 1:
        kinds = ', '.join(str(source['type']) for source in sources) or 'none'
        msg = (
            f'{arguments.config} must have one source of files in {loader}_dataloader, '
            f'but has {kinds}; give a config of the source to split'
        )
        raise ValueError(msg)
    return {**sources[0], 'data_root': str(arguments.data_root)}


def list_paths(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the paths of the training and the validation list.

    Raises:
        ValueError: If the config reads no list, or both lists are one file.
    """
    given = [arguments.train_list, arguments.holdout_list]
    for i, loader in enumerate(('train', 'val')):
        if given[i] is None and arguments.config is not None:
            given[i] = config_source(arguments, loader).get('file_list')
            if given[i] is None:
                option = ('--train-list', '--holdout-list')[i]
                msg = (
                    f'{arguments.config} reads no list in {loader}_dataloader; give '
                    f'{option}, and name the file as file_list of the source'
                )
                raise ValueError(msg)
        given[i] = given[i] or DEFAULT_LISTS[i]
    train, holdout = (arguments.data_root / name for name in given)
    if train.resolve() == holdout.resolve():
        msg = f'--train-list and --holdout-list are both {train}; give two files'
        raise ValueError(msg)
    return train, holdout


def refuse_to_overwrite(path: Path, names: list[str]) -> None:
    """Raise FileExistsError if the file holds other names."""
    if path.is_file() and sorted(read_list(path)) != sorted(names):
        msg = f'{path} holds other names; give --overwrite to replace it'
        raise FileExistsError(msg)


def split(names: list[str], arguments: argparse.Namespace) -> list[list[str]]:
    """Split the names into training and validation clips.

    Raises:
        ValueError: If either would be empty, or ``--names`` has an unknown name.
    """
    if arguments.names is not None:
        entries = read_list(arguments.data_root / arguments.names)
        pairs = match_names(entries, names)
        unknown = [entry for entry, name in pairs if name is None]
        holdout = {name for _, name in pairs if name is not None}
        if unknown or not holdout or len(holdout) == len(names):
            msg = (
                f'{arguments.names}: {len(entries)} names, {len(unknown)} of them '
                f'unknown {unknown[:3]}; list some, not all, of the {len(names)} clips'
            )
            raise ValueError(msg)
        return [sorted(set(names) - holdout), sorted(holdout)]
    num_holdout = arguments.num_holdout
    if arguments.share is not None:
        if not 0 < arguments.share < 1:
            msg = f'--share is {arguments.share}; give a number between 0 and 1'
            raise ValueError(msg)
        num_holdout = round(arguments.share * len(names))
    return list(split_names(names, num_holdout, arguments.seed))


def main() -> None:
    """Write the lists."""
    arguments = parse_arguments()
    paths = list_paths(arguments)
    parts = split(clips_to_split(arguments), arguments)
    if not arguments.overwrite:
        for path, part in zip(paths, parts, strict=True):
            refuse_to_overwrite(path, part)
    for path, part in zip(paths, parts, strict=True):
        write_list(path, part)
        print(f'{path}: {len(part)} clips')


if __name__ == '__main__':
    call_tool(main)
