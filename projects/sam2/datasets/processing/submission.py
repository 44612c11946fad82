"""Checks predicted masks and packs them for the server of a benchmark."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...ops import atomic_write
from ..io.errors import ClipDataError
from ..io.images import (
    IMAGE_SUFFIXES,
    VOID_LABEL,
    image_size,
    read_label_map,
)
from ..io.listing import list_files, scan_folder, stem_of
from ..io.mask_folders import (
    MaskVideo,
    list_mask_videos,
    open_mask_video,
)

Advance = Callable[[int, int], None]  # called with what is done and what there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a server expects in its archive.

    Attributes:
        inside: Folder in the archive that holds the videos; empty for none.
        by_object: A folder of masks for each object; otherwise palette images.
    """

    inside: str
    by_object: bool


LAYOUTS: Mapping[str, Layout] = {
    'davis': Layout(inside='', by_object=False),
    'mose': Layout(inside='', by_object=False),
    'youtube-vos': Layout(inside='Annotations', by_object=False),
    'lvos': Layout(inside='Annotations', by_object=False),
    'sav': Layout(inside='', by_object=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Predictions of a whole split.

    Attributes:
        root: Has a folder for each video.
        names: Videos of the split.
        layout: What the server expects.
        frames: Folder of the frames, by which names and sizes are checked; None checks
            that masks of a video are of one size.
    """

    root: Path
    names: tuple[str, ...]
    layout: Layout
    frames: Path | None


def check_submission(
    submission: Submission, advance: Advance = lambda _done, _total: None
) -> list[str]:
    """Find what a server would refuse or misunderstand.

    Returns:
        A line for each problem; none where all is well.

    Raises:
        ClipDataError: If the folder is missing.
    """
    found = list_mask_videos(submission.root)
    wanted = submission.names
    problems = [f'{name}: is missing' for name in wanted if name not in set(found)]
    extra = [name for name in found if name not in set(wanted)]
    problems += [f'{name}: is not in the list' for name in extra]
    for done, name in enumerate(wanted, start=1):
        if name in found:
            problems += _check_video(submission, name)
        advance(done, len(wanted))
    return problems


def pack_submission(submission: Submission, path: Path) -> int:
    """Write the archive, aside first."""
    files = [
        Path(name, file)
        for name in submission.names
        for file in open_mask_video(submission.root / name).all_files()
    ]
    with (
        atomic_write(path) as aside,
        # PNG are compressed already.
        zipfile.ZipFile(
            aside, 'w', zipfile.ZIP_STORED, strict_timestamps=False
        ) as archive,
    ):
        for file in files:
            place = Path(submission.layout.inside) / file
            archive.write(submission.root / file, place.as_posix())
    return len(files)


def _check_video(submission: Submission, name: str) -> list[str]:
    """Problems of one video."""
    folder = submission.root / name
    try:
        video = open_mask_video(folder)
    except ClipDataError as error:
        return [str(error)]
    if (video.object_files is not None) != submission.layout.by_object:
        asked = 'a folder for each object' if submission.layout.by_object else 'PNG'
        return [f'{name}: the server expects {asked} in the folder of a video']
    strange = [f for f in _all_files(folder) if not f.lower().endswith('.png')]
    problems = [f'{name}/{file}: is no PNG' for file in strange]
    size = None
    if submission.frames is not None:
        try:
            frames = list_files(submission.frames / name, IMAGE_SUFFIXES)
            size = image_size(submission.frames / name / frames[0])
        except ClipDataError as error:
            return [*problems, str(error)]
        problems += _compare_stems(video, name, [stem_of(file) for file in frames])
    for file in video.all_files():
        own, problem = _check_file(folder / file, size, submission.layout)
        problems += [problem] if problem else []
        size = size or own
    return problems


def _compare_stems(video: MaskVideo, name: str, stems: Sequence[str]) -> Iterator[str]:
    """Problems of names: frames without a mask, masks without a frame."""
    groups = [(name, video.files)]
    if video.object_files is not None:
        groups = [
            (f'{name}/{next(iter(files.values())).partition("/")[0]}', files)
            for files in video.object_files.values()
        ]
    for place, there in groups:
        for stem in stems:
            if stem not in there:
                yield f'{place}/{stem}.png: is missing'
        for stem in sorted(there.keys() - set(stems)):
            yield f'{place}/{stem}.png: there is no such frame'


def _check_file(
    path: Path, size: tuple[int, int] | None, layout: Layout
) -> tuple[tuple[int, int] | None, str]:
    """Size of a mask, None where it cannot be read, and its problem or nothing."""
    try:
        labels = read_label_map(path)
    except ClipDataError as error:
        return None, str(error)
    own = (labels.shape[0], labels.shape[1])
    if size is not None and own != size:
        return own, f'{path}: is {own[0]} x {own[1]}, expected {size[0]} x {size[1]}'
    if layout.by_object:
        return own, ''
    with Image.open(path, formats=('PNG',)) as image:
        mode = image.mode
    if mode != 'P':
        return own, f'{path}: has mode {mode}, the server expects a palette (mode P)'
    if int(labels.max()) == VOID_LABEL:
        return own, f'{path}: holds 255, the label of void; write 0 for the background'
    return own, ''


def _all_files(folder: Path) -> list[str]:
    """Every file of a video that is not hidden, relative to its folder."""
    files = []
    for entry in scan_folder(folder):
        if entry.is_dir(follow_symlinks=False):
            files += [f'{entry.name}/{file}' for file in _all_files(Path(entry.path))]
        else:
            files.append(entry.name)
    return sorted(files)
