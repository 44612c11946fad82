"""Whole videos for validation: sources, ground truth and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from .prompts import PromptMark
from .tracking import LOW_RES_STRIDE, FrameOutput

VOID_LABEL = 255  # of pixels to be ignored, in label images of 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasks:
    """Ground truth masks of one frame, at the size of its file.

    Attributes:
        object_ids: Id of the object of each mask, as in the file.
        masks: (O, height, width), bool; they may overlap, and a mask may be empty.
        void: (height, width), bool, pixels to be ignored by loss and metric, or
            None where there are none.
    """

    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check that there is one mask per id."""
        if self.masks.ndim != 3 or len(self.object_ids) != len(self.masks):
            msg = (
                f'Expected one mask (height, width) for each of '
                f'{len(self.object_ids)} ids, but got masks {self.masks.shape}'
            )
            raise ValueError(msg)

    def select(self, object_ids: Sequence[int]) -> 'FrameMasks':
        """Select the masks of some objects."""
        rows = [self.object_ids.index(object_id) for object_id in object_ids]
        return replace(self, object_ids=tuple(object_ids), masks=self.masks[rows])


@runtime_checkable
class VideoSource(Protocol):
    """Reads frames and masks of one video; small, picklable, thread-safe."""

    @property
    def name(self) -> str:
        """Name of the video, as in the split's list."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

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
    """A video source that can decode the masks of single objects."""

    def seen_objects(self, frame_index: int) -> tuple[int, ...] | None:
        """Ids of the objects on a frame; None if unknown before decoding all masks."""

    def read_objects(
        self, frame_index: int, object_ids: tuple[int, ...]
    ) -> FrameMasks | None:
        """Decode the masks of some objects; None where the frame is not annotated."""


class VideoRecord(BaseDataElement):
    """One validation item: a video that is read on demand.

    Meta information:
        source: Reads the frames and the masks.
        sample_index: Position in the dataset, by which duplicates are dropped.
    """

    source: VideoSource
    sample_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRound:
    """A round of simulated prompts; the video is predicted again after each round.

    Attributes:
        name: Such as ``3_clicks`` or ``2_frames``; empty if there is one round only.
        is_final: Whether this is the last round.
    """

    name: str = ''
    is_final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrediction:
    """Predicted masks of one frame, with their prompts, for the accumulators.

    Attributes:
        frame_index: Position in the video.
        object_ids: Id of the object of each mask; all objects tracked so far.
        masks: (O, height, width), bool, at the size of the frame's file.
        truth: Ground truth of the frame, None where it is not annotated.
        outputs: Decoder outputs, one for each group of objects tracked in one batch,
            in the order of ``object_ids``.
        prompted_ids: Objects that were prompted on this frame.
        prompt_round: The round of prompts that this prediction follows.
        marks: Points and boxes of the prompts, in pixels of the file, if they are not
            in ``outputs``.
        low_res_stride: Pixels of the frame that the model saw, the unit of the points
            in ``outputs``, for each pixel of the masks there.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    truth: FrameMasks | None
    outputs: tuple[FrameOutput, ...] = ()
    prompted_ids: tuple[int, ...] = ()
    prompt_round: PromptRound = PromptRound()
    marks: tuple[PromptMark, ...] = ()
    low_res_stride: float = LOW_RES_STRIDE


@runtime_checkable
class RoundObserver(Protocol):
    """An accumulator of the predictions of all rounds, not only of the final one."""

    def add_round(self, prediction: FramePrediction) -> None:
        """Add a prediction; those of one round come in ascending order of frames."""


class VideoResult(BaseDataElement):
    """Result of predicting a video: scalars, and masks as RLE.

    ``sample_index`` and ``video_name`` are meta information. Each accumulator sets one
    of the other fields.
    """

    sample_index: int
    video_name: str
    scores: Any
    mosev2_scores: Any
    masklets: Any
    losses: Any
    rounds: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasklets:
    """Predicted masks of one frame.

    Attributes:
        frame_index: Position in the video.
        object_ids: Id of the object of each mask.
        encoded: Masks as COCO run-length encoding, at the size of the file.
        prompted_ids: Objects that were prompted on this frame.
        marks: Points and boxes of those prompts; none where a mask was given.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    encoded: tuple[Mapping[str, Any], ...]
    prompted_ids: tuple[int, ...] = ()
    marks: tuple[PromptMark, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one mask per id."""
        if len(self.object_ids) != len(self.encoded):
            msg = (
                f'Frame {self.frame_index}: expected one mask for each of '
                f'{len(self.object_ids)} ids, but got {len(self.encoded)}'
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masklets:
    """Predicted masks of frames of one video, ascending by frame."""

    frames: tuple[FrameMasklets, ...]
