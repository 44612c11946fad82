"""The record that passes through the transforms of a clip."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from projects.sam2.structures import FrameMasks, VideoSource


def identity_matrix() -> NDArray[np.float64]:
    """Geometry that changes nothing."""
    return np.eye(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipState:
    """A clip on its way from its files to a ``ClipSample``.

    Attributes:
        source: Reads the video.
        sample_index: Position in the dataset.
        seed: Of the clip's simulated clicks.
        epoch: The epoch that asks for the clip.
        rng: All random choices of the transforms come from it.
        frame_indices: Positions in the video of the T sampled frames.
        object_ids: The O sampled objects.
        hidden_ids: Those of them that the first frame does not show, on purpose.
        first_ids: All objects that the first sampled frame shows.
        first_masks: Masks of that frame, those of the sampled objects among them.
        frames: T frames (height, width, 3), RGB.
        masklets: Masks of each frame, O of them, or None where it is not annotated.
        original_size: Height and width of the files.
        size: Height and width after the geometry so far.
        is_multi_scale: The size was drawn from several: the clip may have another one
            than the model works at.
        matrix: (3, 3), or (T, 3, 3) where frames move differently, from
            ``(x, y, 1)`` of a file to the geometry so far; the centre of the first
            pixel is (0, 0).
        colors: (T, 3, 4), from ``(r, g, b, 1)`` of a file to the colours so far;
            None where they stay.
    """

    source: VideoSource
    sample_index: int
    seed: int
    rng: np.random.Generator
    epoch: int = 0
    frame_indices: tuple[int, ...] = ()
    object_ids: tuple[int, ...] = ()
    hidden_ids: tuple[int, ...] = ()
    first_ids: tuple[int, ...] = ()
    first_masks: FrameMasks | None = None
    frames: tuple[NDArray[np.uint8], ...] = ()
    masklets: tuple[FrameMasks | None, ...] = ()
    original_size: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    is_multi_scale: bool = False
    matrix: NDArray[np.float64] = field(default_factory=identity_matrix)
    colors: NDArray[np.float64] | None = None

    @property
    def num_frames(self) -> int:
        """Sampled frames."""
        return len(self.frame_indices)
