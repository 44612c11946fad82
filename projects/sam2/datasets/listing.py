"""Which videos there are, and which files belong to one."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from mmengine.logging import print_log

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.file_endings import (
    VIDEO_SUFFIX,
    is_name,
    without_suffix,
)
from projects.sam2.datasets.json_files import read_json, take
from projects.sam2.ops import write_whole

MAX_DEPTH = 2  # of folders below the one that is searched, links included


def read_list(path: Path) -> list[str]:
    """Read a list of clips.

    Args:
        path: Text file with one name a line, empty lines do not count; or a
            ``meta.json`` as YouTube-VOS and MOSE have it, with names below ``videos``.

    Returns:
        The names in their order, without the ending of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ClipDataError: If it is of neither kind.
    """
    if not path.is_file():
        msg = (
            f'{path} is missing; give the split as a text file with a clip a line '
            f'(tools/dataset_converters/split_clips.py writes one)'
        )
        raise FileNotFoundError(msg)
    if path.suffix.lower() == '.json':
        return list(take(read_json(path), 'videos', dict, path))
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        remedy = 'write the list in UTF-8, a clip a line'
        raise ClipDataError.at(path, f'is no text ({error})', remedy) from error
    return [without_suffix(line.strip()) for line in lines if line.strip()]


def child(folder: Path, name: str) -> Path:
    """A file or folder whose name comes from data.

    Links are followed; a name may not climb out by itself.

    Args:
        folder: Where it must be.
        name: Relative path.

    Returns:
        The path.

    Raises:
        ClipDataError: If the name is absolute, empty, or has ``..`` in it.
    """
    parts = PurePosixPath(name).parts
    if not parts or '..' in parts or name.startswith('/') or '\0' in name:
        problem = f'is asked for {name[:80]!r}, which is not inside it'
        remedy = 'name files relative to the folder, without ..'
        raise ClipDataError.at(folder, problem, remedy)
    return folder / name


def find_videos(folder: Path) -> Iterable[str]:
    """Name the sub-folders and mp4 files of a folder.

    Args:
        folder: Where to look.

    Returns:
        The names, once each.
    """
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir()) for entry in entries]
    videos = {name for name, is_dir in found if is_dir}
    return videos | {
        stem_of(name)
        for name, is_dir in found
        if not is_dir and name.lower().endswith(VIDEO_SUFFIX) and is_name(stem_of(name))
    }


def find_stems(folder: Path, suffixes: tuple[str, ...]) -> set[str]:
    """Name the files of a folder and its sub-folders without their endings.

    Args:
        folder: Where to look; two levels below it count as well.
        suffixes: Endings that count, in any case; they are cut off.

    Returns:
        Paths relative to the folder.
    """
    endings = [suffix.lower() for suffix in suffixes]
    found = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        inner = Path(place).relative_to(folder)
        if len(inner.parts) >= MAX_DEPTH:
            folders.clear()  # os.walk goes no deeper
        for file in files:
            ending = next((s for s in endings if file.lower().endswith(s)), None)
            if ending is not None and is_name(file[: -len(ending)]):
                found.add((inner / file[: -len(ending)]).as_posix())
    return found


def list_names(
    *,
    data_root: Path,
    folder: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: Callable[[Path], Iterable[str]] = find_videos,
) -> list[str]:
    """Name the videos of a split.

    Args:
        data_root: Folder that the lists are relative to.
        folder: Folder of the videos.
        file_list: List of videos; None for all that are found.
        exclude_list: List of videos to leave out, or None.
        find: Names what ``folder`` holds; by default sub-folders and mp4 files.

    Returns:
        The names, those of a list in its order.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If no video is left.
    """
    if not folder.is_dir():
        msg = f'{folder} is missing; data_root must hold a folder {folder.name}'
        raise FileNotFoundError(msg)
    return select_names(
        data_root=data_root,
        where=folder,
        file_list=file_list,
        exclude_list=exclude_list,
        find=lambda: sorted(find(folder)),
    )


def select_names(
    *,
    data_root: Path,
    where: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: Callable[[], list[str]],
) -> list[str]:
    """Apply the lists of a split.

    Args:
        data_root: Folder that the lists are relative to.
        where: Place of all videos, for the error.
        file_list: List of videos; None for all.
        exclude_list: List of videos to leave out, or None.
        find: Names all videos; called where there is no ``file_list``.

    Returns:
        The names, those of a list in its order.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If no video is left.
    """
    names = find() if file_list is None else read_list(data_root / file_list)
    if exclude_list is not None:
        excluded = set(read_list(data_root / exclude_list))
        if names and excluded and excluded.isdisjoint(names):
            _warn_of_no_match(data_root / exclude_list, excluded, names)
        names = [name for name in names if name not in excluded]
    if not names:
        where = where if file_list is None else data_root / file_list
        msg = (
            f'{where} names no video (exclude_list={exclude_list}); name at least one '
            f'clip or exclude fewer'
        )
        raise ValueError(msg)
    return names


def _warn_of_no_match(path: Path, excluded: set[str], names: list[str]) -> None:
    """A list of another split excludes nothing, but so does one of misspelt names."""
    msg = (
        f'{path} excludes none of {len(names)} clips: it names {min(excluded)!r}, they '
        f'are called like {names[0]!r}; write them alike, or leave exclude_list out'
    )
    print_log(msg, 'current', logging.WARNING)


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
    write_whole(path, ''.join(f'{name}\n' for name in names))
