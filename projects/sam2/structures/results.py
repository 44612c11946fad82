"""What prediction hands on: masks frame by frame, and one result for each video."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from projects.sam2.structures.masklets import PromptMark
from projects.sam2.structures.tracking import FrameOutput
from projects.sam2.structures.video import FrameMasks


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRound:
    """How much was said about the objects so far, where that is told apart.

    Attributes:
        name: Such as ``3_clicks`` or ``2_frames``; empty where there is one round.
        is_final: No more will be said.
    """

    name: str = ''
    is_final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrediction:
    """Predicted masks of one frame, with all that an accumulator may want.

    Attributes:
        frame_index: Position in the video.
        object_ids: One for each mask, those tracked so far.
        masks: (O, height, width), bool, at the size of the frame's file.
        truth: Ground truth of the frame, None where it is not annotated.
        outputs: What the tracker decoded, one for each group of objects that are
            tracked in one batch, their objects in the order of ``object_ids``.
        prompted_ids: Objects that were prompted on this frame.
        prompt_round: Which of several answers this is.
        marks: Points and boxes of the prompts, in pixels of the file, where they are
            not to be read from ``outputs``.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    truth: FrameMasks | None
    outputs: tuple[FrameOutput, ...] = ()
    prompted_ids: tuple[int, ...] = ()
    prompt_round: PromptRound = PromptRound()
    marks: tuple[PromptMark, ...] = ()


@runtime_checkable
class RoundObserver(Protocol):
    """An accumulator that sees the answers of all rounds, not only the final one."""

    def add_round(self, prediction: FramePrediction) -> None:
        """Take an answer of any round; those of one round come in ascending order."""


class VideoResult(BaseDataElement):
    """What is left of a video after prediction: scalars, and RLE where asked for.

    ``sample_index`` and ``video_name`` are meta information; each accumulator
    adds one field of its own (``scores``, ``masklets``, ``losses``, ``rounds``).
    """

    sample_index: int
    video_name: str
    scores: Any
    masklets: Any
    losses: Any
    rounds: Any
