"""Inspect a user's data for a project: options, content, damage, split."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import ceil, floor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS

from ...ops import masks_to_boxes
from ...structures import VideoSource
from ..annotated_video import AnnotatedVideo, visible_objects, void_note
from ..clip_dataset import ClipDataset
from ..io.errors import ClipDataError
from ..io.frames import ImageFrames, VideoFileFrames
from ..io.images import deep_range, read_label_map
from ..sources.label_images import LabelImageMasks
from ..sources.labelme import UprightImage
from .checking import ClipReport, check_clip
from .config_sources import DatasetConfig
from .layouts import Layout, LayoutError, find_split
from .splitting import (
    Thumbnail,
    split_clips,
    split_frames,
    split_images,
    thumbnail,
)
from .worker_pool import Advance, Heartbeat, run_tasks

FRAME_SECONDS = 60.0  # a worker that takes longer for one frame is killed
NUM_GREYS = 256
NUM_TUNED = 10  # clips from which options are told
MAX_LABELS_COUNTED = 64  # of a label image
NUM_LABELS = 20  # label images from which the rule is told
MIN_REGION = 16  # pixels of a region that counts for that
MAX_SPLIT_LABELS = 0.2  # share of labels with several regions in maps of instances
# Lengths of training clips, the longest first, of which most videos have to be capable.
CLIP_LENGTHS = (8, 4, 2)
MOST_CLIPS = 0.8
EXAMPLE_OBJECTS = 3


# What is there -----------------------------------------------------------------------


def _tune_source(
    config: DatasetConfig, names: Collection[str] | None = None
) -> tuple[DatasetConfig, list[str], list[str]]:
    """Set the options of a source that its data need.

    Masks of 0 and 255, images of more than 8 bits, JSON files in which all masks are
    crowds, and label images of instances or of classes.

    Args:
        names: Clips that count; None for all of the source.

    Returns:
        The config; its clips; and notes on the options that were set.

    Raises:
        ValueError: If the source cannot be built.
    """
    config, notes = dict(config), []
    try:
        dataset: ClipDataset = DATASETS.build(config)
    except ClipDataError as error:
        if 'crowd_as_objects=True' not in str(error):
            raise
        config['crowd_as_objects'] = True
        notes.append('all masks are marked as crowds (iscrowd=1) and taken as objects')
        dataset = DATASETS.build(config)
    known = None if names is None else set(names)
    clips = [n for n in dataset.list_videos() if known is None or n in known]
    videos = []
    for name in clips[:: max(1, len(clips) // NUM_TUNED)][:NUM_TUNED]:
        with suppress(ClipDataError):  # a damaged clip is reported later
            videos.append(dataset.open_video(name))
    if config['type'] == 'ClipLabelImageDataset':
        rule, note = _label_rule(videos)
        config |= {'rule': rule} if rule else {}
        notes.append(note)
    if videos and all(map(void_note, videos)):
        if config['type'] == 'ClipLabelImageDataset':
            config['rule'] = {**config.get('rule', {}), 'void': ()}
        elif config['type'] == 'ClipPaletteDataset':
            config['void_label'] = None
        notes.append('masks hold 0 and 255 only: 255 is an object, not void')
    ranges = []
    for path in map(_first_image, videos):
        with suppress(ClipDataError):
            ranges.append(None if path is None else deep_range(path))
    deep_ranges = [limits for limits in ranges if limits is not None]
    if deep_ranges:
        low = min(low for low, _ in deep_ranges)
        high = max(high for _, high in deep_ranges)
        if high - low > NUM_GREYS:
            low, high = floor(low), ceil(high)
        config['intensity_range'] = (low, high)
        notes.append(f'images have more than 8 bits: {low:g} is black, {high:g} white')
    return config, clips, notes


def _first_image(video: VideoSource) -> Path | None:
    """File of the first frame; None if the frames are in a video file."""
    frames = video.frames if isinstance(video, AnnotatedVideo) else None
    frames = frames.stored if isinstance(frames, UprightImage) else frames
    return frames.path(0) if isinstance(frames, ImageFrames) else None


def _label_rule(videos: Sequence[VideoSource]) -> tuple[dict[str, Any], str]:
    """How label images become objects: their labels are instances or classes."""
    num_labels = num_split = 0
    for video in videos[:NUM_LABELS]:
        masks = video.masks if isinstance(video, AnnotatedVideo) else None
        if not isinstance(masks, LabelImageMasks):
            continue
        try:
            labels = read_label_map(masks.path)
        except ClipDataError:
            continue
        for label in np.unique(labels)[:MAX_LABELS_COUNTED]:
            if label == 0:
                continue
            _, _, stats, _ = cv2.connectedComponentsWithStats(
                (labels == label).astype(np.uint8)
            )
            areas = stats[1:, cv2.CC_STAT_AREA]
            num_labels += 1
            num_split += int((areas >= MIN_REGION).sum() > 1)
    if num_labels and num_split > MAX_SPLIT_LABELS * num_labels:
        rule = {'regions': True, 'min_pixels': 64}
        return rule, 'labels are classes: each connected region is an object'
    return {}, 'each label of an image is an object'


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedData:
    """What the sources of a layout hold.

    Attributes:
        layout: The layout.
        sources: Source of training, and that of validation if it is another one.
        reports: For each source, reports of the clips that can be used, by name.
        left_out: Why a clip is left out, by its name.
        notes: Options that were set, for a reader.
    """

    layout: Layout
    sources: tuple[DatasetConfig, ...]
    reports: tuple[Mapping[str, ClipReport], ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    def describe(self) -> list[str]:
        """Describe the content, a line for each source."""
        parts = ('',) if len(self.reports) == 1 else ('to train: ', 'to validate: ')
        return [
            part + _describe(reports.values(), is_video=self.layout.is_video)
            for part, reports in zip(parts, self.reports, strict=True)
        ]


def _describe(reports: Collection[ClipReport], *, is_video: bool) -> str:
    decoded = [report for report in reports if report.decoded]
    num_frames = sum(report.num_frames for report in reports)
    num_annotated = sum(report.num_annotated for report in reports)
    num_objects = sum(len(report.objects) for report in decoded)
    sizes = Counter(size for report in decoded for size in report.sizes)
    parts = [count(len(reports), 'clip' if is_video else 'image')]
    if is_video:
        parts.append(count(num_frames, 'frame'))
        if num_annotated < num_frames:
            parts.append(f'{num_annotated} of them with masks')
    sampled = '' if len(decoded) == len(reports) else f' in {len(decoded)} of them'
    parts.append(count(num_objects, 'object') + sampled)
    named = [f'{width} x {height}' for (height, width), _ in sizes.most_common(3)]
    more = f' and {len(sizes) - 3} more sizes' if len(sizes) > 3 else ''
    return ', '.join([*parts, ' or '.join(named) + more] if named else parts)


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural but for 1."""
    return f'{number} {noun}{"" if number == 1 else "s"}'


def inspect_data(
    layout: Layout,
    links: Path,
    *,
    sample: int | None,
    num_workers: int,
    advance: Advance,
) -> InspectedData:
    """Open all clips of a layout and decode them, or a sample of them.

    Args:
        links: Folder of the links of the layout, if it has any.
        sample: Clips to decode, at regular distances; None for all.
        num_workers: Processes.
        advance: Called with the number of clips that are done, and of all.

    Raises:
        ClipDataError: If no clip can be used.
        ValueError: If a source cannot be built.
    """
    source = {'data_root': str(links), **layout.source}
    sources, reports, notes = [], [], [*layout.notes]
    left_out: dict[str, str] = {}
    others = [] if layout.val_options is None else [layout.val_options]
    for options in ({}, *others):
        config, names, new_notes = _tune_source(source | options, layout.names)
        notes += [note for note in new_notes if note not in notes]
        all_reports = _inspect_clips(config, names, sample, num_workers, advance)
        left_out |= {
            n: '; '.join(r.problems) for n, r in all_reports.items() if r.problems
        }
        usable = {n: all_reports[n] for n in names if not all_reports[n].problems}
        if not usable:
            first = next(iter(left_out.values()), 'there is none')
            msg = (
                f'none of {len(names)} clips or images can be used, the first: {first}'
            )
            raise ClipDataError(msg)
        sources.append(config)
        reports.append(usable)
    return InspectedData(
        layout=layout,
        sources=tuple(sources),
        reports=tuple(reports),
        left_out=left_out,
        notes=tuple(notes),
    )


def _inspect_clips(
    config: DatasetConfig,
    names: Sequence[str],
    sample: int | None,
    num_workers: int,
    advance: Advance,
) -> dict[str, ClipReport]:
    dataset: ClipDataset = DATASETS.build(config)
    step = 1 if sample is None else max(1, ceil(len(names) / sample))
    decoded = set(names[::step])
    reports: dict[str, ClipReport] = {}
    for result in run_tasks(
        names,
        partial(_inspect, dataset, decoded),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        reports[result.task] = result.result or ClipReport.failed(
            f'cannot be checked: {result.error}'
        )
        advance(len(reports), len(names))
    return reports


def _inspect(
    dataset: ClipDataset, decoded: set[str], name: str, heartbeat: Heartbeat
) -> ClipReport:
    return check_clip(dataset, name, decode=name in decoded, heartbeat=heartbeat)


# Split -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSplit:
    """Which clips train and which validate.

    Attributes:
        train: Their names.
        val: Their names.
        how: How they were chosen.
        cut: With one video only, the frame from which on it validates; else None.
        num_frames: Frames of a training clip; None for images.
        left_out: Clips that are too short, with the reason.
        skip_last: Whether the last annotated frame of a video has no score, as in
            DAVIS.
    """

    train: Sequence[str]
    val: Sequence[str]
    how: str
    cut: int | None = None
    num_frames: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    skip_last: bool = True


def split_data(data: InspectedData, *, share: float, seed: int) -> DataSplit:
    """Split clips or images, or keep the split that comes with the data.

    Args:
        share: Of the validation, between 0 and 1.
        seed: Of the random choice.

    Raises:
        ValueError: If there are too few clips, images or annotated frames.
    """
    dataset: ClipDataset = DATASETS.build(data.sources[0])
    reports = data.reports[0]
    names = sorted(reports)
    if len(data.reports) > 1:
        found = names, sorted(data.reports[1]), 'their JSON files'
    elif data.layout.links:
        found = None
    else:
        found = find_split(Path(dataset.data_root or '.'), names)
    if data.layout.is_video:
        reports = {name: r for each in data.reports for name, r in each.items()}
        return _split_videos(dataset, reports, found, share=share, seed=seed)
    if found is not None:
        return DataSplit(train=found[0], val=found[1], how=f'as in {found[2]}')
    if len(names) < 2:
        msg = 'there is one image only; annotate at least one more for validation'
        raise LayoutError(msg)
    sizes = {name: tuple(sorted(reports[name].sizes)) or None for name in names}
    split = split_images(names, share, seed, partial(_thumbnail, dataset), sizes)
    return DataSplit(train=split.train, val=split.val, how=split.how)


def _split_videos(
    dataset: ClipDataset,
    reports: Mapping[str, ClipReport],
    found: tuple[Sequence[str], Sequence[str], str] | None,
    *,
    share: float,
    seed: int,
) -> DataSplit:
    lengths = {name: report.num_frames for name, report in reports.items()}
    annotated = {name: report.num_annotated for name, report in reports.items()}
    num_frames = next(
        (
            length
            for length in CLIP_LENGTHS
            if sum(n >= length for n in lengths.values()) >= MOST_CLIPS * len(lengths)
        ),
        CLIP_LENGTHS[-1],
    )
    left_out = {
        name: f'has {count(length, "frame")}, training clips have {num_frames}'
        for name, length in lengths.items()
        if length < num_frames
    }
    names = sorted(reports.keys() - left_out.keys())
    if not names:
        msg = (
            'all clips have a single frame; train on them as images: put them into the '
            'layout label-images'
        )
        raise LayoutError(msg)
    if len(names) == 1 and found is None:
        frames = dataset.open_video(names[0]).annotated_frames()
        cut = split_frames(frames, share)
        return DataSplit(
            train=names,
            val=names,
            how=f'the same one: frames before {cut} train, those from there on '
            f'validate; the score says little about other videos',
            cut=cut,
            num_frames=max(n for n in (1, *CLIP_LENGTHS) if n <= min(cut, num_frames)),
            left_out=left_out,
            skip_last=sum(frame >= cut for frame in frames) > 2,
        )
    if found is None:
        train, val = _hold_out(names, annotated, share, seed)
        how = f'at random, seed {seed}'
    else:
        train, val = ([n for n in part if n in names] for part in found[:2])
        how = f'as in {found[2]}'
    return DataSplit(
        train=train,
        val=val,
        how=how,
        num_frames=num_frames,
        left_out=left_out,
        skip_last=min(annotated[name] for name in val) > 2,
    )


def _hold_out(
    names: Sequence[str], annotated: Mapping[str, int], share: float, seed: int
) -> tuple[Sequence[str], Sequence[str]]:
    """Choose clips that can be scored: with a prompt and a later annotated frame."""
    split = split_clips(names, share, seed)
    if all(annotated[name] > 2 for name in split.val):
        return split.train, split.val
    # DAVIS does not score the last annotated frame: three are better than two.
    ranked = sorted(names, key=lambda name: (-min(annotated[name], 3), name))
    val = sorted(ranked[: len(split.val)])
    if min(annotated[name] for name in val) < 2:
        msg = (
            'there are not enough clips with 2 annotated frames to validate tracking; '
            'annotate the first and a later frame of some clips'
        )
        raise LayoutError(msg)
    return sorted(set(names) - set(val)), val


def _thumbnail(dataset: ClipDataset, name: str) -> Thumbnail | None:
    try:
        return thumbnail(dataset.open_video(name).read_frame(0))
    except ClipDataError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A clip of the validation, and boxes of its objects: a first prediction.

    Attributes:
        path: Image, folder of frames, or video.
        frame: Frame of the boxes.
        boxes: ``(x1, y1, x2, y2)`` of some objects.
    """

    path: Path
    frame: int
    boxes: tuple[tuple[int, int, int, int], ...]


def find_example(config: DatasetConfig, name: str, first: int = 0) -> Example | None:
    """Find boxes of the objects on the first frame of a clip that shows any.

    Args:
        first: Frames before this one do not count.

    Returns:
        None if the clip cannot be predicted from its files.
    """
    dataset: ClipDataset = DATASETS.build(config)
    video = dataset.open_video(name)
    frames = video.frames if isinstance(video, AnnotatedVideo) else None
    path = _first_image(video)
    if isinstance(frames, VideoFileFrames):
        path = frames.path.resolve()  # not the link of a project
    elif path is not None and video.num_frames > 1:
        path = path.parent
    for frame in video.annotated_frames():
        masks = video.read_masks(frame) if frame >= first else None
        if path is None or masks is None or not visible_objects(masks):
            continue
        areas = masks.masks.sum(axis=(1, 2))
        largest = np.argsort(-areas, kind='stable')[:EXAMPLE_OBJECTS]
        # In the order of the ids, which `predict` gives from 1 on.
        shown = masks.masks[np.sort(largest[areas[largest] > 0])]
        boxes = masks_to_boxes(torch.from_numpy(shown)[:, None]).int().tolist()
        return Example(path=path, frame=frame, boxes=tuple(map(tuple, boxes)))
    return None
