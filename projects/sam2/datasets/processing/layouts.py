"""Recognise the layout of annotated data on disk, as the options of a source of clips.

:func:`recognise` looks at a file or a folder in the ways of :data:`LAYOUTS`. Nothing is
copied: a :class:`Layout` names folders of the data, or links that a project needs where
no source reads the files under their names (one video and its masks).
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..io.errors import ClipDataError
from ..io.frames import VideoFileFrames
from ..io.images import read_label_map
from ..io.json_files import read_json
from ..io.listing import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    find_stems,
    frame_key,
    is_object_number,
    list_files,
    match_names,
    read_list,
    scan_folder,
    stem_of,
)
from .config_sources import DatasetConfig
from .project_options import LAYOUTS, VIDEO_LAYOUTS
from .splitting import are_video_frames, read_thumbnail

MP4_SUFFIXES = ('.mp4', '.mov', '.m4v')  # one format; sources list only .mp4
OTHER_VIDEO_SUFFIXES = ('.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv')
# Words in the names of folders.
MASK_WORDS = ('annotation', 'mask', 'label', 'segment', 'gt', 'ann', 'truth')
INSTANCE_WORDS = ('object', 'instance')
# Formats that hold no masks, or none that is read: part of a name, and the remedy.
UNREAD_FORMATS = {
    '.txt': 'text files such as those of YOLO are not read; convert them to COCO',
    '.xml': 'XML files (Pascal VOC, CVAT) are not read; export COCO or masks instead',
    '.csv': 'tables are not read; convert them to COCO',
}
TRAIN_NAMES, VAL_NAMES = ('train', 'training'), ('val', 'valid', 'validation')
PART_NAMES = {*TRAIN_NAMES, *VAL_NAMES, 'test', 'testing'}
# Lists of a split that users may have made.
LIST_FOLDERS = ('ImageSets', 'ImageSets/2017', 'ImageSets/480p', '.')
VAL_LISTS = ('val', 'valid', 'validation', 'holdout')
MAX_FOLDERS = 400  # that are looked at
MAX_FEW = 60  # sub-folders of a folder up to which each is looked at
MAX_SAMPLED = 50  # names, files or images that are looked at
MAX_VALUES = 64  # grey values of an image of labels; a photograph has more
PROJECT_DATA = 'data'  # folder of the links in a project
FRAME_FOLDER, MASK_FOLDER = 'JPEGImages', 'Annotations'


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A layout of data, and how to read it.

    Attributes:
        kind: A name of :data:`LAYOUTS`.
        where: What was recognised, for a reader.
        source: Config of the source. Without ``data_root`` the data are the links.
        names: Clips or images that have annotations; None for all of the source.
        val_options: What differs in the source of validation; None if both parts are in
            one source.
        links: Path of each link below :data:`PROJECT_DATA`, and what it points to.
        notes: What else a user should know.
    """

    kind: str
    where: str
    source: DatasetConfig
    names: frozenset[str] | None = None
    val_options: DatasetConfig | None = None
    links: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_video(self) -> bool:
        """Whether clips are videos, not images."""
        return self.kind in VIDEO_LAYOUTS


class LayoutError(ValueError):
    """Data are of no layout that is read, or of more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPaths:
    """Where a user says that the data are.

    Attributes:
        root: File or folder.
        images: Folder of the images, frames or videos; None to look for it.
        masks: Folder of the masks; None to look for it.
        first_mask: Number of the first frame in the names of the masks of a video file;
            None to tell from the numbers.
        ignored: Folder that is no part of the data, such as that of the project.
    """

    root: Path
    images: Path | None = None
    masks: Path | None = None
    first_mask: int | None = None
    ignored: Path | None = None


def recognise(paths: DataPaths, kind: str | None = None) -> Layout:
    """Recognise the layout of data.

    Args:
        kind: The layout, a name of :data:`LAYOUTS`; None to find it.

    Raises:
        FileNotFoundError: If a path does not exist.
        LayoutError: If no layout fits, or more than one.
        ClipDataError: If a file that decides is damaged.
    """
    for path in (paths.root, paths.images, paths.masks):
        if path is not None and not path.exists():
            msg = f'{path} does not exist (working folder {Path.cwd()})'
            raise FileNotFoundError(msg)
    search = _Search(paths)
    layouts = [each for each in search.layouts(kind) if kind in {None, each.kind}]
    kinds = list(dict.fromkeys(each.kind for each in layouts))
    if len(kinds) > 1:
        found = '; '.join(f'{each.kind}: {each.where}' for each in layouts)
        msg = f'{paths.root} has several layouts ({found}); choose one by --layout'
        raise LayoutError(msg)
    if not layouts:
        raise LayoutError(search.explain(kind))
    return layouts[0]


@dataclass(frozen=True, slots=True)
class _Folder:
    """Content of a folder by kind."""

    path: Path
    folders: frozenset[str]
    files: tuple[str, ...]

    def having(self, suffixes: Sequence[str]) -> list[str]:
        """Files with a suffix, sorted."""
        return [f for f in self.files if f.lower().endswith(tuple(suffixes))]

    @property
    def clips(self) -> set[str]:
        """Names that may be videos: folders and mp4 files."""
        return {*self.folders, *map(stem_of, self.having(('.mp4',)))}


@lru_cache(maxsize=4096)
def _look(path: Path) -> _Folder:
    """List a folder; an unreadable one is empty."""
    try:
        entries = scan_folder(path)
    except OSError:
        entries = []
    return _Folder(
        path,
        frozenset(entry.name for entry in entries if entry.is_dir()),
        tuple(sorted(entry.name for entry in entries if not entry.is_dir())),
    )


class _Search:
    """Looks for each layout; remembers what came close."""

    def __init__(self, paths: DataPaths) -> None:
        self.paths = paths
        self.hints: list[str] = []  # what is missing for a layout, the closest first
        _look.cache_clear()
        root = paths.root
        self.folder = root if root.is_dir() else root.parent
        ignored = None if paths.ignored is None else paths.ignored.absolute()
        self.folders = [
            folder
            for folder in itertools.islice(_walk(self.folder), MAX_FOLDERS)
            if ignored is None or not folder.absolute().is_relative_to(ignored)
        ]

    def layouts(self, kind: str | None) -> list[Layout]:
        """All layouts that fit; of masks and images the most likely one.

        Args:
            kind: The only layout to look for, or None.
        """
        root = self.paths.root
        if root.is_dir():
            by_json = [*self._of_json(self._json_files())]
            for find in (
                self._pairs_of_videos,
                self._video_files,
                self._one_video,
                self._label_images,
            ):
                layouts = [each for each in find() if kind in {None, each.kind}]
                if layouts or by_json:
                    return [*by_json, *layouts]
            return []
        suffix = root.suffix.lower()
        if suffix == '.json':
            return list(self._of_json([root]))
        if suffix in (*MP4_SUFFIXES, *OTHER_VIDEO_SUFFIXES):
            return list(self._video_files(only=root))
        kind_of_file = f'a {suffix} file' if suffix else 'a file without a suffix'
        what = 'an image' if suffix in IMAGE_SUFFIXES else kind_of_file
        self.hints.append(
            f'{root.name} is {what}; give the folder of the images and their masks, a '
            f'JSON file or an mp4'
        )
        return []

    def explain(self, kind: str | None) -> str:
        """Why no layout fits: what is there, what is closest, what was looked for."""
        root = self.paths.root
        content = ''
        if root.is_dir():
            files = Counter(
                Path(name).suffix.lower() or 'files without a suffix'
                for folder in self.folders
                for name in _look(folder).files
            )
            parts = [f'{count} {suffix}' for suffix, count in files.most_common(4)]
            content = f' (it holds {", ".join(parts) or "no files"})'
            for suffix, remedy in UNREAD_FORMATS.items():
                if files[suffix] > 1:
                    self.hints.insert(0, remedy)
        closest = f': {self.hints[0]}' if self.hints else ''
        if kind is not None:
            return f'{root} is not {kind}{content}{closest}. {kind} is {LAYOUTS[kind]}'
        known = f'Known are {", ".join(LAYOUTS)} (--help shows them)'
        return f'{root} has no known layout{content}{closest}. {known}'

    # Layouts that are one JSON file for everything, or one for each image or clip -----

    def _json_files(self) -> list[Path]:
        """JSON files that decide: all of a folder with few, some of one with many."""
        paths = []
        for folder in self.folders:
            names = _look(folder).having(('.json',))
            paths += [folder / name for name in names[: 12 if len(names) <= 12 else 3]]
        return paths

    def _of_json(self, paths: Sequence[Path]) -> Iterator[Layout]:
        """Layouts that JSON files describe."""
        by_kind: dict[str, list[Path]] = {}
        for path in paths:
            kind = _kind_of_json(path)
            if kind is not None:
                by_kind.setdefault(kind, []).append(path)
        if paths and not by_kind:
            keys = ', '.join(_keys_of(paths[0])[:6]) or 'no object'
            self.hints.append(
                f'{paths[0].name} holds {keys}; expected "images" or "videos" with '
                f'"annotations", or the "shapes" of LabelMe'
            )
        for kind, files in by_kind.items():
            if kind in {'coco', 'youtube-vis'}:
                layout = self._of_big_json(kind, files)
            else:
                layout = self._of_many_json(kind, files[0])
            if layout is not None:
                yield layout

    def _of_big_json(self, kind: str, files: Sequence[Path]) -> Layout | None:
        """COCO or YouTube-VIS: one JSON file, or one for each part."""
        files = [path for path in files if 'test' not in _words(path)] or list(files)
        train, val = files[0], None
        if len(files) > 1:
            parts = {'train': TRAIN_NAMES, 'val': VAL_NAMES}
            named = {
                part: [path for path in files if {*words} & _words(path)]
                for part, words in parts.items()
            }
            if [len(each) for each in named.values()] != [1, 1]:
                names = ', '.join(path.name for path in files[:4])
                self.hints.insert(
                    0, f'several JSON files fit ({names}); give --from one of them'
                )
                return None
            train, val = named['train'][0], named['val'][0]
        options = [self._big_json_options(kind, p) for p in (train, val) if p]
        if None in options:
            return None
        folders = [Path(each[key]) for each in options if each for key in each]
        data_root = _common_folder(folders)
        relative = [
            {k: _relative(Path(v), data_root) for k, v in each.items()}
            for each in options
            if each
        ]
        type_ = 'ClipCocoDataset' if kind == 'coco' else 'ClipYouTubeVISDataset'
        where = ' and '.join(
            f'{each["annotation_file"]} (images in {_folder_of(each)})'
            for each in relative
        )
        return Layout(
            kind=kind,
            where=f'{where} below {data_root}',
            source={'type': type_, 'data_root': str(data_root), **relative[0]},
            val_options=relative[1] if val else None,
        )

    def _big_json_options(self, kind: str, path: Path) -> dict[str, Path] | None:
        """Annotation file and folder of its images; None if they are nowhere."""
        content = read_json(path)
        if kind == 'coco':
            names = [_file_name(image) for image in content['images']]
        else:
            names = [
                (video.get('file_names') or [''])[0]
                for video in content['videos']
                if isinstance(video, Mapping)
            ]
        names = [name for name in names if isinstance(name, str) and name]
        if not names:
            self.hints.insert(0, f'{path.name} lists no image')
            return None
        folder = self._folder_with(names, path)
        if folder is None:
            self.hints.insert(
                0,
                f'the images of {path.name} were not found ({names[0]}, looked for in '
                f'{self.paths.images or path.parent} and the folders around); give '
                f'--images FOLDER',
            )
            return None
        key = 'image_folder' if kind == 'coco' else 'frame_folder'
        return {'annotation_file': path, key: folder}

    def _folder_with(self, names: Sequence[str], path: Path) -> Path | None:
        """Folder that holds most of the files of a JSON file."""
        if self.paths.images is not None:
            folders = [self.paths.images, *_walk(self.paths.images)]
        else:
            near = [path.parent, path.parent / path.stem]
            folders = [*near, *_walk(path.parent), *self.folders]
            folders += _walk_beside(path.parent)
        few = names[:: max(1, len(names) // MAX_SAMPLED)]
        counts = {
            folder: sum((folder / PurePosixPath(name)).is_file() for name in few)
            for folder in dict.fromkeys(itertools.islice(folders, MAX_FOLDERS))
            if folder.is_dir()
        }
        best = max(counts, key=lambda folder: counts[folder], default=None)
        return best if best is not None and counts[best] else None

    def _of_many_json(self, kind: str, path: Path) -> Layout | None:
        """LabelMe, SA-1B, SA-V: a JSON file for each image or clip."""
        folder = self.folder if self.paths.root.is_dir() else path.parent
        if kind == 'sav':
            kinds = [
                each
                for each in ('manual', 'auto')
                if find_stems(folder, (f'_{each}.json',))
            ]
            source: DatasetConfig = {'type': 'ClipSAVDataset', 'kinds': kinds[:1]}
            keys = ('annotation_folder', 'frame_folder')
        elif kind == 'labelme':
            source = {'type': 'ClipLabelMeDataset'}
            keys = ('annotation_folder', 'image_folder')
        else:
            source = {'type': 'ClipSA1BDataset'}
            keys = ('image_folder', 'image_folder')
        images, stem = None, ''
        for base in (folder, path.parent):  # names may begin with a sub-folder
            stem = path.relative_to(base).with_suffix('').as_posix()
            stem = re.sub('_(manual|auto)$', '', stem) if kind == 'sav' else stem
            images = self._folder_of_image(base, stem, is_video=kind == 'sav')
            if images is not None:
                folder = base
                break
        if images is None:
            near = 'a video' if kind == 'sav' else 'an image'
            self.hints.insert(
                0,
                f'{path.name} is of {kind}, but {near} {stem}.* was not found beside '
                f'it or in another folder; give --images FOLDER',
            )
            return None
        data_root = _common_folder([folder, images])
        for key, value in zip(keys, (folder, images), strict=True):
            relative = _relative(value, data_root)
            if relative != '.':
                source[key] = relative
        return Layout(
            kind=kind,
            where=f'{LAYOUTS[kind]} in {folder}',
            source={**source, 'data_root': str(data_root)},
        )

    def _folder_of_image(
        self, folder: Path, stem: str, *, is_video: bool
    ) -> Path | None:
        """Folder below which ``<stem>.jpg`` or ``<stem>.mp4`` is."""
        suffixes = MP4_SUFFIXES[:1] if is_video else IMAGE_SUFFIXES
        given = self.paths.images
        folders = [folder, *self.folders, *_walk_beside(folder)]
        folders = [given] if given else folders
        for each in itertools.islice(dict.fromkeys(folders), MAX_FOLDERS):
            path = each / stem
            is_found = is_video and path.is_dir()
            files = {name.lower() for name in _look(path.parent).files}
            if is_found or any(path.name.lower() + s in files for s in suffixes):
                return each
        return None

    # Pairs of folders: frames or images, and masks -----------------------------------

    def _candidates(self, given: Path | None) -> list[Path]:
        return self.folders if given is None else [given]

    def _pairs_of_videos(self) -> Iterator[Layout]:
        """A folder of videos and a folder of their masks: DAVIS, object folders."""
        best: tuple[tuple[int, ...], Path, Path, str, set[str]] | None = None
        for masks in self._candidates(self.paths.masks):
            for frames in self._candidates(self.paths.images):
                if masks == frames:
                    continue
                names = _look(frames).clips & _look(masks).folders
                names -= {masks.name} if masks.parent == frames else set()
                kind = _kind_of_masks(frames, masks, sorted(names)[:MAX_SAMPLED])
                is_split = {name.lower() for name in names} <= PART_NAMES
                if kind is None or is_split:  # folders of images to train, validate
                    continue
                likeness = _mask_likeness(masks) - _mask_likeness(frames)
                # DAVIS has frames and masks in the same two sizes.
                rank = (len(names), masks.name == frames.name, likeness)
                if best is None or rank > best[0]:
                    best = rank, frames, masks, kind, names
        if best is None:
            return
        _, frames, masks, kind, names = best
        num_bare = len(_look(frames).clips - names - {masks.name})
        note = f'{num_bare} clips have no masks and are left out'
        notes = (note,) if num_bare else ()
        if any(map(partial(_needs_links, frames, masks), sorted(names)[:3])):
            videos = {
                name: (_clip_path(frames, name), masks / name) for name in sorted(names)
            }
            layout = self._linked_videos(videos, [])
            yield replace(layout, notes=(*layout.notes, *notes))
            return
        data_root = _common_folder([frames, masks])
        is_davis = kind == 'davis'
        options = {
            'frame_folder': _relative(frames, data_root),
            'mask_folder': _relative(masks, data_root),
        }
        where = f'{" and ".join(options.values())} in {data_root}'
        if is_davis and [*options.values()] == [FRAME_FOLDER, MASK_FOLDER]:
            options = {}  # the defaults
        yield Layout(
            kind=kind,
            where=where,
            source={
                'type': 'ClipPaletteDataset' if is_davis else 'ClipObjectFolderDataset',
                'data_root': str(data_root),
                **options,
            },
            names=frozenset(names),
            notes=notes,
        )

    def _video_files(self, only: Path | None = None) -> Iterator[Layout]:
        """Video files with a folder of masks each."""
        files = [only] if only else []
        folders = [self.paths.images] if self.paths.images else self.folders
        for folder in [] if only else folders:
            names = _look(folder).having((*MP4_SUFFIXES, *OTHER_VIDEO_SUFFIXES))
            files += [folder / name for name in names]
        linked: dict[str, tuple[Path, Path]] = {}
        without = []
        for file in files:
            if file.suffix.lower() in OTHER_VIDEO_SUFFIXES:
                mp4 = file.with_suffix('.mp4').name
                self.hints.append(
                    f'{file.name} is not an mp4: ffmpeg -i {file.name} -crf 18 {mp4}'
                )
                continue
            masks = self._masks_of(file, is_only=len(files) == 1)
            if masks is None:
                without.append(file)
                continue
            if file.stem in linked:
                other = linked[file.stem][0]
                msg = f'{other} and {file} have the same name; rename one of them'
                raise LayoutError(msg)
            linked[file.stem] = file, masks
        if without and not linked:
            file = without[0]
            self.hints.insert(
                0,
                f'{file.name} has no masks: looked for a folder {file.stem}, '
                f'{file.stem}_masks, masks or Annotations with PNG files beside it; '
                f'give --masks FOLDER',
            )
        if linked:
            yield self._linked_videos(linked, [file.name for file in without])

    def _masks_of(self, file: Path, *, is_only: bool) -> Path | None:
        """Folder of the masks of a video file."""
        words = ('masks', 'mask', 'Annotations', 'annotations', 'labels', 'gt')
        named = [file.stem, *(f'{file.stem}_{word}' for word in words)]
        roots = [self.paths.masks] if self.paths.masks else []
        roots += [] if roots else [file.parent, *(file.parent / w for w in words)]
        folders = [root / name for root in roots for name in named]
        if is_only:
            folders += [self.paths.masks] if self.paths.masks else roots[1:]
            # The only other folder, whatever its name.
            others = sorted(_look(file.parent).folders)
            if len(others) == 1 and not self.paths.masks:
                folders.append(file.parent / others[0])
        return next((f for f in folders if f.is_dir() and _object_folders(f)), None)

    def _linked_videos(
        self, videos: Mapping[str, tuple[Path, Path]], without: Sequence[str]
    ) -> Layout:
        """Layout of videos that a project links to."""
        links: dict[str, Path] = {}
        notes: list[str] = []
        kinds = set()
        for name, (frames, masks) in videos.items():
            is_file = frames.is_file()
            stems = _frame_stems(frames)
            links[f'{FRAME_FOLDER}/{name}{".mp4" if is_file else ""}'] = (
                frames.absolute()
            )
            folders = _object_folders(masks)
            kinds.add('davis' if folders == [''] else 'object-folders')
            is_numbered = all(is_object_number(f) for f in folders if f)
            if folders != [''] and not is_numbered:
                pairs = ', '.join(f'{f} is {i}' for i, f in enumerate(folders))
                notes.append(f'objects of {name}: {pairs}')
            for index, folder in enumerate(folders):
                number = folder if is_numbered else str(index)
                where = f'{MASK_FOLDER}/{name}' + (f'/{number}' if folder else '')
                matched, note = _match_masks(
                    stems, masks / folder, self.paths.first_mask if is_file else None
                )
                notes += [note] if note and note not in notes else []
                if matched is None:
                    links[where] = (masks / folder).absolute()
                else:
                    for stem, file in matched.items():
                        link = f'{where}/{stem}{file.suffix}'
                        links[link] = file.absolute()
        if len(kinds) > 1:
            msg = (
                'some videos have all masks in one file per frame, others a folder '
                'for each object; make two projects'
            )
            raise LayoutError(msg)
        kind = kinds.pop()
        if without:
            notes.append(f'{len(without)} videos have no masks and are left out')
        # Its default folders are those of the links.
        source = {'type': 'ClipPaletteDataset'}
        if kind != 'davis':
            source = {
                'type': 'ClipObjectFolderDataset',
                'frame_folder': FRAME_FOLDER,
                'mask_folder': MASK_FOLDER,
            }
        first, masks = next(iter(videos.values()))
        more = f' and {len(videos) - 1} more videos' if len(videos) > 1 else ''
        return Layout(
            kind='video',
            where=f'{first} with masks in {masks}{more}',
            source=source,
            names=frozenset(videos),
            links=links,
            notes=tuple(notes),
        )

    def _one_video(self) -> Iterator[Layout]:
        """A folder of frames and one of their masks, if the frames are of one video."""
        pairs = [
            (_mask_likeness(masks) - _mask_likeness(frames), frames, masks)
            for masks in self._candidates(self.paths.masks)
            for frames in self._candidates(self.paths.images)
            if masks != frames and _are_frames_and_masks(frames, masks)
        ]
        if not pairs:
            return
        _, frames, masks = max(pairs)
        files = list_files(frames, IMAGE_SUFFIXES)
        paths = [frames / name for name in files]
        if not are_video_frames(lambda i: read_thumbnail(paths[i]), len(paths)):
            return
        folder = frames.resolve()
        name = folder.parent.name if _is_generic(folder.name) else folder.name
        layout = self._linked_videos({name: (frames, masks)}, [])
        note = (
            'the images are numbered and neighbours look alike, so they are one video; '
            'for single images give --layout label-images'
        )
        yield replace(layout, notes=(*layout.notes, note))

    def _label_images(self) -> Iterator[Layout]:
        """Images with a label image each."""
        pair = self._best_pair()
        if pair is None:
            number = sum(len(_look(f).having(IMAGE_SUFFIXES)) for f in self.folders)
            if number and not self.hints:
                self.hints.append(
                    f'{number} images have no masks and no JSON files; label-images '
                    f'needs a PNG of the same name in another folder (--masks FOLDER)'
                )
            return
        images, masks, suffix = pair
        data_root = _common_folder([images, masks])
        source = {
            'type': 'ClipLabelImageDataset',
            'data_root': str(data_root),
        }
        folders = _relative(images, data_root), _relative(masks, data_root)
        where = ' and '.join(folders)
        if folders != ('images', 'labels'):
            source |= {'image_folder': folders[0], 'label_folder': folders[1]}
        if suffix != '.png':
            source['label_suffix'] = suffix
        stems = {*map(stem_of, _relative_files(images, IMAGE_SUFFIXES))}
        labels = _relative_files(masks, MASK_SUFFIXES)
        names = {name[: -len(suffix)] for name in labels} & stems
        yield Layout(
            kind='label-images',
            where=f'{where} in {data_root}',
            source=source,
            names=frozenset(names),
        )

    def _best_pair(self) -> tuple[Path, Path, str] | None:
        """Folders of images and of label images, and the suffix of the latter."""
        best: tuple[tuple[int, int], tuple[Path, Path, str]] | None = None
        for masks in self._candidates(self.paths.masks):
            labels = _relative_files(masks, MASK_SUFFIXES)
            if not labels or not _are_labels(masks, labels):
                continue
            for images in self._candidates(self.paths.images):
                files = _relative_files(images, IMAGE_SUFFIXES)
                suffix, count = _label_suffix(labels, files, is_same=images == masks)
                if not count:
                    continue
                rank = (count, _mask_likeness(masks) - _mask_likeness(images))
                if best is None or rank > best[0]:
                    best = rank, (images, masks, suffix)
        return None if best is None else best[1]


def _walk(root: Path, depth: int = 2) -> Iterator[Path]:
    """Yield a folder and those below it, level by level.

    Of a folder with many sub-folders, such as one for each clip, only the first few are
    visited.
    """
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [
            folder / name
            for folder in level
            for name in sorted(_look(folder).folders)[:MAX_FEW]
        ]


def _walk_beside(folder: Path) -> Iterator[Path]:
    """Yield the folders beside one that is called ``annotations`` or the like."""
    if _mask_likeness(folder) or 'json' in folder.name.lower():
        yield from _walk(folder.parent, depth=1)


def _common_folder(paths: Iterable[Path]) -> Path:
    """Deepest folder that holds all of the paths; for one path itself."""
    common = Path(os.path.commonpath([_absolute(path) for path in paths]))
    return common if common.is_dir() else common.parent


def _absolute(path: Path) -> str:
    """Absolute path without ``..``; links are not followed."""
    return os.path.normpath(path.absolute())


def _folder_of(options: Mapping[str, str]) -> str:
    """Folder of the images or frames of a JSON file."""
    return options.get('image_folder') or options['frame_folder']


def _relative(path: Path, root: Path) -> str:
    return Path(_absolute(path)).relative_to(root).as_posix()


def _words(path: Path) -> set[str]:
    """Words of the names of a file and its folder, without numbers."""
    text = f'{path.parent.name} {path.stem}'.lower()
    return set(re.split(r'[^a-z]+', text))


# JSON files --------------------------------------------------------------------------


def _keys_of(path: Path) -> list[str]:
    try:
        content = read_json(path)
    except ClipDataError:
        return []
    return sorted(content) if isinstance(content, Mapping) else []


def _kind_of_json(path: Path) -> str | None:
    """Layout of a JSON file by its keys; None if it is of no known one.

    Raises:
        ClipDataError: If it is not JSON.
    """
    keys = {*_keys_of(path)}
    kinds = {
        'coco': {'images', 'annotations'},
        'youtube-vis': {'videos', 'annotations'},
        'labelme': {'shapes'},
        'sa1b': {'image', 'annotations'},
        'sav': {'masklet'},
    }
    return next((kind for kind, needed in kinds.items() if needed <= keys), None)


def _file_name(image: object) -> Any:
    return image.get('file_name') if isinstance(image, Mapping) else None


# Folders of masks --------------------------------------------------------------------


def _mask_likeness(folder: Path) -> int:
    """How much the name of a folder is one of masks; instances are preferred."""
    names = [part.lower() for part in folder.parts[-2:]]
    return sum(
        any(word in name for word in words)
        for words in (MASK_WORDS, INSTANCE_WORDS)
        for name in names
    )


def _is_generic(name: str) -> bool:
    """Whether the name of a folder says nothing about the video in it."""
    return name.lower() in {'frames', 'images', 'imgs', 'img', 'jpegimages', 'rgb'}


def _kind_of_masks(frames: Path, masks: Path, names: Sequence[str]) -> str | None:
    """How masks of clips are stored; None if the folders hold no frames or masks."""
    for name in names:
        files = _look(masks / name).having(MASK_SUFFIXES)
        images = _look(frames / name).having(IMAGE_SUFFIXES)
        if not images and f'{name}.mp4' not in _look(frames).files:
            continue
        if files:
            return 'davis' if _are_labels(masks / name, files) else None
        if _object_folders(masks / name):
            return 'object-folders'
    return None


def _clip_path(frames: Path, name: str) -> Path:
    """Folder or mp4 file of a clip."""
    folder = frames / name
    return folder if folder.is_dir() else frames / f'{name}.mp4'


def _needs_links(frames: Path, masks: Path, name: str) -> bool:
    """Whether no source reads the masks of a clip under the names that they have."""
    folders = _object_folders(masks / name)
    if not all(is_object_number(folder) for folder in folders if folder):
        return True
    try:
        stems = _frame_stems(_clip_path(frames, name))
        matches = [_match_masks(stems, masks / name / f, None) for f in folders]
    except ValueError:  # reported when the clip is checked
        return False
    return any(matched is not None for matched, _ in matches)


def _object_folders(masks: Path) -> list[str]:
    """Folders with the masks of one object each; [''] if there are no folders."""
    if _look(masks).having(MASK_SUFFIXES):
        return ['']
    return sorted(
        name
        for name in _look(masks).folders
        if _look(masks / name).having(MASK_SUFFIXES)
    )


def _are_labels(folder: Path, files: Sequence[str]) -> bool:
    """Whether images hold labels: few values, as photographs do not."""
    for name in files[:: max(1, len(files) // 3)][:3]:
        try:
            labels = read_label_map(folder / name)
        except ClipDataError:
            return (
                _mask_likeness(folder) > 0
            )  # reported with the reason, if it is named so
        if len(np.unique(labels)) > MAX_VALUES and not _mask_likeness(folder):
            return False
    return True


def _relative_files(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """Files of a folder and its sub-folders with a suffix, as relative paths."""
    names = []
    for each in itertools.islice(_walk(folder), MAX_FOLDERS):
        prefix = '' if each == folder else f'{each.relative_to(folder).as_posix()}/'
        names += [prefix + name for name in _look(each).having(suffixes)]
    return names


def _label_suffix(
    labels: Sequence[str], images: Sequence[str], *, is_same: bool
) -> tuple[str, int]:
    """What follows the name of an image in that of its label image, and how often.

    Args:
        labels: Label images.
        images: Images.
        is_same: Whether they are in one folder, so that every label is an image too.
    """
    stems = Counter(map(stem_of, images))
    counts: Counter[str] = Counter()
    for label in labels:
        for end in range(len(label) - 1, 0, -1):
            is_itself = is_same and label[:end] == stem_of(label)
            if stems[label[:end]] > int(is_itself):
                counts[label[end:]] += 1
                break
    return max(counts.items(), key=lambda item: item[1], default=('', 0))


# Masks of a video, by their numbers --------------------------------------------------


def _order(name: str) -> tuple[Any, ...]:
    """Order of files by the numbers in their names."""
    return tuple((isinstance(token, str), token) for token in frame_key(stem_of(name)))


def _number(stem: str) -> int | None:
    """Last number in a name."""
    numbers = re.findall(r'\d+', stem)
    return int(numbers[-1]) if numbers else None


def _are_frames_and_masks(frames: Path, masks: Path) -> bool:
    """Whether folders hold the numbered frames of a video and their masks."""
    images = _look(frames).having(IMAGE_SUFFIXES)
    labels = _look(masks).having(MASK_SUFFIXES)
    if len(images) < 2 or not labels or not _are_labels(masks, labels):
        return False
    try:
        _match_masks(_frame_stems(frames), masks, None)
    except ValueError:  # not numbered, or a mask without a frame
        return False
    return True


def _frame_stems(frames: Path) -> list[str]:
    """Names of the frames of a video file or of a folder.

    Raises:
        ClipDataError: If the video cannot be read.
    """
    if frames.is_file():
        return [f'{i:05d}' for i in range(VideoFileFrames(frames).num_frames)]
    return list(map(stem_of, list_files(frames, IMAGE_SUFFIXES)))


def _match_masks(
    stems: Sequence[str], folder: Path, first_mask: int | None
) -> tuple[dict[str, Path] | None, str]:
    """Find the frame of each mask by its number.

    Args:
        stems: Names of the frames.
        first_mask: Number of the first frame in the names of the masks.

    Returns:
        Mask by the name of its frame, None if the masks are named as their frames; and
        a note on what was assumed.

    Raises:
        LayoutError: If a mask has no frame.
    """
    files = {stem_of(name): name for name in list_files(folder, MASK_SUFFIXES)}
    is_video = all(stem == f'{i:05d}' for i, stem in enumerate(stems))
    keys = {frame_key(stem) for stem in stems}
    if first_mask is None and {frame_key(stem) for stem in files} <= keys:
        first, last = min(files, key=_order), max(files, key=_order)
        is_sure = not is_video or int(_number(first) or 0) == 0 or len(files) == 1
        note = (
            f'masks are numbered from 0 ({files[first]} to {files[last]}); if the '
            f'first frame is 1, give --first-mask 1'
        )
        return None, '' if is_sure else note
    numbers = {name: _number(stem) for stem, name in files.items()}
    frame_of = {_number(stem): stem for stem in stems}
    offsets = [first_mask] if first_mask is not None else [0, 1]
    if not is_video:
        offsets = [0]
    for offset in offsets:
        matched = {
            frame_of[number - offset]: folder / name
            for name, number in numbers.items()
            if number is not None and number - offset in frame_of
        }
        if len(matched) == len(files):
            note = (
                'masks are numbered from 1: the first mask is that of the first frame'
            )
            return matched, note if offset == 1 and first_mask is None else ''
    orphans = [
        n for n, i in numbers.items() if i is None or i - offsets[0] not in frame_of
    ]
    msg = (
        f'{folder / orphans[0]} belongs to none of the {len(stems)} frames {stems[0]} '
        f'to {stems[-1]}; name masks as their frames, or give --first-mask, the number '
        f'of the first frame'
    )
    raise LayoutError(msg)


# Splits that the user has made -------------------------------------------------------


def find_split(
    root: Path, names: Sequence[str]
) -> tuple[list[str], list[str], str] | None:
    """Find the split that comes with the data.

    Lists (``ImageSets/train.txt`` and ``val.txt``, also one of them), or folders that
    are called so.

    Returns:
        Training and validation names, and where the split is from; None if there is no
        split.

    Raises:
        LayoutError: If a clip is in both lists.
    """
    for folder in LIST_FOLDERS:
        paths = {name: root / folder / f'{name}.txt' for name in ('train', *VAL_LISTS)}
        val = next((paths[n] for n in VAL_LISTS if paths[n].is_file()), None)
        train = paths['train'] if paths['train'].is_file() else None
        parts = [_listed(path, names) if path else [] for path in (train, val)]
        if not any(parts):
            continue
        both = set(parts[0]) & set(parts[1])
        if both:
            msg = (
                f'{len(both)} names, such as {min(both)}, are in both {train} and '
                f'{val}; a clip must not train and validate'
            )
            raise LayoutError(msg)
        for index in (0, 1):
            parts[index] = parts[index] or sorted({*names} - {*parts[1 - index]})
        where = ' and '.join(str(path) for path in (train, val) if path)
        return (parts[0], parts[1], where) if all(parts) else None
    tops = {name: name.partition('/')[0].lower() for name in names if '/' in name}
    train_names = [name for name in names if tops.get(name) in TRAIN_NAMES]
    val_names = [name for name in names if tops.get(name) in VAL_NAMES]
    if train_names and val_names:
        return train_names, val_names, 'the folders train and val'
    return None


def _listed(path: Path, names: Sequence[str]) -> list[str]:
    """Names that a list means."""
    pairs = match_names(read_list(path), set(names))
    return sorted({name for _, name in pairs if name is not None})
