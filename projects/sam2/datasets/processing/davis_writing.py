"""Writes a clip of any source in DAVIS layout, whole or not at all."""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.annotated_video import AnnotatedVideo
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.file_endings import is_hidden
from projects.sam2.datasets.frames import ImageFrames
from projects.sam2.datasets.object_masks import void_note
from projects.sam2.datasets.processing.supervised import Beat
from projects.sam2.datasets.reading import JPEG_SUFFIXES, VOID_LABEL
from projects.sam2.datasets.synthetic.writing import write_mask
from projects.sam2.ops import write_whole
from projects.sam2.structures import FrameMasks, VideoSource

MAX_OBJECTS = 254  # of a clip: a palette has 256 labels, background and void among them
JPEG_QUALITY = 95
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
        """Make an empty folder for a clip.

        Args:
            name: Of the clip.

        Returns:
            The folder.
        """
        folder = self.aside / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finish(self, name: str, clips: tuple[DavisClip, ...]) -> None:
        """Give whole folders their names, and note that they have them.

        The frames come last: a clip that is listed by them has its masks.

        Args:
            name: Of the clip.
            clips: What was written of it, one or, where it was split, several.
        """
        for clip in clips:
            for kind in (MASK_FOLDER, FRAME_FOLDER):
                target = self.root / kind / clip.name
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                (self.aside / name / kind / clip.name).rename(target)
        write_whole(self._records(name), json.dumps([asdict(clip) for clip in clips]))
        shutil.rmtree(self.aside / name)

    def _records(self, name: str) -> Path:
        return self.aside / f'{name}.json'


def davis_name(name: str) -> str:
    """Name of a clip's folders.

    Args:
        name: As its source has it.

    Returns:
        The name without sub-folders, which DAVIS layout has none of.

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
    source: VideoSource, folder: DavisFolder, beat: Beat
) -> tuple[DavisClip, ...]:
    """Write a clip, unless it is there.

    Frames that are JPEG files are copied, others encoded. Objects are numbered in the
    order in which they appear.

    Args:
        source: The clip.
        folder: Where to.
        beat: Called after each frame.

    Returns:
        What was written: one clip, or several where its objects were split.

    Raises:
        ClipDataError: If a file is damaged, or there are too many objects or none.
    """
    name = davis_name(source.name)
    there = folder.read_records(name)
    if there is not None:
        return there
    ids = _objects_in_order(source, beat)
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
        _write_part(source, share, aside, part, beat)
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
        masks: Of the frame.
        ids: Objects to take; the first gets label 1.

    Returns:
        The map.
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


def _objects_in_order(source: VideoSource, beat: Beat) -> tuple[int, ...]:
    """Objects that are seen, in the order in which they appear."""
    found: dict[int, None] = {}
    for index in source.annotated_frames():
        masks = source.read_masks(index)
        if masks is not None:
            pairs = zip(masks.object_ids, masks.masks, strict=True)
            found |= dict.fromkeys(number for number, mask in pairs if mask.any())
        beat()
    return tuple(found)


def _write_part(
    source: VideoSource, ids: tuple[int, ...], aside: Path, name: str, beat: Beat
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
        beat()
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
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, encoded = cv2.imencode('.jpg', pixels[..., ::-1], quality)
    if not done:
        msg = f'{path}: the frame cannot be encoded'
        raise OSError(msg)
    path.write_bytes(encoded.tobytes())
