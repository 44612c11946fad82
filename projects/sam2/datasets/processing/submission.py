"""Check predicted masks and pack them for a benchmark server."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...ops import atomic_write
from ...structures import VOID_LABEL
from ..io.errors import ClipDataError
from ..io.images import image_size, read_label_map
from ..io.listing import IMAGE_SUFFIXES, list_files, scan_folder, stem_of
from ..io.mask_folders import MaskVideo, list_mask_videos, open_mask_video
from .worker_pool import Advance


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a server expects in the archive.

    Attributes:
        prefix: Folder that holds the videos; empty for none.
        by_object: A folder of masks per object; otherwise palette images.
        numbered: The names of the masks must be numbers.
    """

    prefix: str = ''
    by_object: bool = False
    numbered: bool = False


LAYOUTS: Mapping[str, Layout] = {
    'davis': Layout(),
    'mose': Layout(),
    'mosev2': Layout(numbered=True),
    'youtube-vos': Layout(prefix='Annotations'),
    'lvos': Layout(prefix='Annotations'),
    'sav': Layout(by_object=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Predictions for a whole split.

    Attributes:
        root: Holds a folder for each video.
        names: Videos of the split.
        layout: What the server expects.
        frames: Folder of the frames, which define the names and sizes of the masks.
            None only checks that the masks of a video are of one size.
    """

    root: Path
    names: tuple[str, ...]
    layout: Layout
    frames: Path | None


def check_submission(
    submission: Submission, advance: Advance = lambda _done, _total: None
) -> list[str]:
    """Return what a server would reject or misunderstand, one line per problem.

    Raises:
        ClipDataError: If the folder is missing.
    """
    names = submission.names
    predicted = list_mask_videos(submission.root)
    problems = [f'{n}: is missing' for n in names if n not in set(predicted)]
    problems += [f'{n}: is not in the list' for n in predicted if n not in set(names)]
    for num_done, name in enumerate(names, start=1):
        if name in predicted:
            problems += _check_video(submission, name)
        advance(num_done, len(names))
    return problems


def pack_submission(submission: Submission, path: Path) -> int:
    """Write the archive atomically; return the number of masks."""
    files = [
        Path(name, file)
        for name in submission.names
        for file in open_mask_video(submission.root / name).all_files()
    ]
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(
            temporary,
            'w',
            zipfile.ZIP_STORED,  # PNG files are compressed already
            strict_timestamps=False,
        ) as archive,
    ):
        for file in files:
            target = Path(submission.layout.prefix) / file
            archive.write(submission.root / file, target.as_posix())
    return len(files)


def _check_video(submission: Submission, name: str) -> list[str]:
    folder, layout = submission.root / name, submission.layout
    try:
        video = open_mask_video(folder)
    except ClipDataError as error:
        return [str(error)]
    if (video.object_files is not None) != layout.by_object:
        expected = 'a folder for each object' if layout.by_object else 'PNG'
        return [f'{name}: the server expects {expected} in the folder of a video']
    problems = [
        f'{name}/{file}: is no PNG'
        for file in _all_files(folder)
        if not file.lower().endswith('.png')
    ]
    if layout.numbered:
        problems += [
            f'{name}/{stem}.png: the server expects a number as its name (00000.png)'
            for stem in video.stems
            if not stem.isdecimal()
        ]
    size = None
    if submission.frames is not None:
        try:
            frames = list_files(submission.frames / name, IMAGE_SUFFIXES)
            size = image_size(submission.frames / name / frames[0])
        except ClipDataError as error:
            return [*problems, str(error)]
        problems += _compare_stems(video, name, [stem_of(file) for file in frames])
    for file in video.all_files():
        mask_size, problem = _check_file(folder / file, size, layout)
        problems += [problem] if problem else []
        size = size or mask_size
    return problems


def _compare_stems(video: MaskVideo, name: str, stems: Sequence[str]) -> Iterator[str]:
    """Yield frames without a mask and masks without a frame."""
    folders = {name: video.files}
    if video.object_files is not None:
        folders = {
            f'{name}/{next(iter(files.values())).partition("/")[0]}': files
            for files in video.object_files.values()
        }
    for folder, files in folders.items():
        for stem in stems:
            if stem not in files:
                yield f'{folder}/{stem}.png: is missing'
        for stem in sorted(files.keys() - set(stems)):
            yield f'{folder}/{stem}.png: there is no such frame'


def _check_file(
    path: Path, size: tuple[int, int] | None, layout: Layout
) -> tuple[tuple[int, int] | None, str]:
    """Return the size of a mask (None if unreadable) and its problem ('' if none)."""
    try:
        labels = read_label_map(path)
    except ClipDataError as error:
        return None, str(error)
    height, width = labels.shape
    problem = ''
    if size is not None and (height, width) != size:
        problem = f'{path}: is {height} x {width}, expected {size[0]} x {size[1]}'
    elif not layout.by_object:
        with Image.open(path, formats=('PNG',)) as image:
            mode = image.mode
        if mode != 'P':
            problem = f'{path}: has mode {mode}, the server expects a palette (mode P)'
        elif int(labels.max()) == VOID_LABEL:
            problem = f'{path}: holds 255, the void label; write 0 for the background'
    return (height, width), problem


def _all_files(folder: Path) -> list[str]:
    """List the files below a folder that are not hidden, as relative paths."""
    files = []
    for entry in scan_folder(folder):
        if entry.is_dir(follow_symlinks=False):
            files += [f'{entry.name}/{file}' for file in _all_files(Path(entry.path))]
        else:
            files.append(entry.name)
    return sorted(files)
