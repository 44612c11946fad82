"""What the model computes on a frame: features, decoded masks and memories."""

from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor
from typing_extensions import Self

from .prompts import PointPrompt

EMBEDDING_STRIDE = 16  # of the image embedding and of spatial memories
LOW_RES_STRIDE = 4  # of the masks that the decoder predicts

# Projected features of strides 8 and 4; None where the mask decoder takes none.
HighRes = tuple[Tensor, Tensor] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """Image features at the strides that tracker and mask decoder read.

    Attributes:
        embedding: Stride-16 features, (B, C, H16, W16).
        position: Sine position encoding of ``embedding``, (1, C, H16, W16).
        high_res_8: Stride-8 features, projected for the decoder,
            (B, C / 4, H8, W8); None where it takes none.
        high_res_4: Stride-4 features, projected for the decoder,
            (B, C / 8, H4, W4); None likewise.
    """

    embedding: Tensor
    position: Tensor
    high_res_8: Tensor | None
    high_res_4: Tensor | None

    @property
    def high_res(self) -> HighRes:
        """Features of strides 8 and 4 for the mask decoder, if it takes any."""
        if self.high_res_8 is None or self.high_res_4 is None:
            return None
        return self.high_res_8, self.high_res_4

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frame that the model sees, in pixels."""
        height, width = self.embedding.shape[-2:]
        return EMBEDDING_STRIDE * height, EMBEDDING_STRIDE * width

    def select(self, index: Tensor) -> Self:
        """Select the frame of each object.

        Args:
            index: Indices into B, (O,), int64, which may repeat.

        Returns:
            Features with ``O`` in place of ``B``.
        """
        high_res_8, high_res_4 = select_high_res(self.high_res, index) or (None, None)
        return replace(
            self,
            embedding=self.embedding[index],  # (O, C, H16, W16)
            high_res_8=high_res_8,
            high_res_4=high_res_4,
        )

    def repeated(self, num_objects: int) -> Self:
        """Repeat the features of a single frame for each object, (O, ...)."""
        if num_objects == 1:
            return self
        device = self.embedding.device
        return self.select(torch.zeros(num_objects, dtype=torch.int64, device=device))


def select_high_res(high_res: HighRes, rows: Tensor | slice) -> HighRes:
    """Select rows of features of high resolution, if there are any."""
    return high_res and (high_res[0][rows], high_res[1][rows])


class TrackingMode(Enum):
    """Whether the tracker works as in training or as in evaluation.

    Only evaluation restricts object pointers to past frames, takes memories at a
    stride, selects masks by stability and binarises clicked masks before encoding.
    """

    TRAINING = 'training'
    EVALUATION = 'evaluation'


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderStep:
    """Output of the mask decoder for the objects of a frame, after one prompt.

    Attributes:
        candidate_logits: All candidate masks, (O, M, H4, W4), in float32 at least. An
            object predicted absent has ``NO_OBJECT_LOGIT`` everywhere, unless the
            tracker does not gate training masks.
        candidate_ious: Their estimated IoU, (O, M), in [0, 1].
        mask_logits: The chosen mask, (O, 1, H4, W4).
        object_pointer: (O, C).
        object_score_logits: Whether the object is in the frame, (O, 1).
        full_logits: The given mask of a mask prompt, (O, 1, H, W); None if masks were
            decoded, whose ``candidate_logits`` are up-sampled instead.
        points: All points given on the frame so far, or None.
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
        ious: Estimated IoU of the mask, (O, 1), in [0, 1]; for a :class:`MemoryBank`
            that selects by quality.
        object_score_logits: Whether the object is in the frame, (O, 1); likewise.
    """

    spatial: Tensor
    object_pointer: Tensor
    ious: Tensor
    object_score_logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOutput:
    """Outputs of the mask decoder on a frame.

    Attributes:
        frame_index: Position in the clip or video.
        steps: The output after the first prompt, then after each correction click.
    """

    frame_index: int
    steps: tuple[DecoderStep, ...]

    @property
    def final(self) -> DecoderStep:
        """The output after all corrections."""
        return self.steps[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame(FrameOutput):
    """Outputs on a frame, and its memory, to which other frames may attend."""

    memory: FrameMemory
