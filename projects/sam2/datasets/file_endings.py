"""Names of files: which of them are data, and the endings that they have."""

import os
from pathlib import Path

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.reading import IMAGE_SUFFIXES

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

    Args:
        name: Name without folders.

    Returns:
        True for names that begin with a dot (``.ipynb_checkpoints``, ``._00000.jpg``)
        and for what systems write of themselves (``__MACOSX``).
    """
    return name.startswith('.') or name in SYSTEM_NAMES


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder; every reader and tool lists its data by this function.

    Args:
        folder: The folder.

    Returns:
        Its entries that are not hidden, in the order of the file system.
    """
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

    Args:
        stem: Path without the ending.
        suffixes: Endings that count.
        other_than: A file of that stem to leave out, such as the label image beside an
            image.

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
