"""A whole video that is read frame by frame, for validation and inference."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasks:
    """Ground truth of one frame at the size of its file.

    Attributes:
        object_ids: Ids of the objects, one for each mask, as in the file.
        masks: (O, height, width), bool; may overlap; may be empty of pixels.
        void: (height, width), bool, pixels to be ignored by loss and metric, or
            None where there are none.
    """

    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check that there is one mask for each id."""
        if self.masks.ndim != 3 or len(self.object_ids) != len(self.masks):
            msg = (
                f'Expected one mask (height, width) for each of '
                f'{len(self.object_ids)} ids, but got masks {self.masks.shape}'
            )
            raise ValueError(msg)


@runtime_checkable
class VideoSource(Protocol):
    """Reads frames and masks of one video; small, picklable, thread-safe."""

    @property
    def name(self) -> str:
        """Name of the video, as in the split's list."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file, for written masks."""

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame; None where it is not annotated."""

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""


@runtime_checkable
class ObjectSource(Protocol):
    """A video source that decodes the masks of chosen objects alone."""

    def seen_objects(self, frame_index: int) -> tuple[int, ...] | None:
        """Objects seen on a frame; None where only decoding all masks tells."""

    def read_objects(
        self, frame_index: int, object_ids: tuple[int, ...]
    ) -> FrameMasks | None:
        """Decode a mask for each of some objects; None where it is not annotated."""


class VideoRecord(BaseDataElement):
    """One validation item: a video to be read on demand.

    Attributes (meta information):
        source (VideoSource): Reads the frames and the masks.
        sample_index (int): Position in the dataset, by which doubles are dropped.
    """

    source: VideoSource
    sample_index: int
