"""What the model computes on a frame: features, decoded masks and memories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor
from typing_extensions import Self

from .prompts import PointPrompt

# Of SAM 2, in pixels of the frame; other models bring a stride of their own.
EMBEDDING_STRIDE = 16  # of the image embedding and of spatial memories
LOW_RES_STRIDE = 4  # of the masks that the decoder predicts
MASKS_PER_CELL = EMBEDDING_STRIDE // LOW_RES_STRIDE  # along a side, in every model

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
        stride: Pixels of the frame for each cell of ``embedding``, along a side.
    """

    embedding: Tensor
    position: Tensor
    high_res_8: Tensor | None
    high_res_4: Tensor | None
    stride: int = EMBEDDING_STRIDE

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
        return self.stride * height, self.stride * width

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


def low_res_size_at(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """H4 and W4, the size of the decoder's masks, for an image of a size.

    Args:
        image_size: Height and width in pixels.
        stride: Pixels for each cell of the image embedding, along a side.
    """
    height, width = (MASKS_PER_CELL * (side // stride) for side in image_size)
    return height, width


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
        candidate_pointers: Object pointers of all candidates, (O, M, C); only in
            evaluation, for a :class:`MemoryBank` that observes frames.
        chosen_ious: Estimated IoU of the chosen mask, (O, 1), where the memory bank
            chose it; None where it is the candidate with the highest.
    """

    candidate_logits: Tensor
    candidate_ious: Tensor
    mask_logits: Tensor
    object_pointer: Tensor
    object_score_logits: Tensor
    full_logits: Tensor | None = None
    points: PointPrompt | None = None
    candidate_pointers: Tensor | None = None
    chosen_ious: Tensor | None = None

    @property
    def ious(self) -> Tensor:
        """Estimated IoU of the chosen mask, (O, 1)."""
        if self.chosen_ious is not None:
            return self.chosen_ious
        return self.candidate_ious.amax(dim=1, keepdim=True)

    def select(self, rows: slice) -> 'DecoderStep':
        """The output for some of the objects."""

        def part(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return DecoderStep(
            candidate_logits=self.candidate_logits[rows],
            candidate_ious=self.candidate_ious[rows],
            mask_logits=self.mask_logits[rows],
            object_pointer=self.object_pointer[rows],
            object_score_logits=self.object_score_logits[rows],
            full_logits=part(self.full_logits),
            points=None if self.points is None else self.points.select(rows),
            candidate_pointers=part(self.candidate_pointers),
            chosen_ious=part(self.chosen_ious),
        )

    def choose(self, candidates: Sequence[int | None]) -> 'DecoderStep':
        """Choose the mask of each object among its candidates.

        Args:
            candidates: Index of the candidate, for each object; None leaves the choice
                of the decoder.

        Raises:
            ValueError: If the pointers of the candidates are not known.
        """
        if all(candidate is None for candidate in candidates):
            return self
        if self.candidate_pointers is None:
            msg = (
                'The memory policy chooses another mask than the decoder, but this '
                'model gives no pointer for it: an earlier version exported it; export '
                'it again'
            )
            raise ValueError(msg)
        device = self.candidate_ious.device
        given = torch.tensor([-1 if c is None else c for c in candidates])
        given = given.to(device, non_blocking=True)  # (O,)
        best = torch.where(given < 0, self.candidate_ious.argmax(dim=1), given)
        rows = torch.arange(len(best), device=device)
        return replace(
            self,
            mask_logits=self.candidate_logits[rows, best][:, None],
            object_pointer=self.candidate_pointers[rows, best],
            chosen_ious=self.candidate_ious[rows, best][:, None],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMemory:
    """The memory of a frame.

    Attributes:
        spatial: Memory encoder's features, (O, Cm, H16, W16); of EdgeTAM tokens,
            (O, N, Cm).
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
