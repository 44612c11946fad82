"""Lists the clips of a split, the files of a folder, and the frames of a video."""

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
from .errors import COMPLETE_DATA, ClipDataError, read_bytes
from .json_files import check_utf8, describe, get_field, read_json

VIDEO_SUFFIX = '.mp4'
JPEG_SUFFIXES = ('.jpg', '.jpeg')
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, '.png', '.bmp', '.tif', '.tiff', '.webp')
# Lossless formats: JPEG would change the values of a mask.
MASK_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp')
# Suffixes that a list may carry, though clips are named without them.
LISTED_SUFFIXES = (VIDEO_SUFFIX, '.json', *IMAGE_SUFFIXES)
# Files and folders that archives, network drives and operating systems create.
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
MAX_DEPTH = 2  # levels of sub-folders that are searched; links may form cycles
MAX_COMPARED = 20_000  # names that are compared with a misspelt one
MAX_SHOWN = 80  # characters of a misspelt name that are shown and compared
COMMENT = '#'
WRITE_LIST = 'write the list in UTF-8, one clip per line'
NO_CLIP = (
    'holds no clip or image that this source reads; check data_root, the layout of the '
    'folders and the suffixes of the files'
)

# Lists the names in a folder.
FindNames = Callable[[Path], Iterable[str]]


# Clips of a split --------------------------------------------------------------------


def list_names(
    *,
    data_root: Path,
    folder: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: FindNames | None = None,
    beside: Sequence[tuple[Path, FindNames]] = (),
) -> list[str]:
    """List the clips of a split that lie in a folder.

    Args:
        file_list: List of clips, relative to ``data_root``; None for all in the folder.
        exclude_list: List of clips to leave out, or None.
        find: Lists the folder; by default sub-folders and mp4 files.
        beside: Other folders of the data, each with the function that lists it. A list
            may name a clip that exists only there, such as an image without annotation.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: See :func:`select_names`.
    """
    if not folder.is_dir():
        msg = f'{folder} is missing; data_root must hold a folder {folder.name}'
        raise FileNotFoundError(msg)
    find_clips = find or find_videos
    return select_names(
        data_root=data_root,
        where=folder,
        file_list=file_list,
        exclude_list=exclude_list,
        find=lambda entries: (
            set(find_clips(folder))
            if entries is None
            else names_near(entries, folder, find_clips)
        ),
        find_other=lambda entries: {
            name
            for other, find_in in beside
            for name in names_near(entries, other, find_in)
        },
    )


def select_names(
    *,
    data_root: Path,
    where: Path,
    file_list: str | None,
    exclude_list: str | None,
    find: Callable[[Sequence[str] | None], set[str]],
    find_other: Callable[[Sequence[str]], set[str]],
) -> list[str]:
    """Apply the lists of a split to the clips of a source.

    Args:
        where: The folder or file of the clips, for errors.
        file_list: List of clips, relative to ``data_root``; None for all.
        exclude_list: List of clips to leave out, or None.
        find: Returns the names of all clips (for None), or at least of those that the
            entries may mean.
        find_other: Returns names that entries may mean although they are not clips.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If no clip is left; if ``exclude_list`` has an unknown name, since a
            misspelt one would let its clip train; or if ``file_list`` has only unknown
            names. A few unknown names cause a warning, and each is a corrupt clip.
    """
    listed = None if file_list is None else read_list(data_root / file_list)
    excluded = [] if exclude_list is None else read_list(data_root / exclude_list)

    def resolve(entries: list[str], names: set[str]) -> tuple[list[str], list[str]]:
        """Return the names of the entries, and the entries that match nothing."""
        pairs = match_names(entries, names)
        unknown = [entry for entry, name in pairs if name is None]
        others = match_names(unknown, find_other(unknown) if unknown else ())
        return (
            [name or entry for entry, name in pairs],
            [entry for entry, name in others if name is None],
        )

    if listed is None:
        known = find(None)
        names = sorted(known)
        missing: list[str] = []
    else:
        known = find([*listed, *excluded])
        names, missing = resolve(listed, known)
    resolved, unknown = resolve(excluded, known | set(missing))
    left_out = set(resolved)
    # Listings of folders leave hidden clips out anyway.
    unknown = [entry for entry in unknown if not _is_hidden_path(entry)]
    if unknown and exclude_list is not None:
        check_known(unknown, known or find(None), data_root / exclude_list, where)
    missing = [entry for entry in missing if entry not in left_out]
    if missing and file_list is not None:
        path = data_root / file_list
        if len(missing) == len(names):
            check_known(missing, known or find(None), path, where)
        text = f'{path} {_describe_unknown(missing, known, where)}; each is a bad clip'
        print_log(text, 'current', logging.WARNING)
    names = [name for name in names if name not in left_out]
    if not names:
        source = where if file_list is None else data_root / file_list
        if left_out:
            problem = f'exclude_list={exclude_list!r} leaves no clip; exclude fewer'
        elif file_list is not None:
            problem = 'names no clip; write one name of a clip or image per line'
        else:
            problem = NO_CLIP
        msg = f'{source}: {problem}'
        raise ValueError(msg)
    return names


def names_near(entries: Sequence[str], folder: Path, find: FindNames) -> set[str]:
    """List only the folders that entries of a list mention (data may have millions).

    Args:
        entries: From :func:`read_list`; those with slashes mention sub-folders.

    Returns:
        Paths relative to ``folder``.
    """
    names: set[str] = set()
    for parent in {entry.replace('\\', '/').rpartition('/')[0] for entry in entries}:
        try:
            inner = safe_join(folder, parent) if parent else folder
            inner_names = list(find(inner)) if inner.is_dir() else []
        except (OSError, ValueError):  # outside, or a name that no folder can have
            continue
        names.update(f'{parent}/{name}' if parent else name for name in inner_names)
    return names


def split_names(
    names: list[str], num_holdout: int, seed: int
) -> tuple[list[str], list[str]]:
    """Hold out some clips at random: (training, held out), both sorted.

    Raises:
        ValueError: If either would be empty.
    """
    ordered = sorted(set(names))
    if not 0 < num_holdout < len(ordered):
        msg = (
            f'Cannot hold {num_holdout} of {len(ordered)} clips back; give num_holdout '
            f'from 1 to {len(ordered) - 1}'
        )
        raise ValueError(msg)
    shuffled = np.random.default_rng(seed).permutation(len(ordered)).tolist()
    holdout = sorted(ordered[i] for i in shuffled[:num_holdout])
    training = sorted(ordered[i] for i in shuffled[num_holdout:])
    return training, holdout


# Lists of clips ----------------------------------------------------------------------


def read_list(path: Path) -> list[str]:
    """Read a list of clips.

    Args:
        path: Text file with one name per line; or a ``meta.json`` of YouTube-VOS or
            MOSE, with the names below ``videos``.

    Returns:
        The entries, see :func:`normalize_name` and :func:`match_names`.

    Raises:
        FileNotFoundError: If there is no such file.
        ClipDataError: If it is neither.
    """
    if not path.is_file():
        msg = (
            f'{path} is missing; give the split as a text file with one clip or image '
            f'per line (tools/dataset_converters/split_clips.py writes one, of images '
            f'with its --config)'
        )
        raise FileNotFoundError(msg)
    if path.suffix.lower() == '.json':
        lines = list(get_field(read_json(path), 'videos', dict, path))
    else:
        encoded = read_bytes(path)
        check_utf8(encoded, path, 'text', WRITE_LIST)
        try:
            text = encoded.decode('utf-8-sig')
        except UnicodeDecodeError as error:
            problem = f'is not text ({error})'
            raise ClipDataError.at(path, problem, WRITE_LIST) from error
        lines = [line for line in re.split('[\r\n]', text) if line.strip()]
    return [normalize_name(line) for line in lines]


def write_list(path: Path, names: list[str]) -> None:
    """Write a list of clips."""
    write_atomically(path, ''.join(f'{name}\n' for name in names))


def normalize_name(entry: str) -> str:
    """Strip white space, ``./``, double slashes and a trailing slash from a path."""
    return PurePosixPath(entry.strip()).as_posix()


def match_names(
    entries: Sequence[str], names: Collection[str]
) -> list[tuple[str, str | None]]:
    """Find the clips that the entries of a list mean.

    An entry means the clip of exactly that name. Only if there is none, it may differ
    from the name by the suffix of an image, a video or a JSON file, by upper case, by
    backslashes, or by the Unicode form of an accent. An entry that begins with ``#``
    and means no clip is a comment.

    Args:
        entries: From :func:`read_list`.

    Returns:
        Each entry but comments, with the name that it means or None.

    Raises:
        ClipDataError: If an entry may mean several clips.
    """
    known = names if isinstance(names, set | frozenset) else set(names)
    spellings: dict[str, list[str]] | None = None  # built only if needed
    pairs: list[tuple[str, str | None]] = []
    for entry in entries:
        stem = without_suffix(entry)
        name = next((each for each in (entry, stem) if each in known), None)
        if name is None:
            spellings = _canonical_spellings(known) if spellings is None else spellings
            form = _canonical(entry)
            similar = spellings.get(form) or spellings.get(without_suffix(form)) or []
            if len(similar) > 1:
                problem = f'may mean {" or ".join(map(repr, sorted(similar)))}'
                remedy = 'write the complete name of the clip'
                raise ClipDataError.at(repr(entry), problem, remedy)
            name = similar[0] if similar else None
        if name is not None or not entry.startswith(COMMENT):
            pairs.append((entry, name))
    return pairs


def check_known(
    unknown: Sequence[str], names: Collection[str], path: Path, where: Path
) -> None:
    """Refuse a list that names clips which do not exist.

    Args:
        unknown: Entries without a clip.
        names: The clips that exist.
        path: The list.
        where: The folder or file of the clips.
    """
    if unknown:
        problem = _describe_unknown(unknown, names, where)
        remedy = 'correct the list, or remove the name from it'
        raise ClipDataError.at(path, problem, remedy)


def _describe_unknown(
    unknown: Sequence[str], names: Collection[str], where: Path
) -> str:
    entry = unknown[0]
    name = repr(entry if len(entry) <= MAX_SHOWN else f'{entry[:MAX_SHOWN]}…')
    more = f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''
    last = without_suffix(entry.rpartition('/')[2]).casefold()
    same = itertools.islice(
        (n for n in names if without_suffix(n.rpartition('/')[2]).casefold() == last), 3
    )
    few = list(itertools.islice(names, MAX_COMPARED))
    close = difflib.get_close_matches(entry[:MAX_SHOWN], few, n=3)
    similar = list(dict.fromkeys([*sorted(same), *close]))[:3]
    hint = f' (similar: {", ".join(map(repr, similar))})' if similar else ''
    return f'names {name}{more}, but {where} holds no such clip{hint}'


def _canonical(name: str) -> str:
    """One spelling for names that some file system treats as equal."""
    return unicodedata.normalize('NFC', name.replace('\\', '/')).casefold()


def _canonical_spellings(names: Collection[str]) -> dict[str, list[str]]:
    """Names by their canonical spelling, with and without the suffix."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(_canonical(name), []).append(name)
    stems: dict[str, list[str]] = {}
    for name in names:
        stem = _canonical(without_suffix(name))
        if stem not in spellings:
            stems.setdefault(stem, []).append(name)
    return spellings | stems


# Folders -----------------------------------------------------------------------------


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without hidden files; all readers and tools list data with this."""
    with os.scandir(folder) as entries:  # many times faster than Path.iterdir
        return [entry for entry in entries if not is_hidden(entry.name)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden (``._00000.jpg``) or of the system."""
    return name.startswith('.') or name in SYSTEM_NAMES


def _is_hidden_path(entry: str) -> bool:
    parts = entry.split('/')
    return '..' not in parts and entry != '.' and any(map(is_hidden, parts))


def find_videos(folder: Path) -> set[str]:
    """List the sub-folders and the mp4 files of a folder, without suffix."""
    return find_folders(folder) | find_stems(folder, (VIDEO_SUFFIX,), depth=0)


def find_folders(folder: Path) -> set[str]:
    """List the sub-folders of a folder."""
    return {entry.name for entry in scan_folder(folder) if entry.is_dir()}


def find_stems(
    folder: Path, suffixes: tuple[str, ...], depth: int = MAX_DEPTH
) -> set[str]:
    """List the files of a folder and its sub-folders without their suffixes."""
    lower = [suffix.lower() for suffix in suffixes]
    stems = set()
    for entry in scan_folder(folder):
        name = entry.name
        if entry.is_dir():
            if depth:
                inner = find_stems(Path(entry.path), suffixes, depth - 1)
                stems |= {f'{name}/{stem}' for stem in inner}
            continue
        suffix = next((s for s in lower if name.lower().endswith(s)), None)
        if suffix is not None and is_name(name[: -len(suffix)]):
            stems.add(name[: -len(suffix)])
    return stems


def find_file(
    stem: Path, suffixes: tuple[str, ...], *, other_than: Path | None = None
) -> Path:
    """Find the file ``<stem><suffix>``, in whatever case the suffix is written.

    Returns:
        The file; if there is none, the path with the first suffix.

    Raises:
        ClipDataError: If there are two such files.
    """
    likely = [
        stem.with_name(stem.name + spelling)
        for suffix in suffixes
        for spelling in dict.fromkeys((suffix, suffix.upper()))
    ]
    try:
        files = [path for path in likely if path != other_than and path.is_file()]
        if not files:
            paths = _find_mixed_case(stem, suffixes)
            files = [path for path in paths if path != other_than]
    except (OSError, ValueError):  # a name that no file can have
        files = []
    for file in files[1:]:
        if not file.samefile(files[0]):  # some file systems take a.jpg for a.JPG
            problem = f'both {files[0].name} and {file.name} exist'
            raise ClipDataError.at(stem, problem, 'rename or remove one of them')
    return files[0] if files else likely[0]


def _find_mixed_case(stem: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with suffixes like ``.Jpg``; the whole folder has to be listed."""
    if not stem.parent.is_dir():
        return []
    lower = {suffix.lower() for suffix in suffixes}
    return sorted(
        Path(entry.path)
        for entry in scan_folder(stem.parent)
        if entry.name.startswith(stem.name)
        and entry.name[len(stem.name) :].lower() in lower
        and entry.is_file()
    )


def safe_join(folder: Path, name: str) -> Path:
    """Join a folder and a name that comes from data; links are followed.

    Raises:
        ClipDataError: If the name is absolute, empty, or contains ``..``.
    """
    parts = PurePosixPath(name).parts
    if not parts or '..' in parts or name.startswith('/') or '\0' in name:
        problem = f'{describe(name)} is not inside it'
        remedy = 'name files relative to the folder, without ..'
        raise ClipDataError.at(folder, problem, remedy)
    return folder / name


def without_suffix(name: str) -> str:
    """Remove a suffix of :data:`LISTED_SUFFIXES`, if a name is left."""
    stem, dot, suffix = name.rpartition('.')
    return stem if is_name(stem) and dot + suffix.lower() in LISTED_SUFFIXES else name


def is_name(stem: str) -> bool:
    """Whether a path without its suffix names a file, not a folder (``''``, ``..``)."""
    return bool(stem.rpartition('/')[2].strip('.'))


def stem_of(file_name: str) -> str:
    """Name of a file without its suffix."""
    return file_name.rpartition('.')[0]


def is_object_number(name: str) -> bool:
    """Whether the name of an object's folder is a number, small enough for an id."""
    return name.isdecimal() and len(name) <= 9


# Frames of a video -------------------------------------------------------------------

NUMBER = re.compile(r'(\d+(?:\.\d+)?)')
NEGATIVE = re.compile(r'(?:^|[\s_=(])-\d')
RENAME_FRAMES = 'name the frames 00000, 00001, …'


def list_files(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """List the files of a video, ordered by :func:`order_frames`.

    Raises:
        ClipDataError: If the folder is missing, has no such file, or files that cannot
            be ordered.
    """
    if not folder.is_dir():
        raise ClipDataError.at(folder, 'is missing', COMPLETE_DATA)
    entries = scan_folder(folder)
    names = [
        entry.name
        for entry in entries
        if entry.name.lower().endswith(suffixes)
        and not entry.is_dir(follow_symlinks=False)
    ]
    if not names:
        others = sorted({Path(entry.name).suffix for entry in entries} - {''})
        only = f', only {", ".join(others[:5])}' if others else ''
        problem = f'holds no {" or ".join(suffixes)}{only}'
        raise ClipDataError.at(folder, problem, COMPLETE_DATA)
    return order_frames(names, folder)


def order_frames(names: Iterable[str], where: Path | str) -> tuple[str, ...]:
    """Order files by the numbers in their names.

    Returns:
        The names, ``2.jpg`` before ``10.jpg`` and ``frame_1.5.jpg`` before
        ``frame_2.jpg``.

    Raises:
        ClipDataError: If two files have the same number, differ in more than numbers,
            or have numbers that are negative or ambiguous.
    """
    names = list(names)
    stems = list(map(stem_of, names))
    if all(map(str.isdecimal, stems)):  # the usual names, many times faster
        by_number = dict(zip(map(int, stems), names, strict=True))
        if len(by_number) == len(names):
            return tuple(map(by_number.__getitem__, sorted(by_number)))
    key_of = {name: frame_key(stem_of(name)) for name in names}
    ordered = sorted(key_of, key=lambda name: (key_of[name], name))
    for first, second in itertools.pairwise(ordered):
        if key_of[first] == key_of[second]:
            problem = f'{first} and {second} have the same frame number'
            raise ClipDataError.at(where, problem, 'keep only one of them there')
        problem = _why_unordered(stem_of(first), stem_of(second))
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
    """Split a frame's name at its numbers: equal for ``frame_1`` and ``Frame_001``."""
    tokens = NUMBER.split(stem.lower())
    return tuple(_number(token) if i % 2 else token for i, token in enumerate(tokens))


def _number(token: str) -> int | Decimal:
    return int(token) if token.isdecimal() else Decimal(token)


def _why_unordered(first: str, second: str) -> str:
    """Why the numbers of two names do not order them; empty if they do."""
    tokens = NUMBER.split(first.lower()), NUMBER.split(second.lower())
    for index, (token, other) in enumerate(zip(*tokens, strict=False)):
        if index % 2 == 0:  # text between numbers
            if token != other:
                break
        elif _number(token) != _number(other):
            whole, _, part = token.partition('.')
            other_whole, _, other_part = other.partition('.')
            # 1.25 comes before 1.5 as a time, but after it as the 25th of a part 1.
            is_clear = not part or not other_part or len(part) == len(other_part)
            if is_clear or int(whole) != int(other_whole):
                return ''
            return 'have fractions of different lengths, which are ambiguous'
    return 'have no number to be ordered by'
