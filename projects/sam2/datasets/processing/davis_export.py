"""Write datasets in DAVIS layout: clips of any source, or rendered ones.

    JPEGImages/<clip>/00000.jpg
    Annotations/<clip>/00000.png    labels with DAVIS's palette
    ImageSets/<split>.txt           names of the clips
    meta.json                       written last: the dataset is complete

``convert_to_davis`` calls ``write_davis`` for each clip in worker processes;
``write_synthetic_dataset`` renders clips. Both continue an interrupted run with equal
settings and leave a complete dataset as it is.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image

from ...ops import write_atomically
from ...structures import VOID_LABEL, FrameMasks, VideoSource
from ..annotated_video import AnnotatedVideo, visible_objects, void_note
from ..clip_dataset import ClipDataset
from ..io.errors import ClipDataError
from ..io.frames import ImageFrames
from ..io.images import write_jpeg
from ..io.listing import JPEG_SUFFIXES, is_hidden, write_list
from ..sources.synthetic import ClipPlan, copy_iou, make_clip
from .config_sources import DatasetConfig
from .worker_pool import Advance, Heartbeat, run_tasks

FRAME_FOLDER, MASK_FOLDER = 'JPEGImages', 'Annotations'
META_FILE = 'meta.json'
UNFINISHED_FILE = 'unfinished.json'  # exists until meta.json is written
MAX_OBJECTS = 254  # of 256 labels, without background and void
PART_NAME, PART_PATTERN = '{}_part{}', r'(.+)_part[0-9]+'
CONVERSION_QUALITY, SYNTHETIC_QUALITY = 95, 90  # of JPEG
FRAME_SECONDS = 120.0  # a worker that takes longer for one frame is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisClip:
    """A written clip.

    Attributes:
        name: Name of its folders.
        source_ids: Object ids of the source for labels 1, 2, and so on.
        num_frames: Number of frames.
        num_masks: Frames with a mask.
        num_overlaps: Frames on which masks overlapped; the pixels have the label of
            the smaller object.
        num_covered: Masks that smaller objects covered completely.
    """

    name: str
    source_ids: tuple[int, ...]
    num_frames: int
    num_masks: int
    num_overlaps: int
    num_covered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        clips: Written clips, in the order of the source.
        problems: Why a clip was not written, by its name.
    """

    clips: tuple[DavisClip, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisFolder:
    """Output folder of a conversion.

    Attributes:
        root: Folder of the dataset.
        split_objects: Write a clip with more than 254 objects as several clips of the
            same frames; otherwise it is refused.
    """

    root: Path
    split_objects: bool

    @property
    def unfinished(self) -> Path:
        """Folder of clips in progress, and of the records of finished ones."""
        return self.root / '.unfinished'

    def record(self, name: str) -> Path:
        """File that describes a finished clip."""
        return self.unfinished / f'{name}.json'


def convert_to_davis(
    config: DatasetConfig,
    folder: DavisFolder,
    *,
    split: str,
    num_workers: int,
    advance: Advance,
) -> Conversion | None:
    """Convert all clips of a source.

    Clips that cannot be converted are left out; to add them later, remove the folder
    and convert again.

    Returns:
        What was written; None if the folder holds the complete dataset already.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If two clips would get one name, or none can be converted.
    """
    settings: dict[str, Any] = {
        'source': config,
        'split': split,
        'split_objects': folder.split_objects,
    }
    settings = json.loads(json.dumps(settings, default=str))
    if is_complete(folder.root, settings):
        return None
    dataset: ClipDataset = DATASETS.build(config)
    names = dataset.list_videos()
    _refuse_equal_names(names, folder)
    begin_dataset(folder.root, settings)
    folder.unfinished.mkdir(exist_ok=True)
    clips: dict[str, tuple[DavisClip, ...]] = {}
    problems: dict[str, str] = {}
    for result in run_tasks(
        names,
        partial(_convert, dataset, folder),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        if result.result is None:
            problems[result.task] = str(result.error)
        else:
            clips[result.task] = result.result
        advance(len(clips) + len(problems), len(names))
    conversion = Conversion(
        clips=tuple(clip for name in names for clip in clips.get(name, ())),
        problems={name: problems[name] for name in names if name in problems},
    )
    if not conversion.clips:
        first = next(iter(conversion.problems.values()))
        msg = f'None of {len(names)} clips can be converted; {first}'
        raise ValueError(msg)
    videos = {
        clip.name: {
            'objects': {
                str(label): {'source_id': source_id}
                for label, source_id in enumerate(clip.source_ids, start=1)
            }
        }
        for clip in conversion.clips
    }
    finish_dataset(
        folder.root,
        {split: [clip.name for clip in conversion.clips]},
        {'settings': settings, 'videos': videos},
    )
    shutil.rmtree(folder.unfinished)
    return conversion


def is_complete(root: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a folder holds a complete dataset with these settings.

    Returns:
        False if the folder is empty or missing, or an interrupted run with the same
        settings can be continued.

    Raises:
        FileExistsError: If the folder holds something else.
    """
    meta_file, marker = root / META_FILE, root / UNFINISHED_FILE
    if meta_file.is_file():
        if json.loads(meta_file.read_text(encoding='utf-8'))['settings'] == settings:
            return True
        content = 'clips made with other settings'
    elif marker.is_file() and marker.read_text('utf-8') == json.dumps(dict(settings)):
        return False
    elif root.is_dir() and any(root.iterdir()):
        content = 'files that are not a complete set of generated clips'
    else:
        return False
    msg = f'{root} holds {content}; remove the folder or choose another'
    raise FileExistsError(msg)


def begin_dataset(root: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of a dataset, and mark it as unfinished."""
    root.mkdir(parents=True, exist_ok=True)
    marker = root / UNFINISHED_FILE
    marker.write_text(json.dumps(dict(settings)), encoding='utf-8')


def finish_dataset(
    root: Path, splits: Mapping[str, list[str]], meta: Mapping[str, Any]
) -> None:
    """Write the lists of clips and ``meta.json``: the dataset is complete."""
    for split, names in splits.items():
        write_list(root / 'ImageSets' / f'{split}.txt', names)
    write_atomically(root / META_FILE, json.dumps(meta, indent=1))
    (root / UNFINISHED_FILE).unlink()


def _refuse_equal_names(names: list[str], folder: DavisFolder) -> None:
    """Refuse clips that would be written into one folder."""
    source_of: dict[str, str] = {}
    for name in names:
        written = davis_name(name)
        if written in source_of:
            msg = (
                f'{source_of[written]} and {name} would both be written as {written}; '
                f'list each clip once, or rename one'
            )
            raise ValueError(msg)
        source_of[written] = name
    for written, name in source_of.items() if folder.split_objects else ():
        part = re.fullmatch(PART_PATTERN, written)
        if part and part[1] in source_of:
            msg = (
                f'{name} would be written as {written}, which may become a part of '
                f'{source_of[part[1]]}; rename one, or convert them separately'
            )
            raise ValueError(msg)


def davis_name(name: str) -> str:
    """Name of a clip's folders: sub-folders become part of the name.

    Raises:
        ClipDataError: If the name is empty or hidden.
    """
    written = name.replace('/', '__').replace('\\', '__')
    if not written or is_hidden(written):
        problem = f'cannot be written as the folder {written!r}'
        raise ClipDataError.at(repr(name), problem, 'rename the clip at its source')
    return written


def _convert(
    dataset: ClipDataset, folder: DavisFolder, name: str, heartbeat: Heartbeat
) -> tuple[DavisClip, ...]:
    return write_davis(dataset.open_video(name), folder, heartbeat)


def write_davis(
    source: VideoSource, folder: DavisFolder, heartbeat: Heartbeat
) -> tuple[DavisClip, ...]:
    """Write a clip, unless it is finished.

    JPEG files are copied, other frames encoded. Labels number the objects in the order
    in which they appear.

    Returns:
        One clip, or several if its objects were split.

    Raises:
        ClipDataError: If a file is damaged, or there are too many objects or none.
    """
    name = davis_name(source.name)
    record = folder.record(name)
    if record.is_file():
        entries = json.loads(record.read_text(encoding='utf-8'))
        return tuple(
            DavisClip(**entry | {'source_ids': tuple(entry['source_ids'])})
            for entry in entries
        )
    ids = _objects_in_order(source, heartbeat)
    if len(ids) > MAX_OBJECTS and not folder.split_objects:
        problem = f'has {len(ids)} objects, a palette PNG holds {MAX_OBJECTS}'
        remedy = 'split it into clips of fewer objects with --split-objects'
        raise ClipDataError.at(source.name, problem, remedy)
    if not ids:
        problem = f'shows no object{void_note(source)}'
        raise ClipDataError.at(source.name, problem, 'leave the clip out of the list')
    parts = {name: ids}
    if len(ids) > MAX_OBJECTS:
        parts = {
            PART_NAME.format(name, i): ids[start : start + MAX_OBJECTS]
            for i, start in enumerate(range(0, len(ids), MAX_OBJECTS))
        }
    unfinished = folder.unfinished / name
    shutil.rmtree(unfinished, ignore_errors=True)
    clips = tuple(
        _write_part(source, part_ids, unfinished, part, heartbeat)
        for part, part_ids in parts.items()
    )
    for part in parts:
        # Clips are listed by their frames, which are therefore moved last.
        for kind in (MASK_FOLDER, FRAME_FOLDER):
            target = folder.root / kind / part
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            (unfinished / kind / part).rename(target)
    write_atomically(record, json.dumps([asdict(clip) for clip in clips]))
    shutil.rmtree(unfinished)
    return clips


def _objects_in_order(source: VideoSource, heartbeat: Heartbeat) -> tuple[int, ...]:
    """Visible objects, in the order in which they appear."""
    ids: dict[int, None] = {}
    for index in source.annotated_frames():
        ids |= dict.fromkeys(visible_objects(source.read_masks(index)))
        heartbeat()
    return tuple(ids)


def _write_part(
    source: VideoSource,
    ids: tuple[int, ...],
    root: Path,
    name: str,
    heartbeat: Heartbeat,
) -> DavisClip:
    """Write all frames, and the masks of some objects."""
    frame_folder, mask_folder = _make_folders(root, name)
    annotated = frozenset(source.annotated_frames())
    label_maps = []
    for index in range(source.num_frames):
        _write_frame(source, index, frame_folder / f'{index:05d}.jpg')
        masks = source.read_masks(index) if index in annotated else None
        if masks is not None:
            label_maps.append(merge_masks(masks, ids))
            write_mask(mask_folder / f'{index:05d}.png', label_maps[-1].labels)
        heartbeat()
    return DavisClip(
        name=name,
        source_ids=ids,
        num_frames=source.num_frames,
        num_masks=len(label_maps),
        num_overlaps=sum(each.overlaps for each in label_maps),
        num_covered=sum(each.num_covered for each in label_maps),
    )


def _make_folders(root: Path, name: str) -> list[Path]:
    """Make empty folders for the frames and masks of a clip."""
    folders = [root / kind / name for kind in (FRAME_FOLDER, MASK_FOLDER)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return folders


def _write_frame(source: VideoSource, index: int, path: Path) -> None:
    frame = source.read_frame(index)  # decoded in any case: refuses damaged files
    frames = source.frames if isinstance(source, AnnotatedVideo) else None
    if isinstance(frames, ImageFrames):
        file = frames.path(index)
        if file.suffix.lower() in JPEG_SUFFIXES:
            shutil.copyfile(file, path)
            return
    write_jpeg(path, frame, CONVERSION_QUALITY)


class LabelMap(NamedTuple):
    """Masks of a frame, merged.

    Attributes:
        labels: (H, W), uint8; 0 is background, 255 void.
        overlaps: Whether two masks share a pixel.
        num_covered: Masks without a pixel left.
    """

    labels: NDArray[np.uint8]
    overlaps: bool
    num_covered: int


def merge_masks(masks: FrameMasks, ids: tuple[int, ...]) -> LabelMap:
    """Merge the masks of some objects, small objects over large ones.

    Args:
        masks: Masks of a frame.
        ids: Objects with the labels 1, 2, and so on; others are left out.
    """
    labels = np.zeros(masks.masks.shape[1:], np.uint8)
    if masks.void is not None:
        labels[masks.void] = VOID_LABEL
    label_of = {object_id: label for label, object_id in enumerate(ids, start=1)}
    labelled = [
        (label_of[object_id], mask)
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True)
        if object_id in label_of and mask.any()
    ]
    labelled.sort(key=lambda pair: -int(pair[1].sum()))
    for label, mask in labelled:
        labels[mask] = label
    num_pixels = sum(int(mask.sum()) for _, mask in labelled)
    histogram = np.bincount(labels.reshape(-1), minlength=256)
    return LabelMap(
        labels=labels,
        overlaps=num_pixels > int(histogram[1:VOID_LABEL].sum()),
        num_covered=sum(not histogram[label] for label, _ in labelled),
    )


def write_mask(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write labels (H, W) as a PNG with DAVIS's palette."""
    image = Image.fromarray(labels).convert('P')
    image.putpalette(davis_palette())
    image.save(path, compress_level=1)


def davis_palette() -> list[int]:
    """DAVIS's colours of the labels 0 to 255, as r, g, b, r, and so on."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    # The bits of a label, from the lowest, become the highest bits of r, g, b in turn.
    for bit in range(8):
        for channel in range(3):
            is_set = (labels >> (3 * bit + channel)) & 1
            palette[:, channel] |= (is_set << (7 - bit)).astype(np.uint8)
    return [int(value) for value in palette.reshape(-1)]


def write_synthetic_dataset(
    root: Path,
    splits: Mapping[str, Sequence[ClipPlan]],
    settings: Mapping[str, Any],
    num_workers: int,
    advance: Advance,
) -> dict[str, Any]:
    """Render the clips of all splits.

    Args:
        root: Output folder.
        splits: Plans of the clips by split.
        settings: Stored in ``meta.json`` and compared by :func:`is_complete`.
        num_workers: Number of processes.
        advance: Called after each clip.

    Returns:
        The content of ``meta.json``.
    """
    begin_dataset(root, settings)
    plans = [plan for split in splits.values() for plan in split]
    entries: dict[str, dict[str, Any]] = {}
    for result in run_tasks(
        plans,
        partial(_render_clip, root),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        if result.result is None:
            msg = f'{result.task.name} cannot be rendered: {result.error}'
            raise RuntimeError(msg)
        entries[result.task.name] = result.result
        advance(len(entries), len(plans))
    clips = {
        split: [entries[plan.name] for plan in split_plans]
        for split, split_plans in splits.items()
    }
    meta = {'settings': dict(settings), 'clips': clips}
    names = {
        split: [plan.name for plan in split_plans]
        for split, split_plans in splits.items()
    }
    finish_dataset(root, names, meta)
    return meta


def _render_clip(root: Path, plan: ClipPlan, heartbeat: Heartbeat) -> dict[str, Any]:
    """Render and write a clip; return its entry of ``meta.json``."""
    del heartbeat  # a whole clip takes less time than the limit of a frame
    clip = make_clip(plan)
    frame_folder, mask_folder = _make_folders(root, plan.name)
    for index, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
        write_jpeg(frame_folder / f'{index:05d}.jpg', frame, SYNTHETIC_QUALITY)
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
