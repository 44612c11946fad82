"""Videos made in memory, squares that move over noise, and their masklets."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from projects.sam2.ops import encode_masks
from projects.sam2.structures import FrameMasklets, FrameMasks, Masklets


@dataclass
class MemoryVideo:
    """A :class:`VideoSource` without files.

    Attributes:
        first_frames: For each object, ids from 1, the frame it appears on.
        length: Frames of the video.
        annotated: Frames with ground truth; None for all.
        size: Height and width.
        reads: Frames in the order in which they were decoded.
    """

    first_frames: tuple[int, ...] = (0, 0)
    length: int = 6
    annotated: tuple[int, ...] | None = None
    size: tuple[int, int] = (48, 80)
    name: str = 'squares'
    reads: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self.length

    def frame_name(self, frame_index: int) -> str:
        """Stem of a frame's file."""
        return f'{frame_index:05d}'

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Noise, the objects a little brighter."""
        self.reads.append(frame_index)
        self.threads.add(threading.get_ident())
        rng = np.random.default_rng(frame_index)
        frame = rng.integers(0, 120, (*self.size, 3), dtype=np.uint8)
        for number, mask in enumerate(self.masks(frame_index)):
            frame[mask] += np.uint8(60 + 30 * number)
        return frame

    def masks(self, frame_index: int) -> NDArray[np.bool_]:
        """Masks of all objects, (O, height, width)."""
        masks = np.zeros((len(self.first_frames), *self.size), dtype=bool)
        for number, first in enumerate(self.first_frames):
            if frame_index >= first:
                top, left = 4 + 16 * number, 3 + 2 * frame_index
                masks[number, top : top + 12, left : left + 14] = True
        return masks

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth of a frame."""
        if frame_index not in self.annotated_frames():
            return None
        ids = tuple(range(1, len(self.first_frames) + 1))
        return FrameMasks(object_ids=ids, masks=self.masks(frame_index))

    def annotated_frames(self) -> tuple[int, ...]:
        """Frames with ground truth."""
        return tuple(range(self.length)) if self.annotated is None else self.annotated


def true_masklets(video: MemoryVideo, frames: Sequence[int] = range(6)) -> Masklets:
    """The ground truth as masklets; all objects are prompted on frame 0."""
    ids = tuple(range(1, len(video.first_frames) + 1))
    return Masklets(
        frames=tuple(
            FrameMasklets(
                frame_index=index,
                object_ids=ids,
                encoded=tuple(encode_masks(video.masks(index))),
                prompted_ids=ids if index == 0 else (),
            )
            for index in frames
        )
    )
