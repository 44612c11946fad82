"""What the image encoder gives for a batch of frames."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from torch import Tensor

from .clip import FrameMasks, PromptMark
from .prompts import PointPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """Features of frames at the three strides that the model reads.

    Attributes:
        embedding: Stride-16 features, (B, C, H16, W16).
        position: Sine position encoding of ``embedding``, (1, C, H16, W16).
        high_res_8: Stride-8 features, projected for the decoder,
            (B, C / 4, H8, W8).
        high_res_4: Stride-4 features, projected for the decoder,
            (B, C / 8, H4, W4).
    """

    embedding: Tensor
    position: Tensor
    high_res_8: Tensor
    high_res_4: Tensor

    def select(self, index: Tensor) -> 'ImageFeatures':
        """Take frames by position, repetitions allowed.

        Args:
            index: Positions along B, (O,), int64.

        Returns:
            Features with ``O`` in place of ``B``.
        """
        return ImageFeatures(
            embedding=self.embedding[index],
            position=self.position,
            high_res_8=self.high_res_8[index],
            high_res_4=self.high_res_4[index],
        )

    def repeated(self, num_objects: int) -> 'ImageFeatures':
        """Repeat the features of a single frame for each object, (O, ...)."""
        if num_objects == 1:
            return self
        index = torch.zeros(
            num_objects, dtype=torch.int64, device=self.embedding.device
        )
        return self.select(index)


class TrackingMode(Enum):
    """Which of the paper's two behaviours a pass of the tracker follows.

    Evaluation alone looks at pointers of the past only, takes memories at a stride,
    selects masks by stability and binarises the masks of clicks.
    """

    TRAINING = 'training'
    EVALUATION = 'evaluation'


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderStep:
    """One answer of the mask decoder for the objects of a frame.

    Attributes:
        candidate_logits: All masks it proposes, (O, M, H4, W4), in float32 at least;
            an object judged absent has ``NO_OBJECT_LOGIT`` everywhere, unless the
            tracker does not gate training masks.
        candidate_ious: Its estimate of their IoU, (O, M), in [0, 1].
        mask_logits: The chosen mask, (O, 1, H4, W4).
        object_pointer: Token that stands for the object, (O, C).
        object_score_logits: Is the object in the frame?, (O, 1).
        full_logits: (O, 1, H, W) where the masks were not decoded but given (a mask
            prompt); None where they are ``candidate_logits`` up-sampled.
        points: All points that led to this answer, or None.
    """

    candidate_logits: Tensor
    candidate_ious: Tensor
    mask_logits: Tensor
    object_pointer: Tensor
    object_score_logits: Tensor
    full_logits: Tensor | None = None
    points: PointPrompt | None = None

    @property
    def ious(self) -> Tensor:
        """Estimated IoU of the chosen mask, (O, 1)."""
        return self.candidate_ious.amax(dim=1, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMemory:
    """The memory of a frame.

    Attributes:
        spatial: Memory encoder's features, (O, Cm, H16, W16).
        object_pointer: (O, C).
        ious: Estimated IoU of the mask, (O, 1), in [0, 1]; for policies that select by
            quality (:class:`MemoryBank`).
        object_score_logits: Is the object in the frame?, (O, 1); likewise.
    """

    spatial: Tensor
    object_pointer: Tensor
    ious: Tensor
    object_score_logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOutput:
    """All that was decoded on a frame.

    Attributes:
        frame_index: Position in the clip or video.
        steps: The first answer, then one for each correction click.
    """

    frame_index: int
    steps: tuple[DecoderStep, ...]

    @property
    def final(self) -> DecoderStep:
        """The answer after all corrections."""
        return self.steps[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame(FrameOutput):
    """What was decoded on a frame that others may attend to.

    Attributes:
        memory: What the memory bank keeps.
    """

    memory: FrameMemory


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
