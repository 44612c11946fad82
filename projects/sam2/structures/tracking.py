"""What the tracker makes of a frame and what it remembers of it."""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from projects.sam2.structures.prompts import PointPrompt


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMemory:
    """What is remembered of a frame.

    Attributes:
        spatial: Memory encoder's features, (O, Cm, H16, W16).
        object_pointer: (O, C).
    """

    spatial: Tensor
    object_pointer: Tensor


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
class RememberedFrame(FrameOutput):
    """What was decoded on a frame that others may attend to.

    Attributes:
        memory: What the memory bank keeps.
    """

    memory: FrameMemory
