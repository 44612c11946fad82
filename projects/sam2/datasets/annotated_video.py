"""Masks of chosen objects: decoded alone where a source can, else among all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..structures import FrameMasks, ObjectSource, VideoSource
from .io.errors import ClipDataError, clip_errors
from .io.frames import FrameReader

ObjectIds = tuple[int, ...]
MAX_VOID_FRAMES = 10  # of a video without an object that are looked at


@runtime_checkable
class ObjectNamer(Protocol):
    """A video source that names its objects."""

    def object_ids(self) -> ObjectIds:
        """Objects of the whole video."""


def video_objects(source: VideoSource) -> ObjectIds:
    """Find the objects of a video.

    Args:
        source: The video; where it does not name them, those that its annotated frames
            show, which may all be decoded for it.
    """
    if isinstance(source, ObjectNamer):
        return source.object_ids()
    frames = source.annotated_frames()
    return tuple(
        sorted({i for frame in frames for i in list_objects(source, frame)[0]})
    )


def list_objects(
    source: VideoSource, frame_index: int
) -> tuple[ObjectIds, FrameMasks | None]:
    """Find the objects that a frame shows.

    Returns:
        Their ids, none where the frame is not annotated, and all masks of the frame
        where these had to be decoded for it.
    """
    if isinstance(source, ObjectSource):
        seen = source.seen_objects(frame_index)
        if seen is not None:
            return seen, None
    masks = source.read_masks(frame_index)
    return visible_objects(masks), masks


def read_objects(
    source: VideoSource, frame_index: int, object_ids: ObjectIds
) -> FrameMasks | None:
    """Decode masks of chosen objects.

    Returns:
        A mask for each of them, empty where the frame does not show it; None where
        the frame is not annotated.
    """
    if isinstance(source, ObjectSource):
        return source.read_objects(frame_index, object_ids)
    masks = source.read_masks(frame_index)
    return None if masks is None else pick_objects(masks, object_ids)


def pick_objects(masks: FrameMasks, object_ids: ObjectIds) -> FrameMasks:
    """Take the masks of some objects.

    Returns:
        One mask for each of ``object_ids``, empty where the frame has none.
    """
    picked = np.zeros((len(object_ids), *masks.masks.shape[1:]), bool)
    for position, object_id in enumerate(object_ids):
        if object_id in masks.object_ids:
            picked[position] = masks.masks[masks.object_ids.index(object_id)]
    return FrameMasks(object_ids=object_ids, masks=picked, void=masks.void)


def visible_objects(masks: FrameMasks | None) -> ObjectIds:
    """Objects with at least one pixel on a frame.

    Args:
        masks: Masks of a frame, or None where it is not annotated.
    """
    if masks is None:
        return ()
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    return tuple(object_id for object_id, mask in pairs if mask.any())


def void_note(source: VideoSource) -> str:
    """Say whether a video shows no object because all labelled pixels are void.

    This is usual for masks of 0 and 255, since 255 is void in label images.

    Returns:
        A supplement to the description of the problem; empty if nothing is void.
    """
    void = False
    for frame_index in source.annotated_frames()[:MAX_VOID_FRAMES]:
        try:
            masks = source.read_masks(frame_index)
        except ClipDataError:  # reported by the reader of the frame
            continue
        if visible_objects(masks):
            return ''
        void = void or (masks is not None and masks.void is not None)
    inner: Any = source
    while hasattr(inner, 'source'):  # a view
        inner = inner.source
    reader = getattr(inner, 'masks', None)
    meaning = getattr(reader, 'void_meaning', 'void')
    return f': all labelled pixels are {meaning}' if void else ''


FrameSize = tuple[int, int]  # height and width


class MaskReader(Protocol):
    """Reads the masks of one video; small, picklable, thread-safe."""

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""

    def object_ids(self) -> ObjectIds:
        """Objects of the video, without decoding a mask."""

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of an annotated frame.

        Args:
            size: Height and width that the masks must have.
            object_ids: Objects to decode, empty where the frame does not show them;
                None for those that are seen.
        """


@runtime_checkable
class ObjectLister(Protocol):
    """A mask reader that knows what a frame shows without decoding its masks."""

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects seen on an annotated frame of that size, in the order of ``read``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedVideo:
    """Reads a video: ``VideoSource`` and ``ObjectSource`` of all sources of files.

    Whatever its readers raise is raised as a ``ClipDataError`` of this clip.

    Attributes:
        name: Name of the video.
        frames: Reads its frames.
        masks: Reads its masks.
    """

    name: str
    frames: FrameReader
    masks: MaskReader

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self.frames.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return self.frames.frame_name(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""
        with clip_errors(self.name):
            return self.frames.read(frame_index)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        with clip_errors(self.name):
            return self.masks.annotated_frames()

    def object_ids(self) -> ObjectIds:
        """Objects of the video, without decoding a mask."""
        with clip_errors(self.name):
            return self.masks.object_ids()

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """Objects seen on a frame.

        Returns:
            Their ids, none where the frame is not annotated; None where the masks are
            images, so that only decoding all of them tells.

        Raises:
            ClipDataError: If a mask is damaged or of another size than its frame.
        """
        if not isinstance(self.masks, ObjectLister):
            return None
        if frame_index not in self.annotated_frames():
            return ()
        with clip_errors(self.name):
            return self.masks.seen(frame_index, self.frames.size(frame_index))

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the masks of the objects that are seen on a frame.

        Returns:
            The masks, or None where the frame is not annotated.

        Raises:
            ClipDataError: If a mask is damaged or of another size than its frame.
        """
        return self._read(frame_index, None)

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode the masks of chosen objects alone.

        Returns:
            A mask for each of them, empty where the frame does not show it; None where
            the frame is not annotated.

        Raises:
            ClipDataError: If a mask is damaged or of another size than its frame.
        """
        return self._read(frame_index, object_ids)

    def _read(
        self, frame_index: int, object_ids: ObjectIds | None
    ) -> FrameMasks | None:
        if frame_index not in self.annotated_frames():
            return None
        with clip_errors(self.name):
            size = self.frames.size(frame_index)
            return self.masks.read(frame_index, size, object_ids)


def check_size(where: Path | str, found: FrameSize, size: FrameSize) -> None:
    """Refuse a mask that does not lie on its frame.

    Raises:
        ClipDataError: If they differ.
    """
    if tuple(found) != tuple(size):
        problem = f'mask of {tuple(found)} beside a frame of {size} (height, width)'
        remedy = 'write the mask at the size of its frame'
        raise ClipDataError.at(where, problem, remedy)


def no_masks(size: FrameSize) -> FrameMasks:
    """A frame on which nothing is seen."""
    return FrameMasks(object_ids=(), masks=np.zeros((0, *size), bool))
