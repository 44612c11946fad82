"""What can be opened: files below the roots, and the generated clips."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...datasets.io.errors import ClipDataError
from ...datasets.io.images import write_jpeg
from ...datasets.io.listing import IMAGE_SUFFIXES, list_files, scan_folder
from ...datasets.sources.cells import draw_clip
from ...datasets.sources.synthetic import make_clip, make_plans
from ...ops import atomic_write
from .uploads import VIDEO_SUFFIXES

EXAMPLE_PREFIX = 'example:'
EXAMPLE_FRAMES = 48
EXAMPLE_QUALITY = 92  # of JPEG
EXAMPLE_CELLS = {  # by seed; the small model that comes with the package knows cells
    'cells_1': ('Cells that drift', 3009),
    'cells_2': ('Cells that meet', 3003),
    'cells_3': ('More cells', 3020),
}
CELLS_SIDE = 512  # pixels
EXAMPLE_OBJECTS = 'moving_objects', 'Objects that cover each other'
OBJECTS_SIZE, OBJECTS_SEED = 256, 17  # pixels
MAX_ENTRIES = 5000  # of a folder that are listed
NUM_PEEKED = 64  # entries of a folder that are looked at to know what it holds
EntryKind = Literal['folder', 'video', 'images', 'frames', 'annotations']
EXPORT_SUFFIXES = ('.json', '.xml', '.zip')


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a folder holds that the demo can open.

    Attributes:
        name: Its name.
        path: Absolute path.
        kind: 'video' for a file; 'frames' for a folder of images that are ordered by
            numbers, 'images' for another one or an image; 'annotations'; 'folder'.
        size: Of a file, in bytes.
    """

    name: str
    path: str
    kind: EntryKind
    size: int | None


def browse(folder: Path, roots: Sequence[Path]) -> dict[str, Any]:
    """List a folder.

    Args:
        folder: A folder in a root.
        roots: Folders that may be read; ``parent`` is None at the top of one.

    Raises:
        OSError: If it is no folder, or cannot be read.
    """
    entries = []
    for entry in itertools.islice(scan_folder(folder), MAX_ENTRIES):
        path = Path(entry.path)
        if entry.is_symlink() and not _is_inside(path, roots):
            continue
        kind = kind_of(path)
        if kind is not None:
            size = path.stat().st_size if path.is_file() else None
            entries.append(Entry(name=entry.name, path=str(path), kind=kind, size=size))
    entries.sort(key=lambda entry: (entry.kind != 'folder', entry.name.casefold()))
    parent = folder.parent
    return {
        'path': str(folder),
        'parent': str(parent) if _is_inside(parent, roots) else None,
        'entries': [asdict(entry) for entry in entries],
    }


def _is_inside(path: Path, roots: Sequence[Path]) -> bool:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return any(resolved.is_relative_to(root) for root in roots)


def kind_of(path: Path) -> EntryKind | None:
    """What a path is for the demo, by names alone; None if it is nothing to open."""
    name = path.name.lower()
    if path.is_dir():
        try:
            peeked = list(itertools.islice(scan_folder(path), NUM_PEEKED))
        except OSError:
            return None
        is_images = any(e.name.lower().endswith(IMAGE_SUFFIXES) for e in peeked)
        if not is_images:
            return 'folder'
        try:
            list_files(path, IMAGE_SUFFIXES)
        except ClipDataError:  # no numbers order them
            return 'images'
        return 'frames'
    if not path.is_file():
        return None
    if name.endswith(VIDEO_SUFFIXES):
        return 'video'
    if name.endswith(IMAGE_SUFFIXES):
        return 'images'
    return 'annotations' if name.endswith(EXPORT_SUFFIXES) else None


def collect_images(paths: Sequence[Path], folder: Path) -> Path:
    """Make a folder of links to images that lie in different places.

    The same images give the same folder. Images of one name are numbered.
    """
    names = '\0'.join(map(str, paths))
    target = folder / hashlib.sha256(names.encode()).hexdigest()[:16]
    if not target.is_dir():
        with atomic_write(target) as partial:
            partial.mkdir(parents=True)
            used: set[str] = set()
            for path in paths:
                numbered = (f'{path.stem}_{n}{path.suffix}' for n in itertools.count(2))
                candidates = itertools.chain([path.name], numbered)
                name = next(n for n in candidates if n.casefold() not in used)
                used.add(name.casefold())
                (partial / name).symlink_to(path)
    return target


# Generated clips ---------------------------------------------------------------------


def describe_examples() -> list[dict[str, Any]]:
    """The generated clips, as the page lists them."""
    titles = {name: title for name, (title, _) in EXAMPLE_CELLS.items()}
    titles.update([EXAMPLE_OBJECTS])
    return [
        {'name': name, 'title': title, 'num_frames': EXAMPLE_FRAMES}
        for name, title in titles.items()
    ]


def write_example(name: str, folder: Path) -> Path:
    """Render a generated clip, unless it is there; return its folder of frames.

    Raises:
        ValueError: If there is no such clip.
    """
    names = [example['name'] for example in describe_examples()]
    if name not in names:
        msg = f'There is no generated clip {name!r}; choose {", ".join(names)}'
        raise ValueError(msg)
    target = folder / name
    if not target.is_dir():
        with atomic_write(target) as partial:
            partial.mkdir(parents=True)
            for index, frame in enumerate(_draw_example(name)):
                write_jpeg(partial / f'{index:05d}.jpg', frame, EXAMPLE_QUALITY)
    return target


def _draw_example(name: str) -> Iterable[NDArray[np.uint8]]:
    if name in EXAMPLE_CELLS:
        _, seed = EXAMPLE_CELLS[name]
        return draw_clip(seed, EXAMPLE_FRAMES, side=CELLS_SIDE)[0]
    (plan,) = make_plans(
        split='demo',
        num_clips=1,
        num_frames=EXAMPLE_FRAMES,
        size=OBJECTS_SIZE,
        seed=OBJECTS_SEED,
    )
    return make_clip(plan).frames
