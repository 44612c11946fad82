"""Masklets of videos made in memory, to be drawn."""

from collections.abc import Sequence

from memory_videos import MemoryVideo
from projects.sam2.ops import encode_masks
from projects.sam2.structures import FrameMasklets, Masklets


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
