"""Which videos there are, and which files belong to one."""

import os
from pathlib import Path

import numpy as np

from projects.sam2.datasets.errors import ClipDataError


def read_list(path: Path) -> list[str]:
    """Read a list of clips.

    Args:
        path: Text file with one name a line; empty lines do not count.

    Returns:
        The names in their order.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        msg = (
            f'{path} is missing; give the split as a text file with a clip a line '
            f'(tools/dataset_converters/split_clips.py writes one)'
        )
        raise FileNotFoundError(msg)
    lines = path.read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip()]


def list_names(
    *, data_root: Path, folder: Path, file_list: str | None, exclude_list: str | None
) -> list[str]:
    """Name the videos of a split.

    Args:
        data_root: Folder that the lists are relative to.
        folder: Folder with a sub-folder for each video.
        file_list: List of videos; None for all sub-folders.
        exclude_list: List of videos to leave out, or None.

    Returns:
        The names, those of a list in its order.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If no video is left.
    """
    if not folder.is_dir():
        msg = f'{folder} is missing; data_root must hold a folder {folder.name}'
        raise FileNotFoundError(msg)
    if file_list is None:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    else:
        names = read_list(data_root / file_list)
    if exclude_list is not None:
        excluded = set(read_list(data_root / exclude_list))
        names = [name for name in names if name not in excluded]
    if not names:
        where = folder if file_list is None else data_root / file_list
        msg = (
            f'{where} names no video (exclude_list={exclude_list}); name at least one '
            f'clip or exclude fewer'
        )
        raise ValueError(msg)
    return names


def list_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """Name the files of a video.

    Args:
        folder: Where they are.
        suffixes: Endings that count, in lower case.

    Returns:
        File names; numbers without leading zeros are in numerical order.

    Raises:
        ClipDataError: If the folder is missing or has no such file.
    """
    remedy = 'complete the data or put the clip on the exclude list'
    if not folder.is_dir():
        raise ClipDataError.at(folder, 'is missing', remedy)
    with os.scandir(folder) as entries:  # many times faster than Path.iterdir
        names = [e.name for e in entries if e.name.lower().endswith(suffixes)]
    if not names:
        raise ClipDataError.at(folder, f'holds no {" or ".join(suffixes)}', remedy)
    names.sort(key=lambda name: (len(stem_of(name)), name))
    return tuple(names)


def stem_of(file_name: str) -> str:
    """Name of a file without its ending.

    Args:
        file_name: Name without folders.

    Returns:
        What stands before the last dot.
    """
    return file_name.rpartition('.')[0]


def split_names(
    names: list[str], num_holdout: int, seed: int
) -> tuple[list[str], list[str]]:
    """Hold some clips back.

    Args:
        names: All clips, in any order.
        num_holdout: Clips to hold back.
        seed: Of the choice.

    Returns:
        The clips that are left and those held back, each sorted.

    Raises:
        ValueError: If no clip would be left, or none held back.
    """
    if not 0 < num_holdout < len(names):
        msg = (
            f'Cannot hold {num_holdout} of {len(names)} clips back; give a number '
            f'from 1 to {len(names) - 1}'
        )
        raise ValueError(msg)
    ordered = sorted(names)
    shuffled = np.random.default_rng(seed).permutation(len(ordered)).tolist()
    held = sorted(ordered[i] for i in shuffled[:num_holdout])
    kept = sorted(ordered[i] for i in shuffled[num_holdout:])
    return kept, held


def write_list(path: Path, names: list[str]) -> None:
    """Write a list of clips, whole or not at all.

    Args:
        path: Text file.
        names: One for each line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix('.tmp')
    aside.write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
    aside.replace(path)
