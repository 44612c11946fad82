"""A video on disk with its masks: what every source of files opens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..structures import FrameMasks, ObjectSource, VideoSource
from .io.errors import ClipDataError, clip_errors
from .io.frames import StoredFrames

ObjectIds = tuple[int, ...]
FrameSize = tuple[int, int]  # height and width
MAX_VOID_FRAMES = 10  # frames that are decoded to explain why a video shows no object


class MaskReader(ABC):
    """Reads the masks of one video; small, picklable, thread-safe.

    A source implements :meth:`object_ids` and :meth:`read`, and
    :meth:`annotated_frames` unless its clips are single images.
    """

    # Whether `seen` is cheaper than decoding all masks of a frame.
    lists_seen: ClassVar[bool] = False

    @property
    def void_meaning(self) -> str:
        """Which pixels are void, and the option that makes them an object."""
        return 'void'

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""
        return (0,)

    @abstractmethod
    def object_ids(self) -> ObjectIds:
        """Objects of the whole video."""

    @abstractmethod
    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Decode masks of an annotated frame.

        Args:
            size: Height and width that the masks must have.
            object_ids: Objects to decode, with an empty mask where one is not visible;
                None for all that are visible.
        """

    def seen(self, frame_index: int, size: FrameSize) -> ObjectIds:
        """Objects visible on an annotated frame, in the order of :meth:`read`."""
        return self.read(frame_index, size).object_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedVideo:
    """A video whose frames and masks are read from files.

    It implements ``VideoSource`` and ``ObjectSource``. Whatever its readers raise is
    raised as a ``ClipDataError`` of this clip.

    Attributes:
        name: Name of the video.
        frames: Reads its frames.
        masks: Reads its masks.
    """

    name: str
    frames: StoredFrames
    masks: MaskReader

    @property
    def num_frames(self) -> int:
        """Number of frames."""
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
        """Objects of the whole video."""
        with clip_errors(self.name):
            return self.masks.object_ids()

    def seen_objects(self, frame_index: int) -> ObjectIds | None:
        """Objects visible on a frame, if that is known without decoding all masks."""
        if not self.masks.lists_seen:
            return None
        if frame_index not in self.annotated_frames():
            return ()
        with clip_errors(self.name):
            return self.masks.seen(frame_index, self.frames.size(frame_index))

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the masks of the visible objects; None if not annotated."""
        return self._read(frame_index, None)

    def read_objects(
        self, frame_index: int, object_ids: ObjectIds
    ) -> FrameMasks | None:
        """Decode the masks of chosen objects only, empty where one is not visible."""
        return self._read(frame_index, object_ids)

    def _read(
        self, frame_index: int, object_ids: ObjectIds | None
    ) -> FrameMasks | None:
        if frame_index not in self.annotated_frames():
            return None
        with clip_errors(self.name):
            size = self.frames.size(frame_index)
            return self.masks.read(frame_index, size, object_ids)


def check_size(where: Path | str, mask_size: Sequence[int], size: FrameSize) -> None:
    """Check that a mask has the size of its frame.

    Raises:
        ClipDataError: If the sizes differ.
    """
    if tuple(mask_size) != tuple(size):
        problem = f'mask of {tuple(mask_size)} beside a frame of {size} (height, width)'
        remedy = 'write the mask at the size of its frame'
        raise ClipDataError.at(where, problem, remedy)


# Objects of any video source ---------------------------------------------------------


@runtime_checkable
class _NamesObjects(Protocol):
    def object_ids(self) -> ObjectIds: ...


def video_objects(source: VideoSource) -> ObjectIds:
    """Find the objects of a video; decodes all masks if it does not name them."""
    if isinstance(source, _NamesObjects):
        return source.object_ids()
    frames = source.annotated_frames()
    return tuple(
        sorted({i for frame in frames for i in list_objects(source, frame)[0]})
    )


def list_objects(
    source: VideoSource, frame_index: int
) -> tuple[ObjectIds, FrameMasks | None]:
    """Find the objects that are visible on a frame.

    Returns:
        Their ids, and all masks of the frame if it had to be decoded for them.
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
    """Decode the masks of chosen objects, alone if the source can do so.

    Returns:
        A mask for each of them, empty where it is not visible; None if the frame is not
        annotated.
    """
    if isinstance(source, ObjectSource):
        return source.read_objects(frame_index, object_ids)
    masks = source.read_masks(frame_index)
    return None if masks is None else pick_objects(masks, object_ids)


def pick_objects(masks: FrameMasks, object_ids: ObjectIds) -> FrameMasks:
    """Select a mask for each of the objects, empty if the frame does not show it."""
    picked = np.zeros((len(object_ids), *masks.masks.shape[1:]), bool)
    for index, object_id in enumerate(object_ids):
        if object_id in masks.object_ids:
            picked[index] = masks.masks[masks.object_ids.index(object_id)]
    return FrameMasks(object_ids=object_ids, masks=picked, void=masks.void)


def visible_objects(masks: FrameMasks | None) -> ObjectIds:
    """Objects with at least one pixel; none if the frame is not annotated (None)."""
    if masks is None:
        return ()
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    return tuple(object_id for object_id, mask in pairs if mask.any())


def without_empty(masks: FrameMasks) -> FrameMasks:
    """Leave out the objects without a pixel."""
    seen = [index for index, mask in enumerate(masks.masks) if mask.any()]
    return FrameMasks(
        object_ids=tuple(masks.object_ids[index] for index in seen),
        masks=masks.masks[seen],
        void=masks.void,
    )


def void_note(source: VideoSource) -> str:
    """Explain that a video shows no object because all labelled pixels are void.

    This is usual for masks of 0 and 255, since 255 is void in label images.

    Returns:
        A supplement to an error message; empty if that is not the reason.
    """
    has_void = False
    for frame_index in source.annotated_frames()[:MAX_VOID_FRAMES]:
        try:
            masks = source.read_masks(frame_index)
        except ClipDataError:  # reported when the frame is loaded
            continue
        if visible_objects(masks):
            return ''
        has_void = has_void or (masks is not None and masks.void is not None)
    if not has_void:
        return ''
    inner: Any = source
    while hasattr(inner, 'source'):  # a view of another source
        inner = inner.source
    meaning = inner.masks.void_meaning if isinstance(inner, AnnotatedVideo) else 'void'
    return f': all labelled pixels are {meaning}'
