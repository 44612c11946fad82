"""Endings of files: cut off where a clip is named, found again where it is opened."""

from pathlib import Path

from projects.sam2.datasets.reading import IMAGE_SUFFIXES

VIDEO_SUFFIX = '.mp4'
# Endings that lists carry here and there; a clip is called without them.
LISTED_SUFFIXES = (VIDEO_SUFFIX, '.json', *IMAGE_SUFFIXES)


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


def find_file(stem: Path, suffixes: tuple[str, ...]) -> Path:
    """Find a file, in whatever case its ending is written, as lists of files do.

    Args:
        stem: Path without the ending.
        suffixes: Endings that count, the first that is there.

    Returns:
        The file; where there is none, the path that it had with the first ending.
    """
    for suffix in suffixes:
        for spelt in (suffix, suffix.upper()):
            path = stem.with_name(stem.name + spelt)
            if path.is_file():
                return path
    wanted = {suffix.lower() for suffix in suffixes}
    others = stem.parent.iterdir() if stem.parent.is_dir() else ()
    found = (
        path
        for path in others
        if path.name.startswith(stem.name)
        and path.name[len(stem.name) :].lower() in wanted
        and path.is_file()
    )
    return min(found, default=stem.with_name(stem.name + suffixes[0]))
