"""A video of any source: its frames, and masks that are decoded when asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.errors import ClipDataError, clip_errors
from projects.sam2.datasets.frames import FrameReader
from projects.sam2.structures import FrameMasks

ObjectIds = tuple[int, ...]
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
            frame_index: Position in the video.
            size: Height and width that the masks must have.
            object_ids: Objects to decode, empty where the frame does not show them;
                None for those that are seen.

        Returns:
            A mask for each of the objects.
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

        Args:
            frame_index: Position in the video.

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

        Args:
            frame_index: Position in the video.

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

        Args:
            frame_index: Position in the video.
            object_ids: The objects.

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

    Args:
        where: File of the mask.
        found: Its height and width.
        size: Those of the frame.

    Raises:
        ClipDataError: If they differ.
    """
    if tuple(found) != tuple(size):
        problem = f'mask of {tuple(found)} beside a frame of {size} (height, width)'
        remedy = 'write the mask at the size of its frame'
        raise ClipDataError.at(where, problem, remedy)


def no_masks(size: FrameSize) -> FrameMasks:
    """A frame on which nothing is seen.

    Args:
        size: Height and width.

    Returns:
        The record, without objects.
    """
    return FrameMasks(object_ids=(), masks=np.zeros((0, *size), bool))
