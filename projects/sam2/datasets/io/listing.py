"""Names of files: which of them are data, and the endings that they have."""

import difflib
import itertools
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath

import numpy as np
from mmengine.logging import print_log

from ...ops import write_atomically
from .errors import ClipDataError, read_bytes
from .images import IMAGE_SUFFIXES
from .json_files import (
    check_utf8,
    describe,
    get_field,
    read_json,
)

VIDEO_SUFFIX = '.mp4'
# Formats without loss: JPEG would change the values of a mask.
MASK_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp')
# Endings that a list may carry, though a clip is called without them.
LISTED_SUFFIXES = (VIDEO_SUFFIX, '.json', *IMAGE_SUFFIXES)
# Names that archives, network drives and operating systems create beside the data.
SYSTEM_NAMES = frozenset(
    {
        '__MACOSX',
        '@eaDir',
        'lost+found',
        '$RECYCLE.BIN',
        'System Volume Information',
        'Thumbs.db',
        'desktop.ini',
    }
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data.

    Returns:
        True for names that begin with a dot (``.ipynb_checkpoints``, ``._00000.jpg``)
        and for what systems write of themselves (``__MACOSX``).
    """
    return name.startswith('.') or name in SYSTEM_NAMES


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder; every reader and tool lists its data by this function."""
    with os.scandir(folder) as entries:  # many times faster than Path.iterdir
        return [entry for entry in entries if not is_hidden(entry.name)]


def without_suffix(name: str) -> str:
    """Name of a clip in a list that names a file of it.

    Args:
        name: E.g. ``sav_000001.mp4``.

    Returns:
        The name without an ending of :data:`LISTED_SUFFIXES`, if a name is left.
    """
    stem, dot, suffix = name.rpartition('.')
    return stem if is_name(stem) and dot + suffix.lower() in LISTED_SUFFIXES else name


def is_name(stem: str) -> bool:
    """Whether a path without its ending names a file, not a folder (``''``, ``..``)."""
    return bool(stem.rpartition('/')[2].strip('.'))


def find_file(
    stem: Path, suffixes: tuple[str, ...], *, other_than: Path | None = None
) -> Path:
    """Find a file, in whatever case its ending is written, as lists of files do.

    Returns:
        The file; if there is none, the path with the first ending.

    Raises:
        ClipDataError: If there are two such files.
    """
    likely = [
        stem.with_name(stem.name + spelt)
        for suffix in suffixes
        for spelt in dict.fromkeys((suffix, suffix.upper()))
    ]
    try:
        files = [path for path in likely if path != other_than and path.is_file()]
        if not files:
            files = _spelt_otherwise(stem, suffixes, other_than)
    except (OSError, ValueError):  # a name that no file can have
        files = []
    for file in files[1:]:
        if not file.samefile(files[0]):  # some file systems take a.jpg for a.JPG
            problem = f'both {files[0].name} and {file.name} are there'
            raise ClipDataError.at(stem, problem, 'rename or remove one of them')
    return files[0] if files else likely[0]


def _spelt_otherwise(
    stem: Path, suffixes: tuple[str, ...], other_than: Path | None
) -> list[Path]:
    """Files whose endings mix upper and lower case."""
    if not stem.parent.is_dir():
        return []
    wanted = {suffix.lower() for suffix in suffixes}
    names = sorted(
        entry.name
        for entry in scan_folder(stem.parent)
        if entry.name.startswith(stem.name)
        and entry.name[len(stem.name) :].lower() in wanted
        and entry.is_file()
    )
    return [path for name in names if (path := stem.with_name(name)) != other_than]


MAX_DEPTH = 2  # of folders below the one that is searched, links included
MAX_COMPARED = 20_000  # names that are compared with a misspelt one
WRITE_LIST = 'write the list in UTF-8, a clip a line'
MAX_SHOWN = 80  # characters of a misspelt name that are shown and compared
COMMENT = '#'  # begins a line of a list that is no name

FindNames = Callable[[Path], Iterable[str]]


# Lists of clips ----------------------------------------------------------------------


def read_list(path: Path) -> list[str]:
    """Read a list of clips.

    Args:
        path: Text file with one name a line, empty lines do not count; or a
            ``meta.json`` as YouTube-VOS and MOSE have it, with names below ``videos``.

    Returns:
        The entries in their order, see :func:`normalize_name`. :func:`match_names`
        finds the clips that they mean.

    Raises:
        FileNotFoundError: If there is no such file.
        ClipDataError: If it is of neither kind.
    """
    if not path.is_file():
        msg = (
            f'{path} is missing; give the split as a text file with a clip or image a '
            f'line (tools/dataset_converters/split_clips.py writes one, of images with '
            f'its --config)'
        )
        raise FileNotFoundError(msg)
    if path.suffix.lower() == '.json':
        entries = list(get_field(read_json(path), 'videos', dict, path))
        return [normalize_name(entry) for entry in entries]
    encoded = read_bytes(path)
    check_utf8(encoded, path, 'text', WRITE_LIST)
    try:
        text = encoded.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        problem = f'is no text ({error})'
        raise ClipDataError.at(path, problem, WRITE_LIST) from error
    lines = text.replace('\r', '\n').split('\n')
    return [normalize_name(line) for line in lines if line.strip()]


def write_list(path: Path, names: list[str]) -> None:
    """Write a list of clips, whole or not at all."""
    write_atomically(path, ''.join(f'{name}\n' for name in names))


def normalize_name(entry: str) -> str:
    """Write the name of a clip as all listings do.

    Returns:
        The path without white space around it, ``./``, double slashes or a slash at its
        end.
    """
    return PurePosixPath(entry.strip()).as_posix()


def match_names(
    entries: Sequence[str], names: Collection[str]
) -> tuple[list[str | None], list[str]]:
    """Find the clips that the entries of a list mean.

    An entry means the clip of exactly that name. Only where there is none, it may
    differ from the name by the ending of an image, a video or a JSON file, by upper
    case, by backslashes, or by the way in which Unicode writes an accent. An entry that
    begins with ``#`` and means no clip is a comment.

    Args:
        entries: From :func:`read_list`.

    Returns:
        The name that each entry but comments means, None where there is none; and the
        entries without a clip.

    Raises:
        ClipDataError: If an entry may mean several clips.
    """
    known = names if isinstance(names, set | frozenset) else set(names)
    matches: list[str | None] = []
    unknown: list[str] = []
    others: dict[str, list[str]] | None = None
    for entry in entries:
        exact = next((s for s in (entry, without_suffix(entry)) if s in known), None)
        if exact is None:
            others = _other_spellings(known) if others is None else others
            form = _canonical(entry)
            spelt = others.get(form) or others.get(without_suffix(form)) or []
            if len(spelt) > 1:
                problem = f'may mean {" or ".join(map(repr, sorted(spelt)))}'
                remedy = 'write the whole name of the clip'
                raise ClipDataError.at(repr(entry), problem, remedy)
            exact = spelt[0] if spelt else None
        if exact is None:
            if entry.startswith(COMMENT):
                continue
            unknown.append(entry)
        matches.append(exact)
    return matches, unknown


def with_unknown(matches: Sequence[str | None], unknown: Sequence[str]) -> list[str]:
    """Name what a list means, also where there is no clip.

    Args:
        matches: From :func:`match_names`.
    """
    entries = iter(unknown)
    return [next(entries) if name is None else name for name in matches]


def _canonical(name: str) -> str:
    """Map spellings that some file system treats as equal to one of them."""
    return unicodedata.normalize('NFC', name.replace('\\', '/')).casefold()


def _other_spellings(names: Collection[str]) -> dict[str, list[str]]:
    """Names by their canonical spelling, with and without the ending."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(_canonical(name), []).append(name)
    stems: dict[str, list[str]] = {}
    for name in names:
        stem = _canonical(without_suffix(name))
        if stem not in spellings:
            stems.setdefault(stem, []).append(name)
    return spellings | stems


def refuse_unknown(
    unknown: Sequence[str], names: Collection[str], path: Path, where: Path
) -> None:
    """Refuse a list that names clips which are not there.

    Raises:
        ClipDataError: If there is an unknown entry.
    """
    if unknown:
        problem = _why_unknown(unknown, names, where)
        remedy = 'correct the list, or take the name off it'
        raise ClipDataError.at(path, problem, remedy)


def _why_unknown(unknown: Sequence[str], names: Collection[str], where: Path) -> str:
    """Say which entries have no clip, and which names are like the first."""
    entry = unknown[0]
    name = repr(entry if len(entry) <= MAX_SHOWN else f'{entry[:MAX_SHOWN]}…')
    more = f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''
    similar = _similar(entry, names)
    hint = f' (similar: {", ".join(map(repr, similar))})' if similar else ''
    return f'names {name}{more}, but {where} holds no such clip{hint}'


def _similar(entry: str, names: Collection[str]) -> list[str]:
    """Up to three names that an entry may have meant."""
    last = without_suffix(entry.rpartition('/')[2]).casefold()
    same = itertools.islice(
        (n for n in names if without_suffix(n.rpartition('/')[2]).casefold() == last), 3
    )
    few = list(itertools.islice(names, MAX_COMPARED))
    close = difflib.get_close_matches(entry[:MAX_SHOWN], few, n=3)
    return list(dict.fromkeys([*sorted(same), *close]))[:3]


def list_names(
    *,
    data_root: Path,
    folder: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: FindNames | None = None,
    beside: Sequence[tuple[Path, FindNames]] = (),
) -> list[str]:
    """Name the videos of a split.

    Args:
        file_list: List of videos; None for all that are found.
        exclude_list: List of videos to leave out, or None.
        find: Names what ``folder`` holds; by default sub-folders and mp4 files.
        beside: Other folders of the data, each with a function that names its content.
            A list may name what is only there, such as an image without annotation.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If no video is left, or a list names one that is not there.
    """
    if not folder.is_dir():
        msg = f'{folder} is missing; data_root must hold a folder {folder.name}'
        raise FileNotFoundError(msg)
    finder = find or find_videos

    def find_beside(entries: Sequence[str]) -> set[str]:
        sets = [names_near(entries, place, find_in) for place, find_in in beside]
        return set().union(*sets)

    return select_names(
        data_root=data_root,
        where=folder,
        file_list=file_list,
        exclude_list=exclude_list,
        find=lambda: sorted(finder(folder)),
        find_near=lambda entries: names_near(entries, folder, finder),
        find_beside=find_beside,
    )


def names_near(entries: Sequence[str], folder: Path, find: FindNames) -> set[str]:
    """Name what is in the folders that the entries of a list speak of.

    Args:
        entries: From :func:`read_list`; those with slashes speak of sub-folders.

    Returns:
        Paths relative to ``folder``; those outside of it are not there.
    """
    names: set[str] = set()
    for parent in {entry.replace('\\', '/').rpartition('/')[0] for entry in entries}:
        try:
            place = safe_join(folder, parent) if parent else folder
            found = list(find(place)) if place.is_dir() else []
        except (OSError, ValueError):  # outside, or a name that no folder can have
            continue
        names.update(f'{parent}/{name}' if parent else name for name in found)
    return names


def select_names(
    *,
    data_root: Path,
    where: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: Callable[[], list[str]],
    find_near: Callable[[Sequence[str]], set[str]],
    find_beside: Callable[[Sequence[str]], set[str]],
) -> list[str]:
    """Apply the lists of a split.

    Args:
        file_list: List of videos; None for all.
        exclude_list: List of videos to leave out, or None.
        find: Names all videos; called where there is no ``file_list``.
        find_beside: Names what a list may contain though it is no video.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If no video is left; if ``exclude_list`` names one that is not
            there, since a misspelt name would let its clip train; or if none of
            ``file_list`` is there. Some that are not there are warned of, and each is a
            bad clip.
    """
    listed = None if file_list is None else read_list(data_root / file_list)
    excluded = [] if exclude_list is None else read_list(data_root / exclude_list)
    every = find() if listed is None else []
    known = set(every) if listed is None else find_near([*listed, *excluded])

    def resolve(entries: list[str], names: set[str]) -> tuple[list[str], list[str]]:
        """Names of a list's clips; and the entries that name nothing at all."""
        matches, unknown = match_names(entries, names)
        there = find_beside(unknown) if unknown else set()
        _, nowhere = match_names(unknown, there)
        return with_unknown(matches, unknown), nowhere

    names, lacking = (every, []) if listed is None else resolve(listed, known)
    left_out, unknown = resolve(excluded, known | set(lacking))
    # Listings of folders leave hidden clips out, so they need not be excluded.
    unknown = [entry for entry in unknown if not _is_hidden_path(entry)]
    if exclude_list is not None and unknown:
        refuse_unknown(unknown, known or find(), data_root / exclude_list, where)
    held = set(left_out)
    if file_list is not None:
        lacking = [entry for entry in lacking if entry not in held]
        if len(lacking) == len(names):
            refuse_unknown(lacking, known or find(), data_root / file_list, where)
        elif lacking:
            why = _why_unknown(lacking, known, where)
            text = f'{data_root / file_list} {why}; each is a bad clip'
            print_log(text, 'current', logging.WARNING)
    names = [name for name in names if name not in held]
    if not names:
        if held:
            problem = f'exclude_list={exclude_list!r} leaves no clip; exclude fewer'
        elif file_list is not None:
            problem = 'names no clip; write the name of a clip or image a line into it'
        else:
            problem = (
                'holds no clip or image that this source reads; check data_root, the '
                'layout of the folders and the endings of the files'
            )
        source = where if file_list is None else data_root / file_list
        msg = f'{source}: {problem}'
        raise ValueError(msg)
    return names


def _is_hidden_path(entry: str) -> bool:
    parts = entry.split('/')
    return '..' not in parts and entry != '.' and any(map(is_hidden, parts))


def split_names(
    names: list[str], num_holdout: int, seed: int
) -> tuple[list[str], list[str]]:
    """Hold some clips back.

    Raises:
        ValueError: If no clip would be left, or none held back.
    """
    ordered = sorted(set(names))
    if not 0 < num_holdout < len(ordered):
        msg = (
            f'Cannot hold {num_holdout} of {len(ordered)} clips back; give a number '
            f'from 1 to {len(ordered) - 1}'
        )
        raise ValueError(msg)
    shuffled = np.random.default_rng(seed).permutation(len(ordered)).tolist()
    held = sorted(ordered[i] for i in shuffled[:num_holdout])
    kept = sorted(ordered[i] for i in shuffled[num_holdout:])
    return kept, held


# Clips of a folder -------------------------------------------------------------------


def safe_join(folder: Path, name: str) -> Path:
    """A file or folder whose name comes from data.

    Links are followed; a name may not climb out by itself.

    Args:
        folder: Where it must be.

    Raises:
        ClipDataError: If the name is absolute, empty, or has ``..`` in it.
    """
    parts = PurePosixPath(name).parts
    if not parts or '..' in parts or name.startswith('/') or '\0' in name:
        problem = f'{describe(name)} is not inside it'
        remedy = 'name files relative to the folder, without ..'
        raise ClipDataError.at(folder, problem, remedy)
    return folder / name


def find_videos(folder: Path) -> set[str]:
    """Name the sub-folders and mp4 files of a folder."""
    return find_folders(folder) | find_stems(folder, (VIDEO_SUFFIX,), depth=0)


def find_folders(folder: Path) -> set[str]:
    """Name the sub-folders of a folder."""
    return {entry.name for entry in scan_folder(folder) if entry.is_dir()}


def find_stems(
    folder: Path, suffixes: tuple[str, ...], depth: int = MAX_DEPTH
) -> set[str]:
    """Name the files of a folder and its sub-folders without their endings."""
    endings = [suffix.lower() for suffix in suffixes]
    stems = set()
    for entry in scan_folder(folder):
        name = entry.name
        if entry.is_dir():
            if depth:
                inner = find_stems(Path(entry.path), suffixes, depth - 1)
                stems |= {f'{name}/{stem}' for stem in inner}
            continue
        ending = next((s for s in endings if name.lower().endswith(s)), None)
        if ending is not None and is_name(name[: -len(ending)]):
            stems.add(name[: -len(ending)])
    return stems


# Files of a clip ---------------------------------------------------------------------

NUMBER = re.compile(r'(\d+(?:\.\d+)?)')
NEGATIVE = re.compile(r'(?:^|[\s_=(])-\d')
RENAME_FRAMES = 'name the frames 00000, 00001, …'


def list_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """Name the files of a video.

    Returns:
        File names in the order of their numbers, see :func:`order_frames`.

    Raises:
        ClipDataError: If the folder is missing, has no such file, or files that cannot
            be ordered.
    """
    remedy = 'complete the data or put the clip on the exclude list'
    if not folder.is_dir():
        raise ClipDataError.at(folder, 'is missing', remedy)
    entries = scan_folder(folder)
    names = [
        entry.name
        for entry in entries
        if entry.name.lower().endswith(suffixes)
        and not entry.is_dir(follow_symlinks=False)
    ]
    if not names:
        endings = sorted({Path(entry.name).suffix for entry in entries} - {''})
        holds = f', only {", ".join(endings[:5])}' if endings else ''
        problem = f'holds no {" or ".join(suffixes)}{holds}'
        raise ClipDataError.at(folder, problem, remedy)
    return order_frames(names, folder)


def order_frames(names: Iterable[str], where: Path | str) -> tuple[str, ...]:
    """Order files by the numbers in their names.

    Returns:
        The names, ``2.jpg`` before ``10.jpg`` and ``frame_1.5.jpg`` before
        ``frame_2.jpg``.

    Raises:
        ClipDataError: If two files have one number, differ in more than numbers, or
            have numbers that are negative or can be read in two ways.
    """
    names = list(names)
    stems = [name.rpartition('.')[0] for name in names]
    if all(map(str.isdecimal, stems)):  # the usual names, many times faster
        by_number = dict(zip(map(int, stems), names, strict=True))
        if len(by_number) == len(names):
            return tuple(map(by_number.__getitem__, sorted(by_number)))
    tokens = {name: NUMBER.split(stem_of(name).lower()) for name in names}
    key_of = {name: frame_key(stem_of(name)) for name in names}
    ordered = sorted(key_of, key=lambda name: (key_of[name], name))
    for first, second in itertools.pairwise(ordered):
        if key_of[first] == key_of[second]:
            problem = f'{first} and {second} have the same frame number'
            raise ClipDataError.at(where, problem, 'keep only one of them there')
        problem = _why_unordered(tokens[first], tokens[second])
        if problem:
            pair = f'{first} and {second} {problem}'
            raise ClipDataError.at(where, pair, RENAME_FRAMES)
    if len(ordered) > 1:
        for name in ordered:
            if NEGATIVE.search(stem_of(name)):
                problem = f'{name} has a negative number'
                raise ClipDataError.at(where, problem, RENAME_FRAMES)
    return tuple(ordered)


def frame_key(stem: str) -> tuple[str | int | Decimal, ...]:
    """Take the name of a frame apart: equal for ``frame_1`` and ``Frame_001``."""
    tokens = NUMBER.split(stem.lower())
    return tuple(_number(token) if i % 2 else token for i, token in enumerate(tokens))


def _number(token: str) -> int | Decimal:
    return int(token) if token.isdecimal() else Decimal(token)


def _why_unordered(first: list[str], second: list[str]) -> str:
    """Why two names, cut at their numbers, have no order; empty where they have one."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if index % 2 == 0:
            if one != other:
                return 'have no number to be ordered by'
            continue
        if _number(one) == _number(other):
            continue
        whole, _, part = one.partition('.')
        other_whole, _, other_part = other.partition('.')
        # 1.25 comes before 1.5 as a time, and after it as the 25th of a part 1.
        is_clear = not part or not other_part or len(part) == len(other_part)
        if is_clear or int(whole) != int(other_whole):
            return ''
        return 'have fractions of different lengths, which can be read in two ways'
    return 'have no number to be ordered by'


def stem_of(file_name: str) -> str:
    """Name of a file without its ending."""
    return file_name.rpartition('.')[0]
