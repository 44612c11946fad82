"""Writes generated clips in DAVIS layout."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image

from ...ops import write_atomically
from ...structures import FrameMasks, VideoSource
from ..annotated_video import AnnotatedVideo, void_note
from ..clip_dataset import ClipDataset
from ..io.errors import ClipDataError
from ..io.frames import ImageFrames
from ..io.images import JPEG_SUFFIXES, VOID_LABEL
from ..io.listing import is_hidden, write_list
from ..sources.synthetic import ClipPlan, copy_iou, make_clip
from .checking import ClipProblem, DatasetConfig
from .worker_pool import Heartbeat, run_tasks

META_FILE = 'meta.json'
UNFINISHED_FILE = 'unfinished.json'  # there as long as clips are being written
JPEG_QUALITY = 90
CHUNK = 4  # clips that a worker is given at a time


def davis_palette() -> list[int]:
    """Colours of the label values 0 to 255, as in DAVIS: r, g, b, r and so on."""
    values = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            on = (values >> (3 * bit + channel)) & 1
            palette[:, channel] |= (on << (7 - bit)).astype(np.uint8)
    return [int(value) for value in palette.reshape(-1)]


def write_mask(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write a palette PNG.

    Args:
        labels: (height, width), object ids.
    """
    image = Image.fromarray(labels).convert('P')
    image.putpalette(davis_palette())
    image.save(path, compress_level=1)


def write_clip(plan: ClipPlan, root: Path) -> dict[str, Any]:
    """Generate a clip and write it.

    Returns:
        Its entry of ``meta.json``.

    Raises:
        OSError: If a frame cannot be written.
    """
    clip = make_clip(plan)
    frame_folder = root / 'JPEGImages' / plan.name
    mask_folder = root / 'Annotations' / plan.name
    for folder in (frame_folder, mask_folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for index, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
        done, encoded = cv2.imencode(
            '.jpg', frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            msg = f'{frame_folder}: frame {index} cannot be encoded'
            raise OSError(msg)
        (frame_folder / f'{index:05d}.jpg').write_bytes(encoded.tobytes())
        write_mask(mask_folder / f'{index:05d}.png', labels)
    return {
        'name': plan.name,
        'kind': plan.kind.value,
        'height': plan.size[0],
        'width': plan.size[1],
        'num_frames': plan.num_frames,
        'num_objects': clip.num_objects,
        'like_texture': clip.like_texture,
        'returning_ids': list(clip.returning_ids),
        'copy_iou': round(copy_iou(clip.labels, clip.num_objects), 4),
    }


def check_folder(root: Path, settings: Mapping[str, Any]) -> bool:
    """Is the data set already there?

    Returns:
        True if it is there, made with the same settings. False if it is to be made:
        nothing is there, or what an interrupted call with these settings left.

    Raises:
        FileExistsError: If the folder holds something else, which must not be
            overwritten.
    """
    meta_file = root / META_FILE
    if meta_file.is_file():
        if json.loads(meta_file.read_text(encoding='utf-8'))['settings'] == settings:
            return True
        found = 'clips made with other settings'
    elif _is_unfinished(root, settings):
        return False
    elif root.is_dir() and any(root.iterdir()):
        found = 'files that are not a complete set of generated clips'
    else:
        return False
    msg = f'{root} holds {found}; remove the folder or choose another'
    raise FileExistsError(msg)


def _is_unfinished(root: Path, settings: Mapping[str, Any]) -> bool:
    """Did an interrupted call with the same settings leave what is there?"""
    marker = root / UNFINISHED_FILE
    return marker.is_file() and marker.read_text('utf-8') == json.dumps(dict(settings))


def write_dataset(
    root: Path,
    splits: Mapping[str, Sequence[ClipPlan]],
    settings: Mapping[str, Any],
    workers: int,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write all clips, then the lists, then ``meta.json``, which marks the end.

    Args:
        settings: Kept in ``meta.json``.
        workers: Processes; 1 for none besides this.

    Returns:
        The content of ``meta.json``.
    """
    root.mkdir(parents=True, exist_ok=True)
    marker = root / UNFINISHED_FILE
    marker.write_text(json.dumps(dict(settings)), encoding='utf-8')
    plans = [plan for split in splits.values() for plan in split]
    entries: list[dict[str, Any]] = []
    pool = ProcessPoolExecutor(workers, get_context('spawn')) if workers > 1 else None
    with pool or nullcontext():
        write = partial(write_clip, root=root)
        written: Iterable[dict[str, Any]] = (
            pool.map(write, plans, chunksize=CHUNK) if pool else map(write, plans)
        )
        for entry in written:
            entries.append(entry)
            report(len(entries), len(plans))
    lists = root / 'ImageSets'
    remaining = iter(entries)
    clips = {}
    for split, split_plans in splits.items():
        clips[split] = list(islice(remaining, len(split_plans)))
        names = [entry['name'] for entry in clips[split]]
        write_list(lists / f'{split}.txt', names)
    meta = {'settings': dict(settings), 'clips': clips}
    write_atomically(root / META_FILE, json.dumps(meta, indent=1))
    marker.unlink()
    return meta


MAX_OBJECTS = 254  # of a clip: a palette has 256 labels, background and void among them
EXPORT_QUALITY = 95
PART_NAME, PART_PATTERN = '{}_part{}', r'(.+)_part[0-9]+'
FRAME_FOLDER, MASK_FOLDER = 'JPEGImages', 'Annotations'


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisClip:
    """A clip that was written.

    Attributes:
        name: Of its folders.
        source_ids: Ids that its objects had: that of label 1, of label 2 and so on.
        num_frames: Frames.
        num_masks: Those with a mask.
        num_overlaps: Frames on which masks overlapped; a pixel has one label, that of
            the smaller object.
        num_covered: Masks of which nothing was left for that.
    """

    name: str
    source_ids: tuple[int, ...]
    num_frames: int
    num_masks: int
    num_overlaps: int
    num_covered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """Masks of a frame as one map.

    Attributes:
        labels: (height, width), uint8, 255 for void.
        overlaps: Whether two masks share a pixel.
        num_covered: Masks of which no pixel is left.
    """

    labels: NDArray[np.uint8]
    overlaps: bool
    num_covered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisFolder:
    """Where clips are written.

    Attributes:
        root: Folder of the data set.
        split_objects: Write a clip with too many objects as several of the same
            frames; otherwise it is refused.
    """

    root: Path
    split_objects: bool

    @property
    def aside(self) -> Path:
        """Folder of what is not whole yet."""
        return self.root / '.unfinished'

    def read_records(self, name: str) -> tuple[DavisClip, ...] | None:
        """Read what was written of a clip; None where it is not whole."""
        path = self._records(name)
        if not path.is_file():
            return None
        entries = json.loads(path.read_text(encoding='utf-8'))
        return tuple(
            DavisClip(**entry | {'source_ids': tuple(entry['source_ids'])})
            for entry in entries
        )

    def begin(self, name: str) -> Path:
        """Make an empty folder for a clip."""
        folder = self.aside / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finish(self, name: str, clips: tuple[DavisClip, ...]) -> None:
        """Give whole folders their names, and note that they have them.

        The frames come last: a clip that is listed by them has its masks.

        Args:
            clips: What was written of it, one or, where it was split, several.
        """
        for clip in clips:
            for kind in (MASK_FOLDER, FRAME_FOLDER):
                target = self.root / kind / clip.name
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                (self.aside / name / kind / clip.name).rename(target)
        write_atomically(
            self._records(name), json.dumps([asdict(clip) for clip in clips])
        )
        shutil.rmtree(self.aside / name)

    def _records(self, name: str) -> Path:
        return self.aside / f'{name}.json'


def davis_name(name: str) -> str:
    """Name of a clip's folders.

    Raises:
        ClipDataError: If it is the name of no folder of its own: of this folder, of
            the one above, or one that a tool hides.
    """
    written = name.replace('/', '__').replace('\\', '__')
    if not written or is_hidden(written):
        problem = f'cannot be written as the folder {written!r}'
        raise ClipDataError.at(repr(name), problem, 'rename the clip at its source')
    return written


def whole_name(written: str) -> str | None:
    """Name of the clip whose parts may be written under a name.

    Args:
        written: Name of a clip's folders.

    Returns:
        The name of the other's folders; None where no part is called so.
    """
    match = re.fullmatch(PART_PATTERN, written)
    return None if match is None else match[1]


def write_davis(
    source: VideoSource, folder: DavisFolder, heartbeat: Heartbeat
) -> tuple[DavisClip, ...]:
    """Write a clip, unless it is there.

    Frames that are JPEG files are copied, others encoded. Objects are numbered in the
    order in which they appear.

    Returns:
        What was written: one clip, or several where its objects were split.

    Raises:
        ClipDataError: If a file is damaged, or there are too many objects or none.
    """
    name = davis_name(source.name)
    there = folder.read_records(name)
    if there is not None:
        return there
    ids = _objects_in_order(source, heartbeat)
    if len(ids) > MAX_OBJECTS and not folder.split_objects:
        problem = f'has {len(ids)} objects, a palette PNG holds {MAX_OBJECTS}'
        remedy = 'split it into clips of fewer objects with --split-objects'
        raise ClipDataError.at(source.name, problem, remedy)
    if not ids:
        remedy = 'leave the clip out of the list'
        problem = f'shows no object{void_note(source)}'
        raise ClipDataError.at(source.name, problem, remedy)
    shares = [ids[i : i + MAX_OBJECTS] for i in range(0, len(ids), MAX_OBJECTS)]
    aside = folder.begin(name)
    clips = tuple(
        _write_part(source, share, aside, part, heartbeat)
        for share, part in zip(
            shares,
            [name]
            if len(shares) == 1
            else [PART_NAME.format(name, i) for i in range(len(shares))],
            strict=True,
        )
    )
    folder.finish(name, clips)
    return clips


def merge_masks(masks: FrameMasks, ids: tuple[int, ...]) -> LabelMap:
    """Write masks of a frame into one map, small objects over large ones.

    Args:
        ids: Objects to take; the first gets label 1.
    """
    size = masks.masks.shape[1:]
    labels = np.zeros(size, np.uint8)
    if masks.void is not None:
        labels[masks.void] = VOID_LABEL
    label_of = {object_id: label for label, object_id in enumerate(ids, start=1)}
    chosen = [
        (label_of[object_id], mask)
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True)
        if object_id in label_of and mask.any()
    ]
    chosen.sort(key=lambda pair: -int(pair[1].sum()))
    for label, mask in chosen:
        labels[mask] = label
    total = sum(int(mask.sum()) for _, mask in chosen)
    left = np.bincount(labels.reshape(-1), minlength=256)
    return LabelMap(
        labels=labels,
        overlaps=total > int(left[1:VOID_LABEL].sum()),
        num_covered=sum(not left[label] for label, _ in chosen),
    )


def _objects_in_order(source: VideoSource, heartbeat: Heartbeat) -> tuple[int, ...]:
    """Objects that are seen, in the order in which they appear."""
    found: dict[int, None] = {}
    for index in source.annotated_frames():
        masks = source.read_masks(index)
        if masks is not None:
            pairs = zip(masks.object_ids, masks.masks, strict=True)
            found |= dict.fromkeys(number for number, mask in pairs if mask.any())
        heartbeat()
    return tuple(found)


def _write_part(
    source: VideoSource,
    ids: tuple[int, ...],
    aside: Path,
    name: str,
    heartbeat: Heartbeat,
) -> DavisClip:
    """Write frames, and masks of some objects."""
    frame_folder, mask_folder = (aside / k / name for k in (FRAME_FOLDER, MASK_FOLDER))
    frame_folder.mkdir(parents=True)
    mask_folder.mkdir(parents=True)
    maps: list[LabelMap] = []
    annotated = frozenset(source.annotated_frames())
    for index in range(source.num_frames):
        _write_frame(source, index, frame_folder / f'{index:05d}.jpg')
        masks = source.read_masks(index) if index in annotated else None
        if masks is not None:
            maps.append(merge_masks(masks, ids))
            write_mask(mask_folder / f'{index:05d}.png', maps[-1].labels)
        heartbeat()
    return DavisClip(
        name=name,
        source_ids=ids,
        num_frames=source.num_frames,
        num_masks=len(maps),
        num_overlaps=sum(each.overlaps for each in maps),
        num_covered=sum(each.num_covered for each in maps),
    )


def _write_frame(source: VideoSource, index: int, path: Path) -> None:
    """Copy a frame that is a JPEG file, once it was decoded; encode another."""
    pixels = source.read_frame(index)
    frames = source.frames if isinstance(source, AnnotatedVideo) else None
    if isinstance(frames, ImageFrames):
        file = frames.folder / frames.files[index]
        if file.suffix.lower() in JPEG_SUFFIXES:
            shutil.copyfile(file, path)
            return
    quality = [cv2.IMWRITE_JPEG_QUALITY, EXPORT_QUALITY]
    done, encoded = cv2.imencode('.jpg', pixels[..., ::-1], quality)
    if not done:
        msg = f'{path}: the frame cannot be encoded'
        raise OSError(msg)
    path.write_bytes(encoded.tobytes())


FRAME_SECONDS = 120.0  # after which a clip counts as one that hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a conversion gave.

    Attributes:
        clips: The clips in the order of their list; empty where all was there before.
        problems: Why clips are missing.
    """

    clips: tuple[DavisClip, ...] = ()
    problems: tuple[ClipProblem, ...] = ()


def convert_to_davis(
    config: DatasetConfig,
    folder: DavisFolder,
    *,
    split: str,
    num_workers: int,
    advance: Callable[[int, int], None],
) -> Conversion | None:
    """Write all clips, then their list, then ``meta.json``, which marks the end.

    A conversion that was interrupted goes on where it was. Clips that cannot be
    converted are left out; once they are mended, remove ``meta.json``'s folder and
    convert again.

    Returns:
        What was written; None where the folder holds it already.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If two clips would get one name, or none can be converted.
    """
    settings = _settings(config, folder, split)
    if check_folder(folder.root, settings):
        return None
    dataset: ClipDataset = DATASETS.build(config)
    names = dataset.list_videos()
    _refuse_doubles(names, folder)
    folder.aside.mkdir(parents=True, exist_ok=True)
    marker = folder.root / UNFINISHED_FILE
    marker.write_text(json.dumps(settings), encoding='utf-8')
    done: dict[str, tuple[DavisClip, ...]] = {}
    problems: dict[str, str] = {}
    for outcome in run_tasks(
        names,
        partial(_convert, dataset, folder),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        if outcome.result is None:
            problems[outcome.task] = str(outcome.error)
        else:
            done[outcome.task] = outcome.result
        advance(len(done) + len(problems), len(names))
    conversion = Conversion(
        clips=tuple(clip for name in names for clip in done.get(name, ())),
        problems=tuple(
            ClipProblem(clip=name, problem=problems[name])
            for name in names
            if name in problems
        ),
    )
    if not conversion.clips:
        first = conversion.problems[0]
        msg = f'None of {len(names)} clips can be converted; {first.problem}'
        raise ValueError(msg)
    _finish(conversion, folder, settings, split)
    return conversion


def _convert(
    dataset: ClipDataset, folder: DavisFolder, name: str, heartbeat: Heartbeat
) -> tuple[DavisClip, ...]:
    return write_davis(dataset.open_video(name), folder, heartbeat)


def _settings(config: DatasetConfig, folder: DavisFolder, split: str) -> dict[str, Any]:
    """What the clips are made with, in values of JSON."""
    settings = {
        'source': config,
        'split': split,
        'split_objects': folder.split_objects,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _refuse_doubles(names: list[str], folder: DavisFolder) -> None:
    """Refuse clips that would be written into one folder."""
    owner: dict[str, str] = {}
    for name in names:
        written = davis_name(name)
        if written in owner:
            msg = (
                f'{owner[written]} and {name} would both be written as {written}; '
                f'list each clip once, or rename one'
            )
            raise ValueError(msg)
        owner[written] = name
    for written, name in owner.items() if folder.split_objects else ():
        whole = whole_name(written)
        if whole in owner:
            msg = (
                f'{name} would be written as {written}, which may become a part of '
                f'{owner[whole]}; rename one, or convert them apart'
            )
            raise ValueError(msg)


def _finish(
    conversion: Conversion, folder: DavisFolder, settings: Mapping[str, Any], split: str
) -> None:
    write_list(
        folder.root / 'ImageSets' / f'{split}.txt',
        [clip.name for clip in conversion.clips],
    )
    videos = {
        clip.name: {
            'objects': {
                str(label): {'source_id': source_id}
                for label, source_id in enumerate(clip.source_ids, start=1)
            }
        }
        for clip in conversion.clips
    }
    meta = {'settings': dict(settings), 'videos': videos}
    write_atomically(folder.root / META_FILE, json.dumps(meta, indent=1))
    (folder.root / UNFINISHED_FILE).unlink()
    shutil.rmtree(folder.aside)
